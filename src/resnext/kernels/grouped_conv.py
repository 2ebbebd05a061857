"""The grouped 3x3 convolution as one operation of torch, whichever path computes it.

`torch.ops.resnext.grouped_conv` and its two gradients are opaque to the compiler, have gradients of
any order, and look up their path by shape (`choices`). Maps are N x C x H x W, channels last in
memory; weights are C x G x 3 x 3 in any floating type and layout. Under autocast maps are cast and
weights are not: kernels cast them when they pack them, and their gradient is never rounded.
"""

import os
import warnings
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnext.kernels.choices import (
    GROUP_WIDTHS,
    Backend,
    Choice,
    Direction,
    Shape,
    choose,
)
from resnext.kernels.merged import merge, merged_conv2d, merged_width, unmerge

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_CAST_ON = ("cpu", "cuda")
_TRITON = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")
"""As triton decides it when it is imported, which takes a while and is not needed for most runs."""
_SAID: set[str] = set()
_MOST_PROGRAMS = 2**16
"""One more than CUDA takes in a grid's second and third direction."""


class KernelFallbackWarning(UserWarning):
    """A convolution that was to be computed by a kernel of ours is computed by the framework."""


def grouped_conv2d(
    x: Tensor, weight: Tensor, stride: int = 1, backend: Backend = "triton"
) -> Tensor:
    """The grouped convolution of an odd k x k weight with padding (k - 1) / 2.

    Args:
        x: N x C x H x W.
        weight: C' x G x k x k.
        stride: in both directions.
        backend: `framework`; `merged` groups; `triton`; `fused`, here the same; or `auto`, what
            was measured fastest for each direction on this kind of GPU. What a kernel does not do
            falls to the framework, and the first time of each kind a `KernelFallbackWarning` says
            so.
    """
    if backend == "merged" and _square(x, weight, stride):
        dtype = _autocast_dtype(x)
        return merged_conv2d(x.to(dtype), weight.to(dtype), stride)
    if backend in ("framework", "merged"):
        return _framework(x, weight, stride)
    why = unsupported(x, weight, stride)
    if why is not None:
        if backend != "auto" and not torch.compiler.is_compiling():
            say_once(why)
        return _framework(x, weight, stride)
    return torch.ops.resnext.grouped_conv(x, weight, stride, backend)


def unsupported(x: Tensor, weight: Tensor, stride: int) -> str | None:
    """Why no kernel takes this; None where one does."""
    why = unsupported_weight(weight, x.shape[1], stride)
    if why is not None:
        return why
    dtype = _autocast_dtype(x)
    if dtype not in _DTYPES:
        return f"maps of {dtype}"
    if not _TRITON:
        return "a machine without triton"
    return _unsupported_size(x) or (None if runs_on(x.device.type) else f"maps on {x.device.type}")


def _unsupported_size(x: Tensor) -> str | None:
    """A map that no grid of programs, or no offset of 32 bits, reaches all of."""
    values = x.numel()
    if values == 0:
        return "an empty map"
    if values >= 2**31:
        return f"a map of {values} values"
    if len(x) >= _MOST_PROGRAMS:
        return f"a map of {len(x)} images"
    pixels = values // x.shape[1]
    if pixels // 256 >= _MOST_PROGRAMS:  # normalisation has a program for each 512, and for a rest
        return f"a map of {pixels} pixels"
    return None


def unsupported_weight(weight: Tensor, channels: int, stride: int) -> str | None:
    """Why no kernel takes such a convolution, whatever the map is; None where one does."""
    outputs, width, *kernel = weight.shape
    if kernel != [3, 3] or outputs != channels or stride not in (1, 2):
        size = "x".join(str(side) for side in kernel)
        return f"a {size} convolution from {channels} to {outputs} channels, stride {stride}"
    if width not in GROUP_WIDTHS or channels % max(32, width):
        return f"{width} channels per group of {channels}"
    return None


def _square(x: Tensor, weight: Tensor, stride: int) -> bool:
    return weight.shape[2:] == (3, 3) and len(weight) == x.shape[1] and stride in (1, 2)


