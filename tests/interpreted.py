"""What tests ask of kernels in a process where triton interprets them, on tensors of the CPU.

Triton decides that when it is imported, so the process is one of its own; functions and arguments
travel there, errors come back.
"""

import torch

from resnext.kernels import reference
from resnext.kernels.choices import Shape, estimated

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def drawn(size, dtype=torch.float32, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, generator=generator, dtype=torch.float64) * scale
    return values.to(dtype)


def shape_of(direction, x, weight, stride):
    images, channels, height, width = x.shape
    return Shape(
        direction=direction,
        group_width=weight.shape[1],
        channels=channels,
        height=height,
        width=width,
        images=images,
        stride=stride,
    )


def grouped_conv_errors(size, group_width, stride, dtype="float32", **launch):
    """||error|| / ||truth|| of the three directions, for N, C, H, W; `launch` changes the usual."""
    from dataclasses import replace

    from resnext.kernels import launching

    assert launching.INTERPRETED
    kind = DTYPES[dtype]
    x = drawn(size, kind).to(memory_format=torch.channels_last)
    weight = drawn((size[1], group_width, 3, 3), kind, 0.2, seed=1)

    def launch_of(direction):
        return replace(estimated(shape_of(direction, x, weight, stride)), **launch)

    y = launching.convolve(x, weight, stride, launch_of("forward"))
    dy = drawn(y.shape, kind, seed=2)
    dx = launching.input_gradient(dy, weight, size[2:], stride, launch_of("input-gradient"))
    # like the float32 weights of a network: the gradient is not rounded to the maps' type
    dw = launching.weights_gradient(x, dy, weight.float(), stride, launch_of("weight-gradient"))
    true_dx, true_dw = reference.gradients(x, weight, dy, stride)
    assert y.dtype == dx.dtype == kind
    assert dw.dtype == torch.float32
    assert y.is_contiguous(memory_format=torch.channels_last)
    return {
        "forward": reference.error(y, reference.conv(x, weight, stride)),
        "input-gradient": reference.error(dx, true_dx),
        "weight-gradient": reference.error(dw, true_dw),
    }
