"""Our networks behind timm's functions: its weights, our numbers."""

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from resnext import CATALOG, build, spec
from resnext.errors import NotationError
from resnext.model.timm_adapter import register_with_timm

timm = pytest.importorskip("timm")

KINDS = ["resnet18", "preact_resnet18", "resnet18_shortcuta", "resnext11_4x8d", "wrn10_1"]


def create(network: str, **options: object) -> nn.Module:
    (name,) = register_with_timm([network])
    return timm.create_model(name, **options)


def images(*, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def moved(model: nn.Module) -> nn.Module:
    """No normalisation left at its start, where scale, shift and statistics go unnoticed."""
    generator = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    return model.eval()


def test_weights_of_timm_give_timm_s_logits():
    theirs = moved(timm.create_model("resnext50_32x4d", pretrained=False))
    ours = create("resnext50_32x4d").eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(images()), theirs(images()), rtol=0, atol=0)


@pytest.mark.parametrize("network", KINDS)
def test_logits_and_maps_are_those_of_build(network: str):
    ours = moved(build(network, seed=0))
    adapted = create(network).eval()
    adapted.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(adapted(images()), ours(images()), rtol=0, atol=0)
    maps = create(network, features_only=True).eval()
    maps.load_state_dict(ours.state_dict(), strict=False)
    stem, *stages = maps(images())
    for found, expected in zip(stages, ours.features(images()).values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    sizes = [(found.shape[1], 64 // found.shape[2]) for found in (stem, *stages)]
    info = maps.feature_info
    assert list(zip(info.channels(), info.reduction(), strict=True)) == sizes


@pytest.mark.parametrize(
    ("network", "side", "last", "crop"),
    [("resnext50_32x4d_5000classes", 224, 7, 0.875), ("wrn28_10", 32, 8, 1.0)],
)
def test_facts_follow_from_the_specification(network: str, side: int, last: int, crop: float):
    facts = create(network, device="meta").default_cfg
    assert facts["num_classes"] == spec(network).classes
    assert facts["input_size"] == (3, side, side)
    assert facts["pool_size"] == (last, last)
    assert facts["crop_pct"] == crop


def test_weights_begin_as_those_of_build():
    torch.manual_seed(0)
    drawn = create("resnet18").state_dict()
    expected = build("resnet18", seed=0).state_dict()
    assert drawn.keys() == expected.keys()
    for key in drawn.keys() - {"fc.weight"}:
        torch.testing.assert_close(drawn[key], expected[key], rtol=0, atol=0)
    assert drawn["fc.weight"].std().item() == pytest.approx(
        expected["fc.weight"].std().item(), rel=0.01
    )


def test_a_checkpoint_of_ours_loads_by_timm_s_ways(tmp_path):
    ours = moved(build("resnext11_4x8d"))
    save_file(ours.state_dict(), tmp_path / "weights.safetensors")
    overlay = {"file": str(tmp_path / "weights.safetensors")}
    tuned = create(
        "resnext11_4x8d", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=4
    ).eval()
    expected = ours.features(images())["conv4"]
    torch.testing.assert_close(tuned.forward_features(images()), expected, rtol=0, atol=0)
    assert tuned(images()).shape == (2, 4)


def test_a_new_classifier_leaves_the_rest_as_it_is():
    model = create("resnext11_4x8d", dtype=torch.float64).eval().requires_grad_(False)
    model.reset_classifier(7, "catavgmax")
    assert model(images().double()).shape == (2, 7)
    assert model.fc.weight.dtype == torch.float64
    assert not any(module.training for module in model.modules())
    trainable = {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert trainable == {"fc.weight", "fc.bias"}
    model.train()
    model.layer1.eval()
    model.reset_classifier(5)
    assert (model.layer1.training, model.fc.training) == (False, True)
    assert model.fc.in_features == 2 * model.num_features
    model.reset_classifier(0, "")
    assert model(images().double()).shape == (2, 1024, 16, 16)


def test_options_of_timm_reach_the_network():
    model = create("resnext11_4x8d", in_chans=1, num_classes=3, drop_rate=0.5, device="meta")
    assert model(torch.empty(2, 1, 32, 32, device="meta")).shape == (2, 3)
    assert model.drop.p == 0.5
    with torch.device("meta"):
        assert {tensor.device.type for tensor in create("resnet18").parameters()} == {"meta"}
    with pytest.raises(TypeError, match="widening"):
        create("resnext11_4x8d", widening=2)


def test_the_catalogue_is_the_default_and_known_once():
    names = register_with_timm()
    assert names == tuple(f"paper_{entry.identifier}" for entry in CATALOG)
    assert set(names) <= set(timm.list_models("paper_*"))
    assert register_with_timm(["ResNeXt-50 (32×4d)"]) == ("paper_resnext50_32x4d",)


def test_no_name_is_one_of_timm_s():
    others = set(timm.list_models()) - set(timm.list_models(module="timm_adapter"))
    assert not [name for name in others if name.startswith("paper_")]


def test_an_unknown_network_is_refused():
    with pytest.raises(NotationError, match="resnoxt"):
        register_with_timm(["resnoxt50"])
