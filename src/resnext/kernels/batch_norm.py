"""The middle of a bottleneck in training as one operation: norm, ReLU, grouped 3x3, norm, ReLU.

The first normalisation and its ReLU happen while the convolution loads its input, the statistics of
the second while it stores its output; backwards likewise. Of 32 passes over a map of the block's
width 8 are saved. Normalisation is over `part` images at a time, as the paper has it.

Statistics of the second normalisation are of the sums in float32, before they are rounded; those of
the framework are of the rounded map. Inside a tile of some hundred pixels they are one pass, so the
variance is off by about 1e-7 (1 + mean^2 / variance) of itself: a channel of two pixels that happen
to be nearly equal has a worse one than the framework's, by up to fifty times.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from resnext.kernels.choices import Direction, Shape, estimated_fused
from resnext.kernels.grouped_conv import device_of, unsupported

P = ParamSpec("P")
R = TypeVar("R")
_MOST_IMAGES = 4
"""Of a tile, which must not reach from one part of the batch into the next."""


def fusible(x: Tensor, weight: Tensor, stride: int, part: int) -> bool:
    """Whether `between_norms` takes this: what kernels take, in equal parts."""
    whole = part >= len(x)
    equal = len(x) % part == 0 and part % _MOST_IMAGES == 0
    return (whole or equal) and unsupported(x, weight, stride) is None


def _where_its_map_is(function: Callable[P, R]) -> Callable[P, R]:
    """Triton launches on the current GPU; make that the one of the first argument."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with device_of(args[0]):  # type: ignore[arg-type] # P cannot say that it is a map
            return function(*args, **kwargs)

    return call


@_where_its_map_is
def forward(
    x: Tensor,
    gamma1: Tensor,
    beta1: Tensor,
    weight: Tensor,
    gamma2: Tensor,
    beta2: Tensor,
    stride: int,
    eps1: float,
    eps2: float,
    part: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """relu(norm2(conv(relu(norm1(x))))) of N x C x H x W, and what its gradient needs.

    Also the convolution's output and, of each norm, 3 x parts x C numbers, the last of which are
    means, and parts x C variances.
    """
    from resnext.kernels import launching, normalising

    x = launching.nhwc(x)
    part = min(part, len(x))
    norm1 = normalising.statistics(x, part, gamma1, beta1, eps1)
    launch = _launch("forward", x, weight, stride)
    height, width = (-(-side // stride) for side in x.shape[2:])
    strips, groups = launching.tiles(height, width, len(x), launch)
    partial = normalising.scratch(strips * groups, x)
    y = launching.convolve(
        x, weight, stride, launch,
        normed=launching.Normed(norm1.coefficients, part),
        sums=launching.Sums(partial),
    )  # fmt: skip
    norm2 = normalising.finished(partial, len(norm1.variance), gamma2, beta2, eps2)
    z = normalising.applied(y, part, norm2.coefficients)
    return z, y, norm1.coefficients, norm1.variance, norm2.coefficients, norm2.variance


@_where_its_map_is
def backward(
    dz: Tensor,
    x: Tensor,
    y: Tensor,
    gamma1: Tensor,
    weight: Tensor,
    gamma2: Tensor,
    coefficients1: Tensor,
    variance1: Tensor,
    coefficients2: Tensor,
    variance2: Tensor,
    stride: int,
    eps1: float,
    eps2: float,
    part: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of x, gamma1, beta1, weight, gamma2 and beta2."""
    from resnext.kernels import launching, normalising
    from resnext.kernels.launching import Normed, Sums

    x, y, dz = (launching.nhwc(tensor) for tensor in (x, y, dz))
    part = min(part, len(x))
    height, width = x.shape[2:]
    norm1 = normalising.Norm(coefficients1, variance1)
    norm2 = normalising.Norm(coefficients2, variance2)
    dz, partial = normalising.masked(dz, y, part, norm2)
    pixels = y.shape[2] * y.shape[3]
    back2, dgamma2, dbeta2 = normalising.gradient(partial, norm2, gamma2, part * pixels, eps2)
    behind = Normed(back2, part, y)

    dw = launching.weights_gradient(
        x, dz, weight, stride, _launch("weight-gradient", x, weight, stride),
        normed=Normed(coefficients1, part), normed2=behind,
    )  # fmt: skip
    launch = _launch("input-gradient", x, weight, stride)
    strips, groups = launching.tiles(y.shape[2], y.shape[3], len(x), launch)
    partial = normalising.scratch(strips * groups, x)
    dx = launching.input_gradient(
        dz, weight, (height, width), stride, launch,
        normed=behind, sums=Sums(partial, x, coefficients1),
    )  # fmt: skip
    back1, dgamma1, dbeta1 = normalising.gradient(
        partial, norm1, gamma1, part * height * width, eps1
    )
    return normalising.applied(dx, part, back1, x), dgamma1, dbeta1, dw, dgamma2, dbeta2


def _launch(direction: Direction, x: Tensor, weight: Tensor, stride: int) -> Any:
    images, channels, height, width = x.shape
    shape = Shape(
        direction=direction,
        group_width=weight.shape[1],
        channels=channels,
        height=height,
        width=width,
        images=images,
        stride=stride,
        itemsize=x.element_size(),
    )
    return estimated_fused(shape)


between_norms = torch.library.custom_op("resnext::between_norms", forward, mutates_args=())
between_norms_gradient = torch.library.custom_op(
    "resnext::between_norms_gradient", backward, mutates_args=()
)


@between_norms.register_fake
def _(
    x: Tensor,
    gamma1: Tensor,
    beta1: Tensor,
    weight: Tensor,
    gamma2: Tensor,
    beta2: Tensor,
    stride: int,
    eps1: float,
    eps2: float,
    part: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    del gamma1, beta1, weight, gamma2, beta2, eps1, eps2
    images, channels, *sides = x.shape
    size = (images, channels, *((side + stride - 1) // stride for side in sides))
    parts = 1 if part >= images else images // part

    def numbers(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=x.device)

    def empty() -> Tensor:
        last = torch.channels_last
        return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=last)

    norms = [numbers(*shape) for shape in ((3, parts, channels), (parts, channels)) * 2]
    return empty(), empty(), norms[0], norms[1], norms[2], norms[3]


@between_norms_gradient.register_fake
def _(
    dz: Tensor,
    x: Tensor,
    y: Tensor,
    gamma1: Tensor,
    weight: Tensor,
    gamma2: Tensor,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    del dz, y
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    one, two = (torch.empty_like(gamma1) for _ in range(2))
    three, four = (torch.empty_like(gamma2) for _ in range(2))
    return dx, one, two, torch.empty_like(weight), three, four


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, gamma1, _, weight, gamma2, _, *ctx.rest = inputs
    _, y, *norms = output
    ctx.save_for_backward(x, y, gamma1, weight, gamma2, *norms)


def _gradients(ctx: Any, dz: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    found = between_norms_gradient(dz, *ctx.saved_tensors, *ctx.rest)
    return (*found, None, None, None, None)


between_norms.register_autograd(_gradients, setup_context=_keep)
