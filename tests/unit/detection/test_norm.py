import pytest
import torch
from torch import nn

from resnext import build
from resnext.detection.norm import FrozenNorm, fold_norms, freeze_norms, recalibrate_bn
from resnext.errors import SpecError, UsageError
from unit.detection.conftest import TINY, pictures, target, tiny_detector


def with_statistics(seed=0):
    network = build(TINY, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
            tensor.uniform_(0.5, 2, generator=generator)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.5, generator=generator)
    return network.eval()


def test_frozen_norm_keeps_the_type_that_autocast_gives():
    x = torch.randn(2, 4, 3, 3, dtype=torch.bfloat16)
    assert FrozenNorm.of(nn.BatchNorm2d(4))(x).dtype == torch.bfloat16


def test_a_frozen_network_computes_the_same_and_takes_the_weights_as_they_are():
    network = with_statistics()
    x = torch.rand(2, 3, 64, 64)
    before = network(x)
    state = network.state_dict()
    frozen = freeze_norms(network)
    # measured: 5.7e-7
    torch.testing.assert_close(frozen.train()(x), before, rtol=0, atol=6e-6)
    freeze_norms(build(TINY, seed=1)).load_state_dict(state, strict=True)


def test_recalibration_takes_the_mean_over_the_batches():
    norm = nn.Sequential(nn.BatchNorm2d(3))
    norm(torch.randn(4, 3, 5, 5) + 9)  # what it knew before does not count
    batches = [torch.randn(4, 3, 5, 5) * k + k for k in (1.0, 2.0, 3.0)]
    assert recalibrate_bn(norm.eval(), batches) == 3
    means = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in batches]).mean(0)
    torch.testing.assert_close(norm[0].running_mean, means)
    torch.testing.assert_close(norm[0].running_var, variances)
    assert not norm.training
    assert norm[0].momentum == 0.1


def test_recalibration_needs_something_to_do():
    with pytest.raises(UsageError, match="found none or frozen ones"):
        recalibrate_bn(freeze_norms(build(TINY, seed=0)), [])
    with pytest.raises(UsageError, match="expected images"):
        recalibrate_bn(build(TINY, seed=0), [])


@pytest.mark.parametrize(
    "network", [TINY, "ResNet-18", "ResNet-20 (pre-activation, CIFAR)"], ids=str
)
def test_folding_is_exact_but_for_rounding(network):
    if isinstance(network, str) and "pre" in network:
        pytest.importorskip("resnext")
        from resnext import compose

        network = compose((1, 1, 1, 1), "4x8d", out_channels=32, preactivation=True)
    model = freeze_norms(build(network, seed=0)).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
        fold_norms(model)
        # measured: 4.2e-7 of values up to 0.8
        torch.testing.assert_close(model(x), before, rtol=0, atol=5e-6)
    frozen = [m for m in model.modules() if isinstance(m, FrozenNorm)]
    assert bool(frozen) == model.spec.preactivation


def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves():
    detector = tiny_detector().train()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    learning = [p for p in detector.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        detector.train()
        losses = detector(pictures((60, 90)), [target((1, 10, 10, 60, 50))])
        sum(losses.values()).backward()
        optimizer.step()
    moved = {n for n, t in detector.state_dict().items() if not torch.equal(t, before[n])}
    still = before.keys() - moved
    assert all(
        ".bn" in n or "downsample.1" in n or "conv1.weight" in n or "layer1" in n for n in still
    )
    assert not any("backbone.conv1" in n or "backbone.layer1" in n or ".bn" in n for n in moved)
    assert {"backbone.layer2.0.conv1.weight", "roi_heads.box_head.layer4.0.conv2.weight"} <= moved


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("ResNeXt-29 (8x64d, CIFAR)", r"stages at strides \(4, 8, 16, 32\), found .* \(1, 2, 4\)"),
    ],
)
def test_networks_without_the_four_stages_are_refused(network, said):
    from resnext.detection.networks import assemble
    from unit.detection.conftest import PIXELS, tiny_method

    with pytest.raises(SpecError, match=said):
        assemble([build(network, device="meta")], tiny_method("small"), PIXELS, 3)


def test_boxes_stay_in_float32_under_autocast():
    """Torchvision's parts would round them to bf16: 1001 becomes 1000."""
    detector = tiny_detector().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (found,) = detector(pictures((100, 150)))
        maps = detector.backbone(torch.rand(1, 3, 64, 64))
    assert found["boxes"].dtype == found["scores"].dtype == maps["c4"].dtype == torch.float32
    assert len(found["scores"].unique()) > 0.9 * len(found["scores"])
    rounded = found["boxes"].bfloat16().float()
    assert (rounded != found["boxes"]).float().mean() > 0.5


def test_c4_masks_share_conv5_with_the_boxes():
    detector = tiny_detector("small", masks=True)
    names = [n for n in detector.state_dict() if "layer4" in n and n.endswith("conv1.weight")]
    assert names == ["roi_heads.box_head.layer4.0.conv1.weight"]
    images = pictures((60, 90))
    goal = target((1, 10, 10, 60, 50))
    goal["masks"] = torch.zeros(1, 60, 90, dtype=torch.uint8)
    goal["masks"][0, 10:50, 10:60] = 1
    losses = detector.train()(images, [goal])
    assert float(losses["loss_mask"].detach()) == pytest.approx(0.693, abs=0.2)
    with torch.no_grad():
        (found,) = detector.eval()(images)
    assert found["masks"].shape == (len(found["boxes"]), 1, 60, 90)


def test_a_batch_of_two_is_the_single_ones_where_nothing_is_padded():
    detector = tiny_detector().eval()
    images = pictures((100, 150), (100, 150))
    with torch.no_grad():
        both, single = detector(images), [detector([image])[0] for image in images]
    for a, b in zip(both, single, strict=True):
        # measured: 3.8e-6 pixels; nothing is padded here
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=0, atol=4e-5)
