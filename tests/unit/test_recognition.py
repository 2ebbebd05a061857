import pytest
import torch

from resnext import build, name, spec
from resnext.catalog import CATALOG
from resnext.model.recognition import recognised, resembled


@pytest.mark.parametrize("identifier", [entry.identifier for entry in CATALOG])
def test_every_network_of_the_catalogue_is_known_by_its_shapes(identifier):
    assert recognised(build(identifier, device="meta").state_dict()) == spec(identifier)


@pytest.mark.parametrize(
    "text", ["ResNeXt-50 (4x16d, 7 classes)", "resnext20_2x8d_100classes_1channel", "WRN-16-4"]
)
def test_so_are_others(text):
    state = dict(build(text, device="meta").state_dict())
    assert recognised(state) == spec(text)
    older = {key: t for key, t in state.items() if not key.endswith("num_batches_tracked")}
    assert recognised(older) == spec(text)


def test_what_fits_nothing_resembles_something():
    state = dict(build("resnext50_32x4d", device="meta").state_dict())
    state["layer2.0.conv1.weight"] = torch.empty(3, 3)
    assert recognised(state) is None
    found = resembled(state)
    assert found is not None
    assert name(found) == "ResNeXt-50 (32×4d)"


@pytest.mark.parametrize("state", [{}, {"fc.weight": torch.zeros(3)}, {"a": torch.zeros(())}])
def test_what_is_no_residual_network_resembles_none(state):
    assert resembled(state) is None
