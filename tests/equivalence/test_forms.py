"""The paper's central claim: forms (a), (b), (c) are one function (Fig. 3, footnote 3)."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnext import build, compose, convert, spec
from resnext.errors import SpecError
from resnext.model.convert import state_in_form
from resnext.model.forms import FORMS, Form, residual
from resnext.model.network import ResNeXt
from resnext.spec import BASIC, Block, Paths

NETWORKS = {
    "resnext50_32x4d": 64,
    "resnext29_4x8d": 16,
    "preact_resnext29_4x8d": 16,
    "resnext18_4x16d": 32,
    "preact_resnext18_4x16d": 32,
    "wrn10_1": 16,
    "resnext11_2x8d_noshortcut": 16,
    "resnext20_2x8d_shortcuta": 16,
    "resnext20_2x8d_shortcutc": 16,
    "preact_resnext11_2x8d_noshortcut": 16,
}
LONG = compose((2, 1), "3x4d", kernels=(1, 3, 3, 1), out_channels=16)
LONG_PRE = compose((2, 1), "3x4d", kernels=(1, 3, 3, 1), out_channels=16, preactivation=True)
ALL = [pytest.param(spec(name), side, id=name) for name, side in NETWORKS.items()] + [
    pytest.param(LONG, 32, id="long"),
    pytest.param(LONG_PRE, 32, id="long, pre-activation"),
]

# Largest difference between forms relative to the largest value, over outputs, gradients of
# inputs and weights and running statistics; measured on a CPU with one thread over these networks
# in train and eval mode: 1.8e-13 (ResNeXt-50, train; all others below 9e-14). It comes from the
# order of the sum over paths: (b) is bit-equal to (c) in the forward pass.
FLOAT64_TOLERANCE = 1e-12
# Outputs alone, evaluation mode: 4.5e-7. Gradients jump where rounding flips a ReLU.
FLOAT32_TOLERANCE = 5e-6


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Scales, shifts and running statistics as after training, so that slips of them show."""
    generator = torch.Generator().manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(norm.bias, 0.0, 0.2, generator=generator)
            norm.running_mean.normal_(0.0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
            norm.num_batches_tracked.fill_(7)


def measure(model: ResNeXt, images: Tensor) -> dict[str, Tensor]:
    """Output, gradients and statistics of one step, under the names of the grouped form."""
    images = images.clone().requires_grad_()
    output = model(images)
    nn.functional.cross_entropy(output, torch.arange(len(images))).backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    assert images.grad is not None
    return {
        "output": output.detach(),
        "input gradient": images.grad,
        **state_in_form(gradients, model.spec, model.form, "grouped"),  # type: ignore[arg-type]
        **state_in_form(dict(model.named_buffers()), model.spec, model.form, "grouped"),
    }


def assert_near(found: Tensor, expected: Tensor, what: str, tolerance: float) -> None:
    scale = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    torch.testing.assert_close(
        found.double() / scale,
        expected.double() / scale,
        rtol=0,
        atol=tolerance if expected.is_floating_point() else 0,
        msg=lambda text: f"{what}: {text}",
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("network", "side"), ALL)
def test_three_forms_are_one_function(network, side: int, mode: str):
    grouped = build(network, seed=1, dtype=torch.float64)
    randomise(grouped)
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(4, 3, side, side, dtype=torch.float64, generator=generator)
    models = {form: convert(grouped, form).train(mode == "train") for form in FORMS}
    expected = measure(models["grouped"], images)
    for form in ("concat", "split"):
        found = measure(models[form], images)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert_near(found[key], tensor, f"{form} {key}", FLOAT64_TOLERANCE)


@pytest.mark.parametrize(("network", "side"), ALL[1:])
def test_three_forms_agree_in_float32(network, side: int):
    grouped = build(network, seed=1).eval()
    randomise(grouped)
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = grouped(images)
        for form in ("concat", "split"):
            assert_near(convert(grouped, form)(images), expected, form, FLOAT32_TOLERANCE)


@pytest.mark.parametrize(("source", "target"), list(permutations(FORMS, 2)))
@pytest.mark.parametrize(("network", "side"), ALL[1:])
def test_conversion_there_and_back_is_bit_exact(network, side: int, source: Form, target: Form):
    model = build(network, form=source, seed=3, dtype=torch.float16)
    randomise(model)
    model.fc.requires_grad_(False)
    model.layer1.requires_grad_(False)
    back = convert(convert(model.eval(), target), source)
    assert not back.training
    assert back.fc.weight.dtype == torch.float16
    assert back.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], tensor, rtol=0, atol=0)
    frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
    assert {key for key, p in back.named_parameters() if not p.requires_grad} == frozen


