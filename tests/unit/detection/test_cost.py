import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from resnext import build, spec
from resnext.detection.cost import detection_cost
from resnext.detection.method import method
from resnext.detection.networks import assemble
from unit.detection.conftest import PIXELS, TINY, tiny_method


def counted(run):
    """Multiply-adds, counted by torch."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("paper", {"shared": True, "crop_side": 14}),
        ("small", {"conv5_stride": 1}),
        ("modern-fpn", {"box_hidden": 64}),
    ],
)
@pytest.mark.parametrize("network", [TINY, "ResNeXt-50 (32x4d)", "ResNet-18"], ids=str)
def test_costs_are_what_torch_counts(network, name, changes):
    wanted = tiny_method(name, **changes)
    with torch.device("meta"):
        detector = assemble([build(network, device="meta")], wanted, PIXELS, 5)
        images = torch.empty(1, 3, 96, 160)
        crops = torch.empty(1, detector.backbone.out_channels, wanted.crop_side, wanted.crop_side)
        found = detection_cost(spec(network), wanted, 5, (90, 150))
        heads = detector.roi_heads
        assert found.features == counted(lambda: detector.backbone(images))
        maps = list(detector.backbone(images).values())
        assert found.proposing == counted(lambda: detector.rpn.head(maps))
        assert found.region == counted(lambda: heads.box_predictor(heads.box_head(crops)))
    assert found.total == found.features + found.proposing + 40 * found.region


def test_two_networks_have_two_trunks_and_published_sizes_come_out():
    found = detection_cost(spec("ResNet-50"), method("paper"), 80)
    joint = method("paper").model_copy(update={"shared": True})
    once = detection_cost(spec("ResNet-50"), joint, 80)
    assert found.features == 2 * once.features
    assert once.features / 1e9 == pytest.approx(31, abs=1)
    assert once.region / 1e9 == pytest.approx(0.81, abs=0.01)
