"""Grids and scratch memory of the kernels around the fused convolution; see `launching`."""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from resnext.kernels.march.statistics import (
    apply,
    channel_statistics,
    finish_gradient,
    finish_statistics,
    mask_and_sum,
)

_SIZES = {"ROWS": 512, "R": 32, "CB": 64, "enable_fp_fusion": True}
_MERGE = {"TB": 32, "CB": 64, "enable_fp_fusion": True}


@dataclass(frozen=True, slots=True)
class Norm:
    """What a normalisation of a batch came to.

    Attributes:
        coefficients: 3 x parts x C: a and b of a * x + b, and the mean.
        variance: parts x C, of all pixels of a part.
    """

    coefficients: Tensor
    variance: Tensor


@dataclass(frozen=True, slots=True)
class _Rows:
    """A map as rows of pixels, cut into tiles inside of parts."""

    x: Tensor
    part: int

    @property
    def parts(self) -> int:
        return -(-len(self.x) // self.part)

    @property
    def rows(self) -> int:
        return self.part * self.x.shape[2] * self.x.shape[3]

    @property
    def tiles(self) -> int:
        """Of one part."""
        return triton.cdiv(self.rows, int(_SIZES["ROWS"]))

    @property
    def grid(self) -> tuple[int, int]:
        return triton.cdiv(self.x.shape[1], int(_SIZES["CB"])), self.tiles * self.parts


def scratch(tiles: int, x: Tensor) -> Tensor:
    """3 x tiles x C partial sums."""
    return torch.empty(3, tiles, x.shape[1], dtype=torch.float32, device=x.device)


def statistics(x: Tensor, part: int, gamma: Tensor, beta: Tensor, eps: float) -> Norm:
    """Of N x C x H x W, channels last, over `part` images at a time."""
    rows = _Rows(x, part)
    partial = scratch(rows.tiles * rows.parts, x)
    channel_statistics[rows.grid](
        x, partial, rows.rows, rows.tiles, partial.shape[1], x.shape[1], **_SIZES
    )
    return finished(partial, rows.parts, gamma, beta, eps)


def finished(partial: Tensor, parts: int, gamma: Tensor, beta: Tensor, eps: float) -> Norm:
    """From partial statistics, whose tiles lie part by part."""
    _, tiles, channels = partial.shape
    norm = Norm(partial.new_empty(3, parts, channels), partial.new_empty(parts, channels))
    finish_statistics[(triton.cdiv(channels, int(_MERGE["CB"])), parts)](
        partial, gamma, beta, norm.coefficients, norm.variance,
        tiles // parts, tiles, parts, channels, eps, **_MERGE,
    )  # fmt: skip
    return norm


def applied(x: Tensor, part: int, coefficients: Tensor, other: Tensor | None = None) -> Tensor:
    """relu(a * x + b), or a * x + b * other + c."""
    rows, out = _Rows(x, part), torch.empty_like(x)
    apply[rows.grid](
        x, x if other is None else other, coefficients, out,
        rows.rows, rows.tiles, rows.parts, x.shape[1],
        MODE=1 if other is None else 2, **_SIZES,
    )  # fmt: skip
    return out


def masked(dz: Tensor, y: Tensor, part: int, norm: Norm) -> tuple[Tensor, Tensor]:
    """The gradient behind relu(norm(y)) in front of the ReLU, and its partial sums."""
    rows, out = _Rows(dz, part), torch.empty_like(dz)
    partial = scratch(rows.tiles * rows.parts, dz)
    mask_and_sum[rows.grid](
        dz, y, norm.coefficients, out, partial,
        rows.rows, rows.tiles, partial.shape[1], rows.parts, dz.shape[1], **_SIZES,
    )  # fmt: skip
    return out, partial


def gradient(
    partial: Tensor, norm: Norm, gamma: Tensor, count: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of the gradient in front of a norm, and those of gamma and beta.

    `count` is the number of pixels of a part.
    """
    _, tiles, channels = partial.shape
    parts = len(norm.variance)
    out = torch.empty_like(norm.coefficients)
    dgamma, dbeta = torch.empty_like(gamma), torch.empty_like(gamma)
    finish_gradient[(triton.cdiv(channels, int(_MERGE["CB"])),)](
        partial, gamma, norm.coefficients, norm.variance, out, dgamma, dbeta,
        tiles // parts, tiles, parts, channels, float(count), eps, **_MERGE,
    )  # fmt: skip
    return out, dgamma, dbeta
