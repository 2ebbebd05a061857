"""Where to cut an image for training and for scoring: the same numbers as `native/loader.c`.

A cut is a pure function of (seed, epoch, index) and of the image's size. Its random numbers are the
raw words of the Philox stream that `order.py` describes, under a purpose of its own, each turned
into a uniform number in [0, 1) by its upper 53 bits. Every number has a fixed place in the stream,
whatever was drawn before it:

- word 0: mirrored if below 1/2 (words 1 to 7 are not used);
- words 8 t to 8 t + 7 of try t = 1 to 10: area, aspect, left, top, and for Torch7 whether width and
  height change places (the others are not used). The first box that fits is taken.

The arithmetic uses only operations that IEEE 754 rounds in one way, so every machine agrees.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Rule = Literal["torchvision", "torch7"]
"""Whose random crop and whose rounding: torchvision's or that of the authors' Torch7 code."""

GEOMETRY = 2
"""The purpose of this stream, beside those in `order.py`."""

_TRIES = 10
_GROUP = 8
_LOG_4_THIRDS = 0.28768207245178090


@dataclass(frozen=True, slots=True)
class Cut:
    """The box that becomes the output image, in pixels of the source, and how it is seen.

    Attributes:
        x: left edge.
        y: upper edge.
        width: to the right.
        height: downwards.
        mirrored: left and right change places after cutting.
        beyond: a filter may look at pixels around the box, as when an image is resized first and
            cropped then; otherwise the box, of whole pixels, is cropped first.
    """

    x: float
    y: float
    width: float
    height: float
    mirrored: bool
    beyond: bool


def train_cut(
    rule: Rule,
    width: int,
    height: int,
    *,
    side: int,
    seed: int,
    epoch: int,
    index: int,
) -> Cut:
    """The random crop of image `index` in this epoch.

    Both rules take 8% to 100% of the area, an aspect of 3/4 to 4/3, and whole pixels. torchvision
    draws the logarithm of the aspect uniformly, Torch7 the aspect itself before swapping width and
    height in half the cases. After ten boxes that stick out torchvision takes the central one as
    near to the image's shape as the aspect may come; Torch7 resizes the shorter side to `side` and
    takes the central square.

    Args:
        rule: whose crop.
        width: of the image.
        height: of the image.
        side: of the output; matters only for Torch7's last resort.
        seed: of the run.
        epoch: of the run.
        index: the image's position in its source.
    """
    uniform = _uniforms(seed, epoch, index)
    mirrored = uniform[0] < 0.5
    for start in range(_GROUP, len(uniform), _GROUP):
        area, aspect, left, top, swap = uniform[start : start + 5]
        w, h = _box_size(rule, (0.08 + 0.92 * area) * (width * height), aspect, swap)
        if 1 <= w <= width and 1 <= h <= height:
            x, y = math.floor(left * (width - w + 1)), math.floor(top * (height - h + 1))
            return Cut(float(x), float(y), float(w), float(h), mirrored, beyond=False)
    if rule == "torch7":
        cut = central_cut(rule, width, height, resize=side, side=side)
        return Cut(cut.x, cut.y, cut.width, cut.height, mirrored, cut.beyond)
    return _clipped_cut(width, height, mirrored=mirrored)


def central_cut(rule: Rule, width: int, height: int, *, resize: int, side: int) -> Cut:
    """For scoring: the shorter side is resized to `resize`, then the central square is taken.

    Args:
        rule: whose rounding of the longer side and of the offsets.
        width: of the image.
        height: of the image.
        resize: the shorter side before cropping, at least `side`.
        side: of the output.
    """
    new_width, new_height = resized(rule, width, height, resize)
    if rule == "torch7":
        left, top = math.ceil((new_width - side) / 2), math.ceil((new_height - side) / 2)
    else:
        left, top = round((new_width - side) / 2), round((new_height - side) / 2)
    step_x, step_y = width / new_width, height / new_height
    w, h = side * step_x, side * step_y
    return Cut(left * step_x, top * step_y, w, h, mirrored=False, beyond=True)


def _uniforms(seed: int, epoch: int, index: int) -> list[float]:
    key = np.array([seed, epoch], dtype=np.uint64)
    counter = np.array([0, 0, index, GEOMETRY], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(_GROUP * (_TRIES + 1))
    numbers: list[float] = ((words >> np.uint64(11)) * 2.0**-53).tolist()
    return numbers


def _box_size(rule: Rule, area: float, aspect: float, swap: float) -> tuple[int, int]:
    if rule == "torch7":
        shape = 3 / 4 + aspect * (4 / 3 - 3 / 4)
        w = math.floor(math.sqrt(area * shape) + 0.5)
        h = math.floor(math.sqrt(area / shape) + 0.5)
        return (h, w) if swap < 0.5 else (w, h)
    shape = _small_exp((2 * aspect - 1) * _LOG_4_THIRDS)
    return round(math.sqrt(area * shape)), round(math.sqrt(area / shape))


def _small_exp(x: float) -> float:
    """`math.exp` for |x| < 0.3, rounded alike everywhere; C libraries differ in the last bit."""
    total = 1.0
    for k in range(13, 0, -1):
        total = 1.0 + x * total / k
    return total


def _clipped_cut(width: int, height: int, *, mirrored: bool) -> Cut:
    aspect = min(max(width / height, 3 / 4), 4 / 3)
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    x, y = (width - w) // 2, (height - h) // 2
    return Cut(float(x), float(y), float(w), float(h), mirrored, beyond=False)


def resized(rule: Rule, width: int, height: int, shorter: int) -> tuple[int, int]:
    """(width, height) with the shorter side as given; the longer one is cut to an integer."""
    small, large = min(width, height), max(width, height)
    if small == shorter:
        return width, height
    longer = int(large / small * shorter) if rule == "torch7" else int(shorter * large / small)
    return (shorter, longer) if width <= height else (longer, shorter)
