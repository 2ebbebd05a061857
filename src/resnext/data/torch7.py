"""Resampling of images as Torch7 did it, which the paper's networks were trained with.

Torch's "bicubic" is neither Pillow's nor PyTorch's: Catmull-Rom through four neighbours, first and
last pixels of both images aligned, linear extrapolation beyond the border, no antialiasing, no
clipping, float images. Sources: torch/image generic/image.c (scaleBicubic) and fb.resnet.torch
datasets/transforms.lua.
"""

import math

import numpy as np
from numpy.typing import NDArray

from resnext.data.draws import resized

Floats = NDArray[np.float32]


def scale_bicubic(image: Floats, height: int, width: int) -> Floats:
    """H x W x C float32 -> height x width x C; rows are scaled first, then columns."""
    return _scale_axis(_scale_axis(image, width, axis=1), height, axis=0)


def _scale_axis(image: Floats, length: int, axis: int, kept: slice = slice(None)) -> Floats:
    """Resized to `length`, of which only the part that is kept is made."""
    count = image.shape[axis]
    if count == length:
        return image[(slice(None),) * axis + (kept,)]
    places = range(length)[kept]
    if count == 1:
        return np.repeat(image, len(places), axis=axis)
    # Positions in float32, as in the C code: in float64 some land on the other side of a pixel.
    step = np.float32(count - 1) / np.float32(max(length - 1, 1))
    position = np.arange(length - 1, dtype=np.float32)[kept] * step
    first = position.astype(np.int64)
    shape = [1] * image.ndim
    shape[axis] = -1
    offset = (position - first.astype(np.float32)).reshape(shape)
    extended = _extrapolated(image, axis)
    p0, p1, p2, p3 = (np.take(extended, first + tap, axis=axis) for tap in range(4))
    made = _interpolate(p0, p1, p2, p3, offset)
    if length - 1 not in places:
        return made
    return np.concatenate([made, np.take(image, [count - 1], axis=axis)], axis=axis)


def _extrapolated(image: Floats, axis: int) -> Floats:
    """One more pixel on each side, on the line through the two outermost."""
    ends = [np.take(image, [i], axis=axis) for i in (0, 1, -2, -1)]
    two = np.float32(2)
    return np.concatenate([two * ends[0] - ends[1], image, two * ends[3] - ends[2]], axis=axis)


def _interpolate(p0: Floats, p1: Floats, p2: Floats, p3: Floats, x: Floats) -> Floats:
    """Catmull-Rom between p1 and p2; the outermost product in double, as C promotes it."""
    two, three, four, five = (np.float32(n) for n in (2, 3, 4, 5))
    a1 = p2 - p0
    a2 = two * p0 - five * p1 + four * p2 - p3
    a3 = three * (p1 - p2) + p3 - p0
    inner = a1 + x * (a2 + x * a3)
    return (p1 + (0.5 * x.astype(np.float64)) * inner).astype(np.float32)


def scale_center(image: Floats, shorter: int, side: int) -> Floats:
    """`Scale`, then `CenterCrop` of transforms.lua: an odd margin is larger at top and left."""
    width, height = resized("torch7", image.shape[1], image.shape[0], shorter)
    top, left = (math.ceil((length - side) / 2) for length in (height, width))
    rows = _scale_axis(image, width, axis=1, kept=slice(left, left + side))
    return _scale_axis(rows, height, axis=0, kept=slice(top, top + side))