def runs_on(device: str) -> bool:
    """Kernels run on GPUs, and on processors where triton interprets them."""
    return _TRITON and (device == "cuda" or (device == "cpu" and _INTERPRETED))


def device_of(x: Tensor) -> AbstractContextManager[object]:
    """Make the GPU of x the current one, which is where triton launches; nothing on a processor."""
    found: AbstractContextManager[object] = torch.cuda.device_of(x)  # type: ignore[no-untyped-call]
    return found


def kept_backend(backend: Backend, device: torch.device) -> Backend | None:
    """What a run was begun with, where this device has it; else None, to choose anew."""
    return backend if backend in ("framework", "merged") or runs_on(device.type) else None


def say_once(why: str) -> None:
    """Warn that the framework computes what no kernel takes, the first time of each kind."""
    if why in _SAID:
        return
    _SAID.add(why)
    warnings.warn(
        f"expected what kernels of resnext compute, found {why}: the framework computes it",
        KernelFallbackWarning,
        stacklevel=4,
    )


def _autocast_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    if kind not in _CAST_ON or x.dtype not in _DTYPES or not torch.is_autocast_enabled(kind):
        return x.dtype
    return torch.get_autocast_dtype(kind)


def _framework(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Under autocast its own cast applies."""
    return F.conv2d(
        x,
        weight,
        stride=stride,
        padding=weight.shape[2] // 2,
        groups=x.shape[1] // weight.shape[1],
    )


def _choice(
    direction: Direction, weight: Tensor, size: tuple[int, ...], stride: int, x: Tensor, path: str
) -> Choice:
    """The path and launch of a direction; `size` is N, H, W of the input."""
    shape = Shape(
        direction=direction,
        group_width=weight.shape[1],
        channels=len(weight),
        images=size[0],
        height=size[1],
        width=size[2],
        stride=stride,
        itemsize=x.element_size(),
    )
    name = torch.cuda.get_device_name(x.device) if x.is_cuda else x.device.type
    found = choose(shape, name)
    if x.dtype not in _DTYPES or not runs_on(x.device.type):
        return Choice(path="framework", launch=found.launch)
    if path == "auto":
        return found
    return Choice(path="triton", launch=found.launch)


@torch.library.custom_op("resnext::grouped_conv", mutates_args=())
def grouped_conv(x: Tensor, weight: Tensor, stride: int, path: str) -> Tensor:
    """See `grouped_conv2d`; the result is channels last."""
    choice = _choice("forward", weight, (len(x), *x.shape[2:]), stride, x, path)
    if choice.path == "triton":
        from resnext.kernels import launching

        with device_of(x):
            return launching.convolve(x, weight, stride, choice.launch)
    wide, groups = _weights_of(choice, weight, x.dtype)
    y = F.conv2d(x, wide, stride=stride, padding=1, groups=groups)
    return y.contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("resnext::grouped_conv_input_gradient", mutates_args=())
def input_gradient(
    dy: Tensor, weight: Tensor, height: int, width: int, stride: int, path: str
) -> Tensor:
    """Of a map of height x width, channels last."""
    choice = _choice("input-gradient", weight, (len(dy), height, width), stride, dy, path)
    if choice.path == "triton":
        from resnext.kernels import launching

        with device_of(dy):
            return launching.input_gradient(dy, weight, (height, width), stride, choice.launch)
    wide, groups = _weights_of(choice, weight, dy.dtype)
    x = dy.new_empty(1).expand(len(dy), dy.shape[1], height, width)  # only its shape counts
    dx, _, _ = _backward(dy, x, wide, stride, groups, [True, False, False])
    return dx.contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("resnext::grouped_conv_weight_gradient", mutates_args=())
def weight_gradient(x: Tensor, dy: Tensor, weight: Tensor, stride: int, path: str) -> Tensor:
    """Like `weight`, of which only shape, type and layout count."""
    choice = _choice("weight-gradient", weight, (len(x), *x.shape[2:]), stride, x, path)
    if choice.path == "triton":
        from resnext.kernels import launching

        with device_of(x):
            return launching.weights_gradient(x, dy, weight, stride, choice.launch)
    wide, groups = _weights_of(choice, weight, x.dtype)
    _, dw, _ = _backward(dy, x, wide, stride, groups, [False, True, False])
    return torch.empty_like(weight).copy_(unmerge(dw, weight.shape[1]))


def _weights_of(choice: Choice, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """For the framework, as they are or merged; and the number of groups."""
    width = weight.shape[1]
    if choice.path == "merged":
        width = merged_width(len(weight), width)
        weight = merge(weight, width)
    return weight.to(dtype), len(weight) // width


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor, stride: int, groups: int, wanted: list[bool]
) -> Any:
    one = [1, 1]
    return torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, one, one, False, [0, 0], groups, wanted
    )


@grouped_conv.register_fake
def _(x: Tensor, weight: Tensor, stride: int, path: str) -> Tensor:
    del weight, path
    n, c, h, w = x.shape
    size = (n, c, (h + stride - 1) // stride, (w + stride - 1) // stride)
    return _like(x, size)


@input_gradient.register_fake
def _(dy: Tensor, weight: Tensor, height: int, width: int, stride: int, path: str) -> Tensor:
    del weight, stride, path
    return _like(dy, (dy.shape[0], dy.shape[1], height, width))


@weight_gradient.register_fake
def _(x: Tensor, dy: Tensor, weight: Tensor, stride: int, path: str) -> Tensor:
    del x, dy, stride, path
    return torch.empty_like(weight)


def _like(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


# The convolution is bilinear: each of the three operations is the gradient of the other two.


def _keep_conv(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, weight, ctx.stride, ctx.path = inputs
    ctx.save_for_backward(x, weight)


def _conv_gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    dx = dw = None
    if ctx.needs_input_grad[0]:
        dx = input_gradient(dy, weight, x.shape[2], x.shape[3], ctx.stride, ctx.path)
    if ctx.needs_input_grad[1]:
        dw = weight_gradient(x, dy, weight, ctx.stride, ctx.path)
    return dx, dw, None, None


def _keep_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    dy, weight, _, _, ctx.stride, ctx.path = inputs
    ctx.save_for_backward(dy, weight)


def _input_gradients(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
    dy, weight = ctx.saved_tensors
    to_dy = grouped_conv(d, weight, ctx.stride, ctx.path) if ctx.needs_input_grad[0] else None
    to_weight = None
    if ctx.needs_input_grad[1]:
        to_weight = weight_gradient(d, dy, weight, ctx.stride, ctx.path)
    return to_dy, to_weight, None, None, None, None


def _keep_weight(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    x, dy, _, ctx.stride, ctx.path = inputs
    ctx.save_for_backward(x, dy)


def _weight_gradients(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
    x, dy = ctx.saved_tensors
    to_x = to_dy = None
    if ctx.needs_input_grad[0]:
        to_x = input_gradient(dy, d, x.shape[2], x.shape[3], ctx.stride, ctx.path)
    if ctx.needs_input_grad[1]:
        to_dy = grouped_conv(x, d, ctx.stride, ctx.path)
    return to_x, to_dy, None, None, None


grouped_conv.register_autograd(_conv_gradients, setup_context=_keep_conv)
input_gradient.register_autograd(_input_gradients, setup_context=_keep_input)
weight_gradient.register_autograd(_weight_gradients, setup_context=_keep_weight)


def _register_autocast(kind: str) -> None:
    """Cast the map alone; inside, autocast is off, so that weights keep their precision."""

    def cast(x: Tensor, weight: Tensor, stride: int, path: str) -> Tensor:
        dtype = _autocast_dtype(x)
        with torch.autocast(kind, enabled=False):
            return grouped_conv(x.to(dtype), weight, stride, path)

    torch.library.impl("resnext::grouped_conv", f"Autocast{kind.upper()}", cast)


for _kind in _CAST_ON:
    _register_autocast(_kind)
