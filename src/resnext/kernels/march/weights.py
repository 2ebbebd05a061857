"""Weights in the order that the kernels read them, and their gradient back in torch's."""

import triton
import triton.language as tl


@triton.jit
def pack(
    WEIGHT, WP, total, s_out, s_in, s_row, s_col,
    G: tl.constexpr, B: tl.constexpr, TRANSPOSED: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """[C, G, 3, 3] of any strides and dtype -> [C / B, 9, B in, B out], block-diagonal.

    Transposed: the weights of the input gradient, taps reversed, in and out exchanged.
    """
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    column = at % B
    row = (at // B) % B
    tap = (at // (B * B)) % 9
    block = at // (9 * B * B)
    if TRANSPOSED:
        out = row
        into = column
        tap = 8 - tap
    else:
        out = column
        into = row
    same = (out // G == into // G) & (at < total)
    source = (block * B + out) * s_out + (into % G) * s_in + (tap // 3) * s_row + (tap % 3) * s_col
    value = tl.load(WEIGHT + source, mask=same, other=0.0)
    tl.store(WP + at, value.to(WP.dtype.element_ty), mask=at < total)


@triton.jit
def sum_slices(
    SLICES, DW, slices, total, C, s_out, s_in, s_row, s_col, G: tl.constexpr, SIZE: tl.constexpr
):
    """[slices, 9, G, C] -> [C, G, 3, 3] of any strides; always in the same order."""
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = at < total
    acc = tl.zeros((SIZE,), tl.float32)
    for number in range(0, slices):
        acc += tl.load(SLICES + number * total + at, mask=inside, other=0.0)
    out = at % C
    into = (at // C) % G
    tap = at // (C * G)
    target = out * s_out + into * s_in + (tap // 3) * s_row + (tap % 3) * s_col
    tl.store(DW + target, acc.to(DW.dtype.element_ty), mask=inside)
