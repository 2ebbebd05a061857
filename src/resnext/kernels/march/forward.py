"""The grouped 3x3 itself, strides 1 and 2; with other weights also the input gradient of stride 1.

Program (channels, strip of rows x columns, images). `NI` images x `QT` columns are one tile of M.
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
def forward(
    X, X2, COEF, WP, Y, Z, COEF2, PARTIAL, N, H, W, C, PART, PARTS,
    B: tl.constexpr, BLOCKS: tl.constexpr, NI: tl.constexpr, QT: tl.constexpr, PH: tl.constexpr,
    PROLOGUE: tl.constexpr, EPILOGUE: tl.constexpr, UP: tl.constexpr,
):  # fmt: skip
    """Y is as large as X. Three rows of sums are under way while X is read once."""
    M: tl.constexpr = NI * QT
    strip = tl.program_id(1)
    columns = tl.cdiv(W, QT)
    p0 = (strip // columns) * PH
    m = tl.arange(0, M)
    n = tl.program_id(2) * NI + m // QT
    q = (strip % columns) * QT + m % QT
    ch = channels(BLOCKS, B)
    part = (tl.program_id(2) * NI) // PART
    c0, c1, c2 = coefficients(COEF, ch, part, PARTS, C, PROLOGUE)
    e0, e1, e2 = coefficients(COEF2, ch, part, PARTS, C, EPILOGUE // 2)
    w00, w01, w02 = taps(WP, 0, BLOCKS, B, UP)
    w10, w11, w12 = taps(WP, 1, BLOCKS, B, UP)
    w20, w21, w22 = taps(WP, 2, BLOCKS, B, UP)
    nok = n < N
    n = tl.minimum(n, N - 1)  # addresses stay inside also where nothing is read
    s1 = tl.zeros((BLOCKS, 8, B), tl.float32)
    s2 = tl.zeros((BLOCKS, 8, B), tl.float32)
    before = tl.zeros((BLOCKS, M, B), tl.float32)  # output row y - 1
    here = tl.zeros((BLOCKS, M, B), tl.float32)  # output row y
    low = tl.maximum(p0 - 1, 0)
    high = tl.minimum(p0 + PH + 1, H)
    for y in range(low, high):
        row = (n * H + y) * W
        behind = tl.zeros((BLOCKS, M, B), tl.float32)  # output row y + 1
        a = operand(X, X2, ch, row, q - 1, nok, W, C, c0, c1, c2, PROLOGUE, UP)
        before = product(a, w20, before)
        here = product(a, w10, here)
        behind = product(a, w00, behind)
        a = operand(X, X2, ch, row, q, nok, W, C, c0, c1, c2, PROLOGUE, UP)
        before = product(a, w21, before)
        here = product(a, w11, here)
        behind = product(a, w01, behind)
        a = operand(X, X2, ch, row, q + 1, nok, W, C, c0, c1, c2, PROLOGUE, UP)
        before = product(a, w22, before)
        here = product(a, w12, here)
        behind = product(a, w02, behind)
        done = nok & (tl.zeros((M,), tl.int32) + y - 1 >= p0)
        s1, s2 = emit(before, s1, s2, Y, Z, ch, row - W, q, done, W, C, e0, e1, e2, EPILOGUE)
        before = here
        here = behind
    last = nok & (tl.zeros((M,), tl.int32) + p0 + PH >= H)  # the strip ends with the image
    row = (n * H + H - 1) * W
    s1, s2 = emit(before, s1, s2, Y, Z, ch, row, q, last, W, C, e0, e1, e2, EPILOGUE)
    if EPILOGUE != 0:
        rows = tl.minimum(p0 + PH, H) - p0
        count = tl.sum((nok & (q < W)).to(tl.float32), 0) * rows
        tile = tl.program_id(2) * tl.num_programs(1) + strip
        tiles = tl.num_programs(1) * tl.num_programs(2)
        store_sums(PARTIAL, s1, s2, count, tile, tiles, C, BLOCKS, B, EPILOGUE)


@triton.jit
def forward_stride2(
    X, X2, COEF, WP, Y, Z, COEF2, PARTIAL, N, H, W, C, PART, PARTS,
    B: tl.constexpr, BLOCKS: tl.constexpr, NI: tl.constexpr, QT: tl.constexpr, PH: tl.constexpr,
    PROLOGUE: tl.constexpr, EPILOGUE: tl.constexpr, UP: tl.constexpr,
):  # fmt: skip
    """Y has (H + 1) // 2 rows. Input row 2p ends in row p; 2p + 1 also begins row p + 1."""
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
    w00, w01, w02 = taps(WP, 0, BLOCKS, B, UP)
    w10, w11, w12 = taps(WP, 1, BLOCKS, B, UP)
    w20, w21, w22 = taps(WP, 2, BLOCKS, B, UP)
    nok = n < N
    n = tl.minimum(n, N - 1)  # addresses stay inside also where nothing is read
    s1 = tl.zeros((BLOCKS, 8, B), tl.float32)
    s2 = tl.zeros((BLOCKS, 8, B), tl.float32)
    here = tl.zeros((BLOCKS, M, B), tl.float32)
    above = nok & (tl.zeros((M,), tl.int32) + p0 > 0)
    row = (n * H + tl.maximum(2 * p0 - 1, 0)) * W
    a = operand(X, X2, ch, row, 2 * q - 1, above, W, C, c0, c1, c2, PROLOGUE, UP)
    here = product(a, w00, here)
    a = operand(X, X2, ch, row, 2 * q, above, W, C, c0, c1, c2, PROLOGUE, UP)
    here = product(a, w01, here)
    a = operand(X, X2, ch, row, 2 * q + 1, above, W, C, c0, c1, c2, PROLOGUE, UP)
    here = product(a, w02, here)
    for p in range(p0, tl.minimum(p0 + PH, P)):
        row = (n * H + 2 * p) * W
        a = operand(X, X2, ch, row, 2 * q - 1, nok, W, C, c0, c1, c2, PROLOGUE, UP)
        here = product(a, w10, here)
        a = operand(X, X2, ch, row, 2 * q, nok, W, C, c0, c1, c2, PROLOGUE, UP)
        here = product(a, w11, here)
        a = operand(X, X2, ch, row, 2 * q + 1, nok, W, C, c0, c1, c2, PROLOGUE, UP)
        here = product(a, w12, here)
        odd = tl.zeros((M,), tl.int32) + 2 * p + 1
        ok = nok & (odd < H)
        row = (n * H + tl.where(ok, odd, 0)) * W
        behind = tl.zeros((BLOCKS, M, B), tl.float32)
        a = operand(X, X2, ch, row, 2 * q - 1, ok, W, C, c0, c1, c2, PROLOGUE, UP)
        here = product(a, w20, here)
        behind = product(a, w00, behind)
        a = operand(X, X2, ch, row, 2 * q, ok, W, C, c0, c1, c2, PROLOGUE, UP)
        here = product(a, w21, here)
        behind = product(a, w01, behind)
        a = operand(X, X2, ch, row, 2 * q + 1, ok, W, C, c0, c1, c2, PROLOGUE, UP)
        here = product(a, w22, here)
        behind = product(a, w02, behind)
        row = (n * P + p) * Q
        s1, s2 = emit(here, s1, s2, Y, Z, ch, row, q, nok, Q, C, 0.0, 0.0, 0.0, EPILOGUE)
        here = behind
    if EPILOGUE != 0:
        rows = tl.minimum(p0 + PH, P) - p0
        count = tl.sum((nok & (q < Q)).to(tl.float32), 0) * rows
        tile = tl.program_id(2) * tl.num_programs(1) + strip
        tiles = tl.num_programs(1) * tl.num_programs(2)
        store_sums(PARTIAL, s1, s2, count, tile, tiles, C, BLOCKS, B, EPILOGUE)