@pytest.mark.parametrize("form", FORMS)
def test_one_seed_gives_one_function_in_every_form(form: Form):
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    grouped = build("resnext11_4x8d", seed=5, dtype=torch.float64).eval()
    other = build("resnext11_4x8d", seed=5, form=form, dtype=torch.float64).eval()
    assert other.form == form
    assert_near(other(images).detach(), grouped(images).detach(), form, FLOAT64_TOLERANCE)


def numpy_conv(x: NDArray, weight: NDArray, stride: int) -> NDArray:
    """N x C x H x W convolved by a window moved in loops."""
    out, _, k, _ = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    size = (x.shape[2] - 1) // stride + 1
    y = np.zeros((x.shape[0], out, size, size))
    for i in range(size):
        for j in range(size):
            window = padded[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            y[:, :, i, j] = np.einsum("ncij,ocij->no", window, weight)
    return y


def numpy_norm(x: NDArray, tensors: dict[str, NDArray], name: str) -> NDArray:
    """Batch normalisation in evaluation mode."""
    gamma, beta, mean, var = (
        tensors[f"{name}.{key}"][None, :, None, None]
        for key in ("weight", "bias", "running_mean", "running_var")
    )
    return gamma * (x - mean) / np.sqrt(var + 1e-5) + beta


def numpy_shortcut(block: Block, tensors: dict[str, NDArray], x: NDArray) -> NDArray | float:
    """The shortcut of each type."""
    if block.shortcut == "projection":
        y = numpy_conv(x, tensors["downsample.0.weight"], block.stride)
        return numpy_norm(y, tensors, "downsample.1")
    if block.shortcut == "padding":
        sampled = x[:, :, :: block.stride, :: block.stride]
        return np.pad(sampled, ((0, 0), (0, block.out_channels - x.shape[1]), (0, 0), (0, 0)))
    return x if block.shortcut == "identity" else 0.0


def numpy_block(block: Block, tensors: dict[str, NDArray], x: NDArray) -> NDArray:
    """Eqn. 3 in evaluation mode, from the tensors of the split form."""
    total: NDArray | float = 0.0
    for number, convs in enumerate(block.path_convs()):
        y = x
        for i, layer in enumerate(convs, 1):
            y = numpy_conv(y, tensors[f"paths.{number}.conv{i}.weight"], layer.stride)
            if i < len(convs):
                y = np.maximum(numpy_norm(y, tensors, f"paths.{number}.norm{i}"), 0)
        total = total + y
    y = numpy_norm(np.asarray(total), tensors, "norm")
    return np.maximum(y + numpy_shortcut(block, tensors, x), 0)


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
@pytest.mark.parametrize(
    "paths",
    [
        [Paths.of("3x4d")],
        [Paths.of("4x2d", BASIC)],
        [Paths.of("2x4d"), Paths.of("1x6d", (1, 5, 3, 1)), Paths.of("1x2d", BASIC)],
    ],
    ids=["bottleneck", "basic", "unlike"],
)
def test_the_split_form_is_equation_3(paths: list[Paths], shortcut: str):
    network = compose((2, 1), paths, out_channels=64, shortcut=shortcut)  # type: ignore[arg-type]
    for _, _, block in network.blocks():
        module = residual(block, "split").double().eval()
        randomise(module)
        generator = torch.Generator().manual_seed(4)
        x = torch.randn(2, block.in_channels, 6, 6, dtype=torch.float64, generator=generator)
        tensors = {key: value.numpy() for key, value in module.state_dict().items()}
        expected = numpy_block(block, tensors, x.numpy())
        # Measured: 2.6e-15 at values up to 5.
        np.testing.assert_allclose(module(x.clone()).detach().numpy(), expected, rtol=0, atol=3e-14)


def test_preactivation_starts_the_shortcut_behind_the_activation():
    block = next(b for _, _, b in spec("preact_resnet50").blocks() if b.activation == "pre-shared")
    module = residual(block, "grouped").double().eval()
    randomise(module)
    for parameter in (module.conv3.weight,):
        nn.init.zeros_(parameter)  # the transform vanishes, the shortcut is left
    x = torch.randn(1, block.in_channels, 4, 4, dtype=torch.float64)
    expected = nn.functional.conv2d(
        torch.relu(module.bn1(x)), module.downsample[0].weight, stride=block.stride
    )
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)


