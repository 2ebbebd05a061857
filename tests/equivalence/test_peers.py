"""torchvision's and timm's networks: the same keys, shapes and numbers, weights both ways."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resnext import build, complexity, compose, spec
from resnext.families import DEEP_STEM, imagenet

timm = pytest.importorskip("timm")
models = pytest.importorskip("torchvision.models")

TORCHVISION = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "resnext50_32x4d": "resnext50_32x4d",
    "resnext101_32x8d": "resnext101_32x8d",
    "resnext101_64x4d": "resnext101_64x4d",
    "wide_resnet50_2": "wide_resnet50_2",
    "wide_resnet101_2": "wide_resnet101_2",
}
TIMM = {**TORCHVISION, "resnext101_32x4d": "resnext101_32x4d", "resnet200": "resnet200"}
PEERS = [
    pytest.param("torchvision", *pair, id=f"torchvision-{pair[0]}") for pair in TORCHVISION.items()
]
PEERS += [pytest.param("timm", *pair, id=f"timm-{pair[0]}") for pair in TIMM.items()]
TRAINED = {"resnet18", "resnext50_32x4d", "wide_resnet50_2"}


def peer_model(library: str, name: str) -> nn.Module:
    if library == "torchvision":
        return models.get_model(name, weights=None)
    return timm.create_model(name, pretrained=False)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize(("library", "theirs", "ours"), PEERS)
def test_keys_and_shapes_are_theirs(library: str, theirs: str, ours: str):
    with torch.device("meta"):
        peer = peer_model(library, theirs)
    model = build(ours, device="meta")
    assert shapes(model) == shapes(peer)
    assert complexity(model.spec).parameters == sum(p.numel() for p in peer.parameters())


def published_multiply_adds() -> dict[str, tuple[int, float]]:
    """num_params and GFLOPS that torchvision ships with its weights."""
    found = {}
    for name in TORCHVISION:
        weights = next(iter(models.get_model_weights(name)))
        found[name] = (weights.meta["num_params"], weights.meta["_ops"])
    return found


def test_costs_are_those_that_torchvision_publishes():
    for name, (parameters, giga) in published_multiply_adds().items():
        cost = complexity(spec(name))
        assert cost.parameters == parameters
        assert round(cost.multiply_adds / 1e9, 3) == giga


def step(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Logits, gradients and buffers of one training step."""
    logits = model.train()(images)
    nn.functional.cross_entropy(logits, torch.arange(len(images))).backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), gradients, dict(model.named_buffers())


@pytest.mark.parametrize(("library", "theirs", "ours"), PEERS)
def test_logits_are_theirs_with_weights_either_way(library: str, theirs: str, ours: str):
    with torch.device("meta"):  # their initial weights, and our second ones, are never looked at
        peer = peer_model(library, theirs).eval()
        other = build(ours).eval()
    model = build(ours, seed=0).eval()
    images = torch.randn(2, 3, 64, 64)
    # The same operations in the same order on the same machine: measured bit-equal.
    with torch.no_grad():
        expected = model(images)
        peer.load_state_dict(model.state_dict(), strict=True, assign=True)
        torch.testing.assert_close(peer(images), expected, rtol=0, atol=0)
        other.load_state_dict(peer.state_dict(), strict=True, assign=True)
        torch.testing.assert_close(other(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("library", "theirs", "ours"), [peer for peer in PEERS if peer.values[1] in TRAINED]
)
def test_a_training_step_is_theirs(library: str, theirs: str, ours: str):
    peer = peer_model(library, theirs).double()
    model = build(ours, seed=0, dtype=torch.float64)
    peer.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for found, expected in zip(step(model, images), step(peer, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("groups", "width", "blocks"), [(1, 64, 1), (3, 7, 2), (16, 4, 1)])
def test_any_template_is_torchvision_s(groups: int, width: int, blocks: int):
    layers = [blocks, 1, 1, 1]
    peer = models.ResNet(
        models.resnet.Bottleneck, layers, groups=groups, width_per_group=width, num_classes=9
    ).eval()
    model = build(compose(layers, f"{groups}x{width}d", classes=9)).eval()
    model.load_state_dict(peer.state_dict(), strict=True)
    images = torch.randn(1, 3, 65, 47)
    torch.testing.assert_close(model(images), peer(images), rtol=0, atol=0)


def test_a_deep_stem_has_timm_s_names():
    peer = timm.models.resnet.ResNet(
        timm.models.resnet.Bottleneck, (1, 1, 1, 1), cardinality=8, base_width=4,
        stem_type="deep", stem_width=32, num_classes=5,
    ).eval()  # fmt: skip
    model = build(compose((1, 1, 1, 1), "8x4d", stem=DEEP_STEM, classes=5)).eval()
    model.load_state_dict(peer.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model(images), peer(images), rtol=0, atol=0)


@pytest.mark.parametrize("initialization", ["reference", "torchvision"])
def test_initial_weights_have_torchvision_s_deviations(initialization: str):
    torch.manual_seed(0)
    peer = models.resnext50_32x4d(weights=None)
    model = build("resnext50_32x4d", initialization=initialization, seed=0)  # type: ignore[arg-type]
    theirs = dict(peer.named_parameters())
    for key, ours in model.named_parameters():
        if ours.ndim == 4:
            ratio = float(ours.detach().std() / theirs[key].detach().std())
            assert abs(ratio - 1) < 5 / np.sqrt(ours.numel()), key


@pytest.mark.parametrize(
    ("network", "side", "strides"),
    [
        ("resnext50_32x4d", 64, {"conv2": 4, "conv3": 8, "conv4": 16, "conv5": 32}),
        ("preact_resnet50", 64, {"conv2": 4, "conv3": 8, "conv4": 16, "conv5": 32}),
        ("resnext29_2x8d", 32, {"conv2": 1, "conv3": 2, "conv4": 4}),
    ],
)
def test_features_are_maps_at_the_paper_s_strides(network: str, side: int, strides: dict[str, int]):
    model = build(network, seed=0).eval()
    images = torch.randn(2, 3, side, side)
    maps = model.features(images)
    assert {key: side // tensor.shape[-1] for key, tensor in maps.items()} == strides
    channels = [stage.out_channels for stage in model.spec.stages]
    assert [tensor.shape[1] for tensor in maps.values()] == channels
    *_, last = maps.values()
    torch.testing.assert_close(model.fc(last.mean((2, 3))), model(images))
    assert float(last.detach().min()) >= 0


def test_features_are_torchvision_s():
    from torchvision.models.feature_extraction import create_feature_extractor

    peer = models.resnet18(weights=None).eval()
    model = build("resnet18").eval()
    model.load_state_dict(peer.state_dict())
    images = torch.randn(1, 3, 64, 64)
    nodes = {f"layer{i}": f"conv{i + 1}" for i in range(1, 5)}
    expected = create_feature_extractor(peer, nodes)(images)
    torch.testing.assert_close(model.features(images), dict(expected), rtol=0, atol=0)


def test_classes_and_channels_are_arguments():
    model = build("resnet18", classes=7, in_channels=1)
    assert model.spec == imagenet(18, classes=7, in_channels=1)
    assert model(torch.randn(2, 1, 33, 47)).shape == (2, 7)
