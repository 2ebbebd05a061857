import pytest
import torch

from resnext.deploy.folding import folded
from unit.deploy.networks import answers, images, settled

NETWORKS = (
    "ResNeXt-11 (2x4d, CIFAR, 4 classes)",
    "resnet18_4classes",
    "preact_resnet50_4classes",
    "resnet18_shortcuta_4classes",
    "resnext50_32x4d_noshortcut_4classes",
)


@pytest.mark.parametrize("network", NETWORKS)
def test_folding_keeps_the_function(network):
    # In float64 the two differ by rounding alone: measured at most 5.3e-15 of the largest logit
    # (preact_resnet50, of three seeds); ten times that is allowed.
    model = settled(network).double()
    batch = images(2, 64).double()
    before = answers(model, batch)
    after = answers(folded(model), batch)
    torch.testing.assert_close(after, before, rtol=0, atol=float(5.3e-14 * before.abs().max()))


@pytest.mark.parametrize("network", NETWORKS)
def test_what_can_be_folded_is(network):
    model = settled(network)
    norms = [
        name for name, m in folded(model).named_modules() if isinstance(m, torch.nn.BatchNorm2d)
    ]
    if network.startswith("preact"):  # those in front of a block and the last one see a sum
        assert norms
        assert all(name == "norm" or name.endswith("bn1") for name in norms)
    else:
        assert norms == []


def test_weights_are_rounded_once():
    model = settled(NETWORKS[0])
    conv, norm = model.layer1[0].conv2, model.layer1[0].bn2
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    wanted = (conv.weight.double() * scale[:, None, None, None]).float()
    found = folded(model).layer1[0].conv2
    torch.testing.assert_close(found.weight.data, wanted.data, rtol=0, atol=0)
    shift = norm.bias.double() - norm.running_mean.double() * scale
    torch.testing.assert_close(found.bias.data, shift.float().data, rtol=0, atol=0)


def test_the_model_stays_as_it_was():
    model = settled(NETWORKS[0])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded(model)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
