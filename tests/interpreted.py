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


def _of_norms(size, group_width, kind, shift):
    """Operands of the fused operation; weights have the values of `kind` in float32."""
    channels = size[1]
    x = (drawn(size, kind) * 1.5 + shift).to(memory_format=torch.channels_last)
    weight = drawn((channels, group_width, 3, 3), torch.float32, 0.2, seed=1).to(kind).float()
    gammas = [drawn((channels,), scale=0.3, seed=2 + n) + 1 for n in range(2)]
    betas = [drawn((channels,), scale=0.3, seed=4 + n) for n in range(2)]
    return x, gammas[0], betas[0], weight, gammas[1], betas[1]


NAMES = ("result", "x", "gamma1", "beta1", "weight", "gamma2", "beta2")


def _errors(function, given, dz, truth):
    ours = [tensor.detach().clone().requires_grad_() for tensor in given]
    z = function(*ours)
    found = (z, *torch.autograd.grad(z, ours, dz))
    assert found[0].dtype == found[1].dtype == given[0].dtype
    return {name: reference.error(a, b) for name, a, b in zip(NAMES, found, truth, strict=True)}


def between_norms_errors(size, group_width, stride, dtype="float32", part=None, shift=0.0):
    """||error|| / ||truth|| of result and gradients: the fused operation's, the framework's.

    The truth is float64 on the same operands.
    """
    from functools import partial

    from resnext.kernels.batch_norm import between_norms, fusible

    kind = DTYPES[dtype]
    given = _of_norms(size, group_width, kind, shift)
    part = part or len(given[0])
    assert fusible(given[0], given[3], stride, part)
    true = partial(reference.between_norms, stride=stride, part=part)
    double = [tensor.detach().double().requires_grad_() for tensor in given]
    result = true(*double)
    dz = drawn(result.shape, kind, seed=7)
    truth = (result, *torch.autograd.grad(result, double, dz.double()))

    def fused(*given):
        return between_norms(*given, stride, 1e-5, 1e-5, part)[0]

    def framework(x, gamma1, beta1, weight, gamma2, beta2):
        return true(x, gamma1, beta1, weight.to(kind), gamma2, beta2)

    return _errors(fused, given, dz, truth), _errors(framework, given, dz, truth)


def variances(size, shift):
    """||error|| / ||truth|| of the variance in front, for maps of mean `shift`."""
    from resnext.kernels.batch_norm import between_norms

    given = _of_norms(size, 4, torch.float32, shift)
    _, _, _, found, _, _ = between_norms(*given, 1, 1e-5, 1e-5, len(given[0]))
    return reference.error(found[0], given[0].double().var((0, 2, 3), unbiased=False))
