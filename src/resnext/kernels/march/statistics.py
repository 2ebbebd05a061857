"""What normalisation needs around the convolution: sums per channel, and what is done to a map.

Maps are [rows, C] in memory, a row being a pixel. Rows are cut into tiles of `ROWS`, which never
reach from one part of the batch into the next: a part is what is normalised together.
"""

import triton
import triton.language as tl

from resnext.kernels.march.tiles import relu


@triton.jit
def _channels(C, CB: tl.constexpr):
    c = tl.program_id(0) * CB + tl.arange(0, CB)
    return c, c < C


@triton.jit
def _first_row(tile, tiles_of_part, rows_of_part, ROWS: tl.constexpr):
    """The first row of a tile, and the end of its part."""
    part = tile // tiles_of_part
    return part * rows_of_part + (tile % tiles_of_part) * ROWS, (part + 1) * rows_of_part


@triton.jit
def channel_statistics(
    X, PARTIAL, rows_of_part, tiles_of_part, tiles, C,
    ROWS: tl.constexpr, R: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Count, mean and squares about it of each tile: [3, tiles, C]. Program (channels, tile).

    Sums are of differences to the tile's first pixel, so that a large mean does not drown them.
    """
    tile = tl.program_id(1)
    c, cok = _channels(C, CB)
    first, end = _first_row(tile, tiles_of_part, rows_of_part, ROWS)
    origin = tl.load(X + first * C + c, mask=cok, other=0.0).to(tl.float32)
    s1 = tl.zeros((R, CB), tl.float32)
    s2 = tl.zeros((R, CB), tl.float32)
    for step in range(0, ROWS // R):
        row = first + step * R + tl.arange(0, R)
        ok = (row < end)[:, None] & cok[None, :]
        x = tl.load(X + row[:, None] * C + c[None, :], mask=ok, other=0.0).to(tl.float32)
        x = tl.where(ok, x - origin[None, :], 0.0)
        s1 += x
        s2 += x * x
    count = tl.minimum(end - first, ROWS).to(tl.float32)
    total = tl.sum(s1, 0)
    mean = total / count
    at = PARTIAL + tile * C + c
    tl.store(at, count + tl.zeros_like(total), mask=cok)
    tl.store(at + tiles * C, origin + mean, mask=cok)
    tl.store(at + 2 * tiles * C, tl.sum(s2, 0) - total * mean, mask=cok)


@triton.jit
def finish_statistics(
    PARTIAL, GAMMA, BETA, COEF, VAR, tiles_of_part, tiles, parts, C, eps,
    TB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Tiles of each part merged by Chan's formula: never a difference of two large sums.

    COEF is [3, parts, C]: a and b of a * x + b, and the mean. Program (channels, part).
    """
    part = tl.program_id(1)
    c, cok = _channels(C, CB)
    count = tl.zeros((CB,), tl.float32)
    total = tl.zeros((CB,), tl.float32)
    for step in range(0, tl.cdiv(tiles_of_part, TB)):
        tile = step * TB + tl.arange(0, TB)
        ok = (tile < tiles_of_part)[:, None] & cok[None, :]
        at = PARTIAL + (part * tiles_of_part + tile)[:, None] * C + c[None, :]
        n = tl.load(at, mask=ok, other=0.0)
        count += tl.sum(n, 0)
        total += tl.sum(n * tl.load(at + tiles * C, mask=ok, other=0.0), 0)
    mean = total / tl.maximum(count, 1.0)
    squares = tl.zeros((CB,), tl.float32)
    for step in range(0, tl.cdiv(tiles_of_part, TB)):
        tile = step * TB + tl.arange(0, TB)
        ok = (tile < tiles_of_part)[:, None] & cok[None, :]
        at = PARTIAL + (part * tiles_of_part + tile)[:, None] * C + c[None, :]
        n = tl.load(at, mask=ok, other=0.0)
        off = tl.load(at + tiles * C, mask=ok, other=0.0) - mean[None, :]
        inner = tl.load(at + 2 * tiles * C, mask=ok, other=0.0)
        squares += tl.sum(inner + n * off * off, 0)
    var = relu(squares / tl.maximum(count, 1.0))  # rounding takes that of a constant below zero
    a = tl.load(GAMMA + c, mask=cok, other=0.0).to(tl.float32) / tl.sqrt(var + eps)
    b = tl.load(BETA + c, mask=cok, other=0.0).to(tl.float32) - mean * a
    at = part * C + c
    tl.store(COEF + at, a, mask=cok)
    tl.store(COEF + parts * C + at, b, mask=cok)
    tl.store(COEF + 2 * parts * C + at, mean, mask=cok)
    tl.store(VAR + at, var, mask=cok)


@triton.jit
def apply(
    X, Q, COEF, OUT, rows_of_part, tiles_of_part, parts, C,
    MODE: tl.constexpr, ROWS: tl.constexpr, R: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Mode 1: relu(a * x + b). Mode 2: a * x + b * q + c. Program (channels, tile)."""
    tile = tl.program_id(1)
    c, cok = _channels(C, CB)
    first, end = _first_row(tile, tiles_of_part, rows_of_part, ROWS)
    at = COEF + (tile // tiles_of_part) * C + c
    c0 = tl.load(at, mask=cok, other=0.0)[None, :]
    c1 = tl.load(at + parts * C, mask=cok, other=0.0)[None, :]
    c2 = tl.load(at + 2 * parts * C, mask=cok, other=0.0)[None, :]
    for step in range(0, ROWS // R):
        row = first + step * R + tl.arange(0, R)
        ok = (row < end)[:, None] & cok[None, :]
        offset = row[:, None] * C + c[None, :]
        x = tl.load(X + offset, mask=ok, other=0.0).to(tl.float32)
        if MODE == 1:
            out = relu(x * c0 + c1)
        else:
            q = tl.load(Q + offset, mask=ok, other=0.0).to(tl.float32)
            out = x * c0 + q * c1 + c2
        tl.store(OUT + offset, out.to(OUT.dtype.element_ty), mask=ok)


@triton.jit
def mask_and_sum(
    DZ, Y, COEF, OUT, PARTIAL, rows_of_part, tiles_of_part, tiles, parts, C,
    ROWS: tl.constexpr, R: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """DZ where relu(a * y + b) let it through; sums of it and of it times (y - mean), per tile."""
    tile = tl.program_id(1)
    c, cok = _channels(C, CB)
    first, end = _first_row(tile, tiles_of_part, rows_of_part, ROWS)
    at = COEF + (tile // tiles_of_part) * C + c
    a = tl.load(at, mask=cok, other=0.0)[None, :]
    b = tl.load(at + parts * C, mask=cok, other=0.0)[None, :]
    mean = tl.load(at + 2 * parts * C, mask=cok, other=0.0)[None, :]
    s1 = tl.zeros((R, CB), tl.float32)
    s2 = tl.zeros((R, CB), tl.float32)
    for step in range(0, ROWS // R):
        row = first + step * R + tl.arange(0, R)
        ok = (row < end)[:, None] & cok[None, :]
        offset = row[:, None] * C + c[None, :]
        y = tl.load(Y + offset, mask=ok, other=0.0).to(tl.float32)
        d = tl.load(DZ + offset, mask=ok, other=0.0).to(tl.float32)
        d = tl.where(y * a + b > 0.0, d, 0.0)
        tl.store(OUT + offset, d.to(OUT.dtype.element_ty), mask=ok)
        s1 += d
        s2 += d * (y - mean)
    to = PARTIAL + tile * C + c
    tl.store(to, tl.sum(s1, 0), mask=cok)
    tl.store(to + tiles * C, tl.sum(s2, 0), mask=cok)


@triton.jit
def finish_gradient(
    PARTIAL, GAMMA, COEF, VAR, OUT, DGAMMA, DBETA, tiles_of_part, tiles, parts, C, count, eps,
    TB: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """From sums to OUT [3, parts, C] of c0 * dz + c1 * y + c2, the gradient in front of the norm.

    With s1 and s2 the sums of dz and dz * (y - mean) over the `count` pixels of a part, and r the
    inverse deviation: c0 = gamma r, c1 = -gamma r^3 s2 / count, c2 = -gamma r s1 / count - c1 mean.
    Program (channels).
    """
    c, cok = _channels(C, CB)
    gamma = tl.load(GAMMA + c, mask=cok, other=0.0).to(tl.float32)
    dgamma = tl.zeros((CB,), tl.float32)
    dbeta = tl.zeros((CB,), tl.float32)
    for part in range(0, parts):
        s1 = tl.zeros((CB,), tl.float32)
        s2 = tl.zeros((CB,), tl.float32)
        for step in range(0, tl.cdiv(tiles_of_part, TB)):
            tile = step * TB + tl.arange(0, TB)
            ok = (tile < tiles_of_part)[:, None] & cok[None, :]
            at = PARTIAL + (part * tiles_of_part + tile)[:, None] * C + c[None, :]
            s1 += tl.sum(tl.load(at, mask=ok, other=0.0), 0)
            s2 += tl.sum(tl.load(at + tiles * C, mask=ok, other=0.0), 0)
        to = part * C + c
        mean = tl.load(COEF + 2 * parts * C + to, mask=cok, other=0.0)
        r = 1.0 / tl.sqrt(tl.load(VAR + to, mask=cok, other=0.0) + eps)
        c0 = gamma * r
        c1 = -c0 * r * r * s2 / count
        tl.store(OUT + to, c0, mask=cok)
        tl.store(OUT + parts * C + to, c1, mask=cok)
        tl.store(OUT + 2 * parts * C + to, -c0 * s1 / count - c1 * mean, mask=cok)
        dgamma += r * s2
        dbeta += s1
    tl.store(DGAMMA + c, dgamma, mask=cok)
    tl.store(DBETA + c, dbeta, mask=cok)
