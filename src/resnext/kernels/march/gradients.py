"""Gradients of the grouped 3x3: of the input at stride 2, of the weights at strides 1 and 2.

The input gradient at stride 1 is `forward` with weights packed for it.
"""

import triton
import triton.language as tl

from resnext.kernels.march.tiles import (
    channels,
    coefficients,
    emit,
    operand,
    product,
    store_sums,
    taps,
)


@triton.jit
def input_gradient_stride2(
    DY, DY2, COEF, WP, DX, Z, COEF2, PARTIAL, N, H, W, C, PART, PARTS,
    B: tl.constexpr, BLOCKS: tl.constexpr, NI: tl.constexpr, QT: tl.constexpr, PH: tl.constexpr,
    PROLOGUE: tl.constexpr, EPILOGUE: tl.constexpr, UP: tl.constexpr,
):  # fmt: skip
    """DX has H x W pixels, DY half of them; a pixel of DY meets 2 x 2 of DX: 1, 2, 2 and 4 taps.

    WP is packed for the input gradient: kernel row r and column s lie at 2 - r and 2 - s.
    """
    M: tl.constexpr = NI * QT
    P = (H + 1) // 2
    Q = (W + 1) // 2
    strip = tl.program_id(1)
    columns = tl.cdiv(Q, QT)
    p0 = (strip // columns) * PH
    m = tl.arange(0, M)
    n = tl.program_id(2) * NI + m // QT
    q = (strip % columns) * QT + m % QT
    ch = channels(BLOCKS, B)
    part = (tl.program_id(2) * NI) // PART
    c0, c1, c2 = coefficients(COEF, ch, part, PARTS, C, PROLOGUE)
    e0, e1, e2 = coefficients(COEF2, ch, part, PARTS, C, EPILOGUE // 2)
    w22, w21, w20 = taps(WP, 0, BLOCKS, B, UP)
    w12, w11, w10 = taps(WP, 1, BLOCKS, B, UP)
    w02, w01, w00 = taps(WP, 2, BLOCKS, B, UP)
    nok = n < N
    n = tl.minimum(n, N - 1)  # addresses stay inside also where nothing is read
    s1 = tl.zeros((BLOCKS, 8, B), tl.float32)
    s2 = tl.zeros((BLOCKS, 8, B), tl.float32)
    for p in range(p0, tl.minimum(p0 + PH, P)):
        row = (n * P + p) * Q
        even_even = tl.zeros((BLOCKS, M, B), tl.float32)
        even_odd = tl.zeros((BLOCKS, M, B), tl.float32)
        odd_even = tl.zeros((BLOCKS, M, B), tl.float32)
        odd_odd = tl.zeros((BLOCKS, M, B), tl.float32)
        d = operand(DY, DY2, ch, row, q, nok, Q, C, c0, c1, c2, PROLOGUE, UP)
        even_even = product(d, w11, even_even)
        even_odd = product(d, w12, even_odd)
        odd_even = product(d, w21, odd_even)
        odd_odd = product(d, w22, odd_odd)
        d = operand(DY, DY2, ch, row, q + 1, nok, Q, C, c0, c1, c2, PROLOGUE, UP)
        even_odd = product(d, w10, even_odd)
        odd_odd = product(d, w20, odd_odd)
        below = tl.zeros((M,), tl.int32) + p + 1
        ok = nok & (below < P)
        row = (n * P + tl.where(ok, below, 0)) * Q
        d = operand(DY, DY2, ch, row, q, ok, Q, C, c0, c1, c2, PROLOGUE, UP)
        odd_even = product(d, w01, odd_even)
        odd_odd = product(d, w02, odd_odd)
        d = operand(DY, DY2, ch, row, q + 1, ok, Q, C, c0, c1, c2, PROLOGUE, UP)
        odd_odd = product(d, w00, odd_odd)
        x = 2 * q
        row = (n * H + 2 * p) * W
        s1, s2 = emit(even_even, s1, s2, DX, Z, ch, row, x, nok, W, C, e0, e1, e2, EPILOGUE)
        s1, s2 = emit(even_odd, s1, s2, DX, Z, ch, row, x + 1, nok, W, C, e0, e1, e2, EPILOGUE)
        ok = nok & (tl.zeros((M,), tl.int32) + 2 * p + 1 < H)
        row = row + W
        s1, s2 = emit(odd_even, s1, s2, DX, Z, ch, row, x, ok, W, C, e0, e1, e2, EPILOGUE)
        s1, s2 = emit(odd_odd, s1, s2, DX, Z, ch, row, x + 1, ok, W, C, e0, e1, e2, EPILOGUE)
    if EPILOGUE != 0:
        tile = tl.program_id(2) * tl.num_programs(1) + strip
        tiles = tl.num_programs(1) * tl.num_programs(2)
        store_sums(PARTIAL, s1, s2, 0.0, tile, tiles, C, BLOCKS, B, EPILOGUE)


@triton.jit
def _store_tap(SLICES, acc, tap, C, G: tl.constexpr, B: tl.constexpr, BLOCKS: tl.constexpr):
    """The diagonal blocks of [blocks, B in, B out] to [slices, 9, in of the group, C out]."""
    b = tl.arange(0, B)
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    out = block[:, None, None] * B + b[None, None, :]
    same = (b[None, :, None] // G == b[None, None, :] // G) & (out < C)
    at = ((tl.program_id(1) * 9 + tap) * G + b[None, :, None] % G) * C + out
    tl.store(SLICES + at, acc, mask=same)


@triton.jit
def weight_gradient(
    X, COEF, DY, DY2, COEF2, SLICES, N, H, W, C, TILES, PART, PARTS,
    G: tl.constexpr, B: tl.constexpr, BLOCKS: tl.constexpr, NI: tl.constexpr, QT: tl.constexpr,
    STRIDE: tl.constexpr, PROLOGUE: tl.constexpr, PROLOGUE2: tl.constexpr, UP: tl.constexpr,
):  # fmt: skip
    """All nine taps over a slice of the images, `TILES` times `NI`; program (channels, slice)."""
    M: tl.constexpr = NI * QT
    P = (H + STRIDE - 1) // STRIDE
    Q = (W + STRIDE - 1) // STRIDE
    m = tl.arange(0, M)
    ch = channels(BLOCKS, B)
    zero = tl.zeros((M,), tl.int32)
    a00 = tl.zeros((BLOCKS, B, B), tl.float32)
    a01 = a00
    a02 = a00
    a10 = a00
    a11 = a00
    a12 = a00
    a20 = a00
    a21 = a00
    a22 = a00
    for t in range(0, TILES):
        first = (tl.program_id(1) * TILES + t) * NI
        part = tl.minimum(first // PART, PARTS - 1)
        c0, c1, c2 = coefficients(COEF, ch, part, PARTS, C, PROLOGUE)
        e0, e1, e2 = coefficients(COEF2, ch, part, PARTS, C, PROLOGUE2)
        n = first + m // QT
        nok = n < N
        n = tl.minimum(n, N - 1)
        for q0 in range(0, Q, QT):
            q = q0 + m % QT
            for p in range(0, P):
                if STRIDE == 1:  # three inputs of one row, three gradients of one column
                    y0 = zero + p - 1
                    y2 = zero + p + 1
                    k0 = nok & (y0 >= 0)
                    k2 = nok & (y2 < H)
                    row = (n * H + p) * W
                    row0 = (n * H + tl.where(k0, y0, 0)) * W
                    row2 = (n * H + tl.where(k2, y2, 0)) * W
                    d1 = operand(DY, DY2, ch, row, q, nok, W, C, e0, e1, e2, PROLOGUE2, UP)
                    d0 = operand(DY, DY2, ch, row2, q, k2, W, C, e0, e1, e2, PROLOGUE2, UP)
                    d2 = operand(DY, DY2, ch, row0, q, k0, W, C, e0, e1, e2, PROLOGUE2, UP)
                    x = operand(X, X, ch, row, q - 1, nok, W, C, c0, c1, c2, PROLOGUE, UP)
                    x = tl.trans(x, (0, 2, 1))
                    a00 = product(x, d0, a00)
                    a10 = product(x, d1, a10)
                    a20 = product(x, d2, a20)
                    x = operand(X, X, ch, row, q, nok, W, C, c0, c1, c2, PROLOGUE, UP)
                    x = tl.trans(x, (0, 2, 1))
                    a01 = product(x, d0, a01)
                    a11 = product(x, d1, a11)
                    a21 = product(x, d2, a21)
                    x = operand(X, X, ch, row, q + 1, nok, W, C, c0, c1, c2, PROLOGUE, UP)
                    x = tl.trans(x, (0, 2, 1))
                    a02 = product(x, d0, a02)
                    a12 = product(x, d1, a12)
                    a22 = product(x, d2, a22)
                else:  # nine inputs, one gradient
                    drow = (n * P + p) * Q
                    d = operand(DY, DY2, ch, drow, q, nok, Q, C, e0, e1, e2, PROLOGUE2, UP)
                    a00, a01, a02 = _three(
                        a00, a01, a02, d, X, ch, n, 2 * p - 1, q, nok, H, W, C, c0, c1, c2,
                        2, PROLOGUE, UP,
                    )  # fmt: skip
                    a10, a11, a12 = _three(
                        a10, a11, a12, d, X, ch, n, 2 * p, q, nok, H, W, C, c0, c1, c2,
                        2, PROLOGUE, UP,
                    )  # fmt: skip
                    a20, a21, a22 = _three(
                        a20, a21, a22, d, X, ch, n, 2 * p + 1, q, nok, H, W, C, c0, c1, c2,
                        2, PROLOGUE, UP,
                    )  # fmt: skip
    _store_tap(SLICES, a00, 0, C, G, B, BLOCKS)
    _store_tap(SLICES, a01, 1, C, G, B, BLOCKS)
    _store_tap(SLICES, a02, 2, C, G, B, BLOCKS)
    _store_tap(SLICES, a10, 3, C, G, B, BLOCKS)
    _store_tap(SLICES, a11, 4, C, G, B, BLOCKS)
    _store_tap(SLICES, a12, 5, C, G, B, BLOCKS)
    _store_tap(SLICES, a20, 6, C, G, B, BLOCKS)
    _store_tap(SLICES, a21, 7, C, G, B, BLOCKS)
    _store_tap(SLICES, a22, 8, C, G, B, BLOCKS)


@triton.jit
def _three(
    a0, a1, a2, d, X, ch, n, y, q, nok, H, W, C, c0, c1, c2,
    STRIDE: tl.constexpr, PROLOGUE: tl.constexpr, UP: tl.constexpr,
):  # fmt: skip
    """Three taps of one kernel row: input row y against the gradient d."""
    yv = tl.zeros_like(n) + y
    ok = nok & (yv >= 0) & (yv < H)
    row = (n * H + tl.where(ok, yv, 0)) * W
    x = operand(X, X, ch, row, STRIDE * q - 1, ok, W, C, c0, c1, c2, PROLOGUE, UP)
    a0 = product(tl.trans(x, (0, 2, 1)), d, a0)
    x = operand(X, X, ch, row, STRIDE * q, ok, W, C, c0, c1, c2, PROLOGUE, UP)
    a1 = product(tl.trans(x, (0, 2, 1)), d, a1)
    x = operand(X, X, ch, row, STRIDE * q + 1, ok, W, C, c0, c1, c2, PROLOGUE, UP)
    a2 = product(tl.trans(x, (0, 2, 1)), d, a2)
    return a0, a1, a2


@triton.jit
def weight_gradient_row(
    X, COEF, DY, DY2, COEF2, SLICES, N, H, W, C, TILES, PART, PARTS,
    G: tl.constexpr, B: tl.constexpr, BLOCKS: tl.constexpr, NI: tl.constexpr, QT: tl.constexpr,
    STRIDE: tl.constexpr, PROLOGUE: tl.constexpr, PROLOGUE2: tl.constexpr, UP: tl.constexpr,
):  # fmt: skip
    """The three taps of kernel row `program_id(2)`: nine blocks of 64 x 64 do not fit registers."""
    M: tl.constexpr = NI * QT
    P = (H + STRIDE - 1) // STRIDE
    Q = (W + STRIDE - 1) // STRIDE
    r = tl.program_id(2)
    m = tl.arange(0, M)
    ch = channels(BLOCKS, B)
    a0 = tl.zeros((BLOCKS, B, B), tl.float32)
    a1 = a0
    a2 = a0
    for t in range(0, TILES):
        first = (tl.program_id(1) * TILES + t) * NI
        part = tl.minimum(first // PART, PARTS - 1)
        c0, c1, c2 = coefficients(COEF, ch, part, PARTS, C, PROLOGUE)
        e0, e1, e2 = coefficients(COEF2, ch, part, PARTS, C, PROLOGUE2)
        n = first + m // QT
        nok = n < N
        n = tl.minimum(n, N - 1)
        for q0 in range(0, Q, QT):
            q = q0 + m % QT
            for p in range(0, P):
                row = (n * P + p) * Q
                d = operand(DY, DY2, ch, row, q, nok, Q, C, e0, e1, e2, PROLOGUE2, UP)
                a0, a1, a2 = _three(
                    a0, a1, a2, d, X, ch, n, STRIDE * p + r - 1, q, nok, H, W, C, c0, c1, c2,
                    STRIDE, PROLOGUE, UP,
                )  # fmt: skip
    _store_tap(SLICES, a0, 3 * r, C, G, B, BLOCKS)
    _store_tap(SLICES, a1, 3 * r + 1, C, G, B, BLOCKS)
    _store_tap(SLICES, a2, 3 * r + 2, C, G, B, BLOCKS)
