"""Grids, scratch memory and arguments of the Triton kernels; shapes alone decide them all."""

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from resnext.kernels.choices import Launch, block_width
from resnext.kernels.march.forward import forward, forward_stride2
from resnext.kernels.march.gradients import (
    input_gradient_stride2,
    weight_gradient,
    weight_gradient_row,
)
from resnext.kernels.march.weights import pack, sum_slices

PACK_SIZE = 1024
INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Kernels run in Python on tensors of the CPU: TRITON_INTERPRET=1 when triton was imported."""


@dataclass(frozen=True, slots=True)
class Normed:
    """What is done to an operand on loading.

    Attributes:
        coefficients: 3 x parts x C, float32; see `tiles.operand`.
        part: images that share them.
        other: the second tensor of a gradient behind a normalisation.
    """

    coefficients: Tensor
    part: int
    other: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Sums:
    """What a kernel adds up on storing: [3, tiles, C], float32, a row per tile of one part.

    Attributes:
        partial: counts, means and squares about them; or, with `mask`, two sums.
        mask: N x C x H x W, where the result becomes zero, if `coefficients` say so.
        coefficients: 3 x parts x C, float32; see `tiles.emit`.
    """

    partial: Tensor
    mask: Tensor | None = None
    coefficients: Tensor | None = None


def runs_here(x: Tensor) -> bool:
    """Whether a kernel can be launched on this tensor."""
    return x.is_cuda or (INTERPRETED and x.device.type == "cpu")


def nhwc(x: Tensor) -> Tensor:
    """The same values, channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def packed(weight: Tensor, dtype: torch.dtype, *, transposed: bool = False) -> Tensor:
    """C x G x 3 x 3 -> C/B x 9 x B x B for the kernels, in their dtype."""
    channels, group_width = weight.shape[:2]
    side = block_width(group_width)
    out = torch.empty(channels // side, 9, side, side, dtype=dtype, device=weight.device)
    total = out.numel()
    pack[(triton.cdiv(total, PACK_SIZE),)](
        weight, out, total, *weight.stride(),
        G=group_width, B=side, TRANSPOSED=transposed, SIZE=PACK_SIZE, enable_fp_fusion=True,
    )  # fmt: skip
    return out


def tiles(height: int, width: int, images: int, launch: Launch) -> tuple[int, int]:
    """Strips of an image, and groups of images."""
    strips = triton.cdiv(height, launch.rows) * triton.cdiv(width, launch.columns)
    return strips, triton.cdiv(images, launch.images)


def _prologue(normed: Normed | None, images: int) -> tuple[int, Tensor | None, Tensor | None, int]:
    """Mode, second operand, coefficients, images of a part."""
    if normed is None:
        return 0, None, None, images
    mode = 1 if normed.other is None else 2
    other = None if normed.other is None else nhwc(normed.other)
    return mode, other, normed.coefficients, normed.part


def convolve(
    x: Tensor,
    weight: Tensor,
    stride: int,
    launch: Launch,
    *,
    normed: Normed | None = None,
    sums: Sums | None = None,
) -> Tensor:
    """The grouped 3x3 of x, N x C x H x W."""
    height, width = x.shape[2:]
    out = (-(-height // stride), -(-width // stride))
    kernel = forward if stride == 1 else forward_stride2
    return _march(
        kernel, x, packed(weight, x.dtype), (height, width), out, out, launch, normed, sums
    )


def input_gradient(
    dy: Tensor,
    weight: Tensor,
    size: tuple[int, int],
    stride: int,
    launch: Launch,
    *,
    normed: Normed | None = None,
    sums: Sums | None = None,
) -> Tensor:
    """Of a map of `size`, for a gradient of the output."""
    weights = packed(weight, dy.dtype, transposed=True)
    kernel = forward if stride == 1 else input_gradient_stride2
    strips = (dy.shape[2], dy.shape[3])
    return _march(kernel, dy, weights, size, size, strips, launch, normed, sums)


def _march(
    kernel: Any,
    x: Tensor,
    weights: Tensor,
    size: tuple[int, int],
    out: tuple[int, int],
    strips: tuple[int, int],
    launch: Launch,
    normed: Normed | None,
    sums: Sums | None,
) -> Tensor:
    """`size` is the H x W that the kernel is told; strips are cut from `strips`."""
    x = nhwc(x)
    images, channels = x.shape[:2]
    side = weights.shape[-1]
    y = torch.empty(
        (images, channels, *out), dtype=x.dtype, device=x.device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    mode, other, coefficients, part = _prologue(normed, images)
    epilogue = 0 if sums is None else 1 if sums.mask is None else 2
    mask = None if sums is None or sums.mask is None else nhwc(sums.mask)
    grid = (channels // (launch.blocks * side), *tiles(*strips, images, launch))
    kernel[grid](
        x, _or(other, x), _or(coefficients, x), weights, y, _or(mask, x),
        _or(None if sums is None else sums.coefficients, x),
        _or(None if sums is None else sums.partial, x),
        images, *size, channels, part, -(-images // part),
        B=side, BLOCKS=launch.blocks, NI=launch.images, QT=launch.columns, PH=launch.rows,
        PROLOGUE=mode, EPILOGUE=epilogue, UP=_up(x),
        num_warps=launch.warps, num_stages=launch.stages, enable_fp_fusion=True,
    )  # fmt: skip
    return y


def _or(given: Tensor | None, instead: Tensor) -> Tensor:
    """A kernel takes a pointer also where it reads nothing."""
    return instead if given is None else given


def _up(x: Tensor) -> bool:
    """The interpreter multiplies the bits of bfloat16; it is given float32."""
    return INTERPRETED and x.dtype == torch.bfloat16


def weights_gradient(
    x: Tensor,
    dy: Tensor,
    weight: Tensor,
    stride: int,
    launch: Launch,
    *,
    normed: Normed | None = None,
    normed2: Normed | None = None,
) -> Tensor:
    """Of the weights, like `weight`; sums over slices of the images are added in a fixed order."""
    x, dy = nhwc(x), nhwc(dy)
    images, channels, height, width = x.shape
    group_width = weight.shape[1]
    side = block_width(group_width)
    groups = triton.cdiv(images, launch.images)
    each = triton.cdiv(groups, launch.slices)
    slices = triton.cdiv(groups, each)
    scratch = torch.empty(slices, 9, group_width, channels, dtype=torch.float32, device=x.device)
    mode, _, coefficients, part = _prologue(normed, images)
    mode2, other2, coefficients2, _ = _prologue(normed2, images)
    rows = side > 32
    grid = (channels // (launch.blocks * side), slices, 3 if rows else 1)
    (weight_gradient_row if rows else weight_gradient)[grid](
        x, _or(coefficients, x), dy, _or(other2, dy), _or(coefficients2, x), scratch,
        images, height, width, channels, each, part, -(-images // part),
        G=group_width, B=side, BLOCKS=launch.blocks, NI=launch.images, QT=launch.columns,
        STRIDE=stride, PROLOGUE=mode, PROLOGUE2=mode2, UP=_up(x),
        num_warps=launch.warps, num_stages=launch.stages, enable_fp_fusion=True,
    )  # fmt: skip
    out = torch.empty_like(weight)
    total = 9 * group_width * channels
    sum_slices[(triton.cdiv(total, PACK_SIZE),)](
        scratch, out, slices, total, channels, *out.stride(),
        G=group_width, SIZE=PACK_SIZE, enable_fp_fusion=True,
    )  # fmt: skip
    return out
