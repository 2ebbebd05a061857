"""Pieces that all kernels are made of: tiles of pixels and of weights, what is done on loading.

A tile is [blocks, M pixels, B channels]; the product of one block is the work of one warp.
"""

import triton
import triton.language as tl


@triton.jit
def channels(BLOCKS: tl.constexpr, B: tl.constexpr):
    """Numbers of this program's channels, [blocks, 1, B]."""
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    return block[:, None, None] * B + tl.arange(0, B)[None, None, :]


@triton.jit
def pixels(P, ch, row, col, ok, W, C):
    """Pixels (row, col), zeros outside, and which of them lie inside.

    The coordinate is clamped, never the offset: `tl.where` on an offset hides that it is a multiple
    of C, and one load of 16 bytes becomes eight of two.
    """
    inside = ok & (col >= 0) & (col < W)
    offset = (row + tl.where(inside, col, 0)) * C
    return tl.load(P + ch + offset[None, :, None], mask=inside[None, :, None], other=0.0), inside


@triton.jit
def coefficients(P, ch, part, parts, C, MODE: tl.constexpr):
    """What `operand` multiplies and adds, from [3, parts, C]: of one part of a batch."""
    c0 = 0.0
    c1 = 0.0
    c2 = 0.0
    if MODE != 0:
        c0 = tl.load(P + part * C + ch)
        c1 = tl.load(P + (parts + part) * C + ch)
        c2 = tl.load(P + (2 * parts + part) * C + ch)
    return c0, c1, c2


@triton.jit
def relu(x):
    """What is no number stays none, as in the framework: hardware's usual maximum drops it."""
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def operand(P, Q, ch, row, col, ok, W, C, c0, c1, c2, MODE: tl.constexpr, UP: tl.constexpr):
    """Pixels ready for a product.

    Mode 0: as they lie in memory. Mode 1: relu(c0 * x + c1), the normalisation and the ReLU in
    front of the convolution. Mode 2: c0 * x + c1 * y + c2, the gradient in front of the
    normalisation behind it; x is the masked gradient, y the norm's input. Padding is zero behind
    all this, not in front of it.
    """
    x, inside = pixels(P, ch, row, col, ok, W, C)
    if MODE == 1:
        normal = relu(x.to(tl.float32) * c0 + c1)
        x = tl.where(inside[None, :, None], normal, 0.0).to(P.dtype.element_ty)
    if MODE == 2:
        y, _ = pixels(Q, ch, row, col, ok, W, C)
        gradient = x.to(tl.float32) * c0 + y.to(tl.float32) * c1 + c2
        x = tl.where(inside[None, :, None], gradient, 0.0).to(P.dtype.element_ty)
    if UP:  # the interpreter multiplies the bits of bfloat16
        x = x.to(tl.float32)
    return x


@triton.jit
def taps(WP, r, BLOCKS: tl.constexpr, B: tl.constexpr, UP: tl.constexpr):
    """The three weights of kernel row r, each [blocks, B in, B out], of weights from `pack`."""
    b = tl.arange(0, B)
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    inner = b[None, :, None] * B + b[None, None, :]
    base = WP + block[:, None, None] * (9 * B * B) + r * (3 * B * B) + inner
    w0 = tl.load(base)
    w1 = tl.load(base + B * B)
    w2 = tl.load(base + 2 * B * B)
    if UP:
        w0 = w0.to(tl.float32)
        w1 = w1.to(tl.float32)
        w2 = w2.to(tl.float32)
    return w0, w1, w2


@triton.jit
def product(a, b, acc):
    """Add a b to acc in float32; float32 operands are not rounded to fewer bits."""
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def emit(acc, s1, s2, Y, Z, ch, row, col, ok, W, C, e0, e1, e2, EPILOGUE: tl.constexpr):
    """Store a tile of results; what is summed per channel is added to s1 and s2, [blocks, 8, B].

    Epilogue 1 sums acc and acc squared, before they are rounded. Epilogue 2 first sets acc to zero
    where relu(e0 * z + e1) was, then sums acc and acc * (z - e2): all that the gradient of the
    normalisation needs.
    """
    inside = (ok & (col >= 0) & (col < W))[None, :, None]
    offset = ((row + col) * C)[None, :, None]
    if EPILOGUE == 2:
        z = tl.load(Z + ch + offset, mask=inside, other=0.0).to(tl.float32)
        acc = tl.where(z * e0 + e1 > 0.0, acc, 0.0)
        kept = tl.where(inside, acc, 0.0)
        s1 += _eighths(kept)
        s2 += _eighths(kept * (z - e2))
    if EPILOGUE == 1:
        kept = tl.where(inside, acc, 0.0)
        s1 += _eighths(kept)
        s2 += _eighths(kept * kept)
    tl.store(Y + ch + offset, acc.to(Y.dtype.element_ty), mask=inside)
    return s1, s2


@triton.jit
def _eighths(x):
    """[blocks, M, B] summed to [blocks, 8, B]: inside registers; lanes meet once, at the end."""
    return tl.sum(tl.reshape(x, (x.shape[0], x.shape[1] // 8, 8, x.shape[2])), 1)


@triton.jit
def store_sums(
    PARTIAL, s1, s2, count, tile, tiles, C,
    BLOCKS: tl.constexpr, B: tl.constexpr, EPILOGUE: tl.constexpr,
):  # fmt: skip
    """One row of partial sums, [3, tiles, C].

    Epilogue 1: count, mean and sum of squares about it, for Chan's formula. Epilogue 2: the sums.
    """
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    at = PARTIAL + tile * C + block[:, None] * B + tl.arange(0, B)[None, :]
    first = tl.sum(s1, 1)
    second = tl.sum(s2, 1)
    if EPILOGUE == 1:
        mean = first / tl.maximum(count, 1.0)
        tl.store(at, count + tl.zeros_like(first))
        tl.store(at + tiles * C, mean)
        tl.store(at + 2 * tiles * C, second - first * mean)
    else:
        tl.store(at, first)
        tl.store(at + tiles * C, second)