def test_what_has_no_other_form_is_refused():
    unlike = compose((1,), [Paths.of("2x4d"), Paths.of("1x8d")])
    with pytest.raises(SpecError, match="build with form='split'"):
        build(unlike)
    with pytest.raises(SpecError, match="its paths differ"):
        convert(build(unlike, form="split"), "grouped")
    inside = compose((1,), "2x4d", path_norm=True)
    with pytest.raises(SpecError, match="footnote 6"):
        build(inside)
    with pytest.raises(SpecError, match="normalises inside each path"):
        convert(build(inside, form="split"), "concat")
    with pytest.raises(SpecError, match="expected form grouped, concat, split, found 'dense'"):
        build("resnet50", form="dense")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_networks_without_values_are_converted_too(form: Form):
    model = build("resnext11_2x4d", form=form, device="meta")
    assert convert(model, "grouped").fc.weight.is_meta


def test_paths_trained_apart_are_not_joined():
    model = build("resnext11_2x4d", form="split", seed=0)
    model.layer1[0].paths[1].norm1.num_batches_tracked += 1
    with pytest.raises(SpecError, match="paths were not trained together"):
        convert(model, "grouped")


def test_unlike_settings_of_normalisation_are_not_lost_in_silence():
    model = build("resnext11_2x4d", seed=0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1e-3
    assert convert(model, "split").layer1[0].norm.eps == 1e-3
    model.bn1.eps = 1e-5
    with pytest.raises(SpecError, match="one eps and momentum"):
        convert(model, "split")


@pytest.mark.parametrize(
    ("initialization", "expected"),
    # conv1, conv2, conv3 of conv2's second block of ResNeXt-50 (32x4d): k·k·outputs of the layer
    # in form (c), of the path in form (b), k·k·inputs for fan-in.
    [
        ("reference", (128, 9 * 128, 256)),
        ("torchvision", (128, 9 * 128, 256)),
        ("reference-b", (4, 9 * 4, 256)),
        ("fan-in", (256, 9 * 4, 128)),
    ],
)
def test_initial_deviations(initialization: str, expected: tuple[int, int, int]):
    model = build("resnext50_32x4d", initialization=initialization, seed=0)  # type: ignore[arg-type]
    block = model.layer1[1]
    for conv, fan in zip((block.conv1, block.conv2, block.conv3), expected, strict=True):
        std = math.sqrt(2 / fan)
        # The standard error of a deviation over n draws is std / sqrt(2n); five of them.
        bound = 5 * std / math.sqrt(2 * conv.weight.numel())
        assert abs(float(conv.weight.detach().std()) - std) < bound
    bias = float(model.fc.bias.detach().abs().max())
    assert (bias > 0) == (initialization == "torchvision")
    assert float(model.fc.weight.detach().abs().max()) <= 1 / math.sqrt(2048)
    assert float(block.bn3.weight.detach().min()) == 1


@pytest.mark.parametrize("form", FORMS)
def test_zero_gamma_makes_every_block_its_shortcut(form: Form):
    model = build("resnext11_2x4d", form=form, zero_gamma=True, seed=0)
    last = model.layer1[0].bn3 if form == "grouped" else model.layer1[0].norm
    assert float(last.weight.detach().abs().max()) == 0
    with pytest.raises(SpecError, match="zero_gamma"):
        build("preact_resnet50", zero_gamma=True)


def test_seeds_are_the_only_source_of_weights():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two = build("resnext11_2x4d", seed=1), build("resnext11_2x4d", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for key, tensor in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[key], tensor, rtol=0, atol=0)
    with pytest.raises(SpecError, match="expected a seed from 0 to"):
        build("resnext11_2x4d", seed=-1)
    other = build("resnext11_2x4d", seed=2)
    assert not torch.equal(other.conv1.weight, one.conv1.weight)
    torch.manual_seed(0)
    ambient = build("resnext11_2x4d")
    torch.manual_seed(0)
    torch.testing.assert_close(build("resnext11_2x4d").conv1.weight, ambient.conv1.weight)
