"""Kernels compiled for a Hopper GPU, without one: tensor cores, wide loads, nothing spilled.

Whole networks' worth of shapes is slow; the default run takes one of each kernel.
"""

import sys

import pytest
import torch

triton = pytest.importorskip("triton")

from resnext.kernels.choices import Shape, estimated  # noqa: E402 - behind what it needs

if triton.knobs.runtime.interpret:
    pytest.skip("triton interprets kernels here", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("triton brings its assembler for Linux only", allow_module_level=True)

import ahead_of_time  # noqa: E402
from resnext.kernels import batch_norm, launching  # noqa: E402

if not (ahead_of_time.TOOLS / "cuobjdump").exists():
    pytest.skip("triton has no cuobjdump beside it", allow_module_level=True)

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
SHARED_MEMORY = 227 * 1024  # of a program, at most
CONVOLUTIONS = (
    "forward",
    "forward_stride2",
    "input_gradient_stride2",
    "weight_gradient",
    "weight_gradient_row",
)
PAPER = [  # group width, channels, side, stride: ResNeXt-50 and -101, 32x4d and 64x4d
    (4, 128, 56, 1),
    (8, 256, 56, 2),
    (8, 256, 28, 1),
    (16, 512, 28, 2),
    (16, 512, 14, 1),
    (32, 1024, 14, 2),
    (32, 1024, 7, 1),
    (4, 256, 56, 1),
    (32, 2048, 7, 1),
    (64, 512, 8, 1),  # CIFAR's 8x64d, at its other strides too
    (64, 512, 16, 2),
]


def codes(direction, group_width, channels, side, stride, dtype=BF16, images=64):
    """The kernels of one call, as they are launched where nobody measured."""
    shape = Shape(
        direction=direction,
        group_width=group_width,
        channels=channels,
        height=side,
        width=side,
        images=images,
        stride=stride,
    )
    launch = estimated(shape)
    with torch.device("meta"):
        x = torch.empty(images, channels, side, side, dtype=dtype)
        dy = torch.empty(images, channels, -(-side // stride), -(-side // stride), dtype=dtype)
        weight = torch.empty(channels, group_width, 3, 3)
    calls = {
        "forward": lambda: launching.convolve(x, weight, stride, launch),
        "input-gradient": lambda: launching.input_gradient(
            dy, weight, (side, side), stride, launch
        ),
        "weight-gradient": lambda: launching.weights_gradient(x, dy, weight, stride, launch),
    }
    launches = ahead_of_time.recorded(calls[direction])
    return [ahead_of_time.compiled(*found) for found in launches]


def fused_codes(width, channels, side, stride, dtype=BF16, images=64, only=()):
    """The kernels of a step of the fused operation, forwards and backwards, each once."""
    with torch.device("meta"):
        x = torch.empty(images, channels, side, side, dtype=dtype)
        weight = torch.empty(channels, width, 3, 3)
        one = torch.empty(channels)
    rest = (stride, 1e-5, 1e-5, 32)

    def step():
        z, y, *norms = batch_norm.forward(x, one, one, weight, one, one, *rest)
        batch_norm.backward(z, x, y, one, weight, one, *norms, *rest)

    launches = {}
    for kernel, args, options in ahead_of_time.recorded(step):
        modes = [options.get(name) for name in ("PROLOGUE", "EPILOGUE", "MODE", "TRANSPOSED")]
        if not only or kernel.fn.__name__ in only:
            launches[kernel.fn.__name__, *modes] = (kernel, args, options)
    return [ahead_of_time.compiled(*found) for found in launches.values()]


def check(found, *, fused=False):
    for code in found:
        assert code.stack == 0, code
        assert code.count("LDL", "STL") == 0, code
        assert code.shared <= SHARED_MEMORY, code
        if code.name not in CONVOLUTIONS:
            continue
        loads = [one for one in code.instructions if one.startswith(("LDG.E", "LDGSTS.E"))]
        assert sum(".128" in one for one in loads) >= 6
        if not fused:  # coefficients of norms are few numbers, loaded before the march
            assert all(".128" in one for one in loads), code
        assert code.count("HMMA") > 0, code


@pytest.mark.parametrize(
    ("direction", "width", "side", "stride"),
    [
        ("forward", 4, 56, 1),
        pytest.param("forward", 8, 56, 2, marks=pytest.mark.slow),
        ("input-gradient", 8, 56, 2),
        ("weight-gradient", 4, 56, 1),
        pytest.param("weight-gradient", 64, 14, 1, marks=pytest.mark.slow),
    ],
)
def test_each_kernel_keeps_to_registers_and_tensor_cores(direction, width, side, stride):
    check(codes(direction, width, 32 * max(width, 8), side, stride))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [BF16, FP16], ids=str)
@pytest.mark.parametrize("direction", ["forward", "input-gradient", "weight-gradient"])
@pytest.mark.parametrize("shape", PAPER, ids=str)
def test_every_shape_of_the_paper(shape, direction, dtype):
    check(codes(direction, *shape, dtype))


def test_a_fused_step_keeps_to_registers_and_tensor_cores():
    found = fused_codes(4, 128, 56, 1, only=CONVOLUTIONS)
    assert [code.name for code in found] == ["forward", "weight_gradient", "forward"]
    check(found, fused=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [BF16, FP16], ids=str)
@pytest.mark.parametrize("shape", PAPER, ids=str)
def test_every_shape_of_the_paper_fused(shape, dtype):
    check(fused_codes(*shape, dtype), fused=True)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "input-gradient", "weight-gradient"])
@pytest.mark.parametrize("shape", PAPER, ids=str)
def test_float32_fits_a_multiprocessor(shape, direction):
    """Its products are sums of the ordinary kind: it is there to be right, and may spill."""
    for code in codes(direction, *shape, FP32):
        assert code.shared <= SHARED_MEMORY, code


def test_a_spill_would_be_seen():
    """Nine blocks of 64 x 64 sums do not fit the registers of four warps."""
    shape = Shape(
        direction="weight-gradient",
        group_width=64,
        channels=512,
        height=14,
        width=14,
        images=64,
        stride=1,
    )
    with torch.device("meta"):
        x = torch.empty(64, 512, 14, 14, dtype=BF16)
        weight = torch.empty(512, 64, 3, 3)
    found = ahead_of_time.recorded(
        lambda: launching.weights_gradient(x, x, weight, 1, estimated(shape))
    )
    _, args, options = next(one for one in found if "row" in one[0].fn.__name__)
    code = ahead_of_time.compiled(launching.weight_gradient, args, options)
    assert code.stack > 0
    assert code.count("LDL", "STL") > 0
