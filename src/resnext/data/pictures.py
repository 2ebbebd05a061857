"""Small pictures of a fixed size, digits and CIFAR: normalise, flip, pad, crop."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data.order import Key, generator
from resnext.errors import DataError

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def pixels(image: Image.Image, channels: int) -> Pixels:
    """Image -> H x W x C, 0 to 255."""
    wanted = "RGB" if channels == 3 else "L"
    converted = image if image.mode == wanted else image.convert(wanted)
    return np.asarray(converted).reshape(image.height, image.width, channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """How pictures of one size are prepared.

    Attributes:
        side: height and width.
        mean: per channel, in grey levels 0 to 255.
        std: likewise.
        padding: pixels added to each side before the crop.
        black: whether the padding is black; otherwise it is 0 after normalising, the mean colour.
        flip: whether half of the pictures are mirrored.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    black: bool
    flip: bool

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def evaluate(self, image: Image.Image) -> Floats:
        """Image -> C x H x W."""
        return _channels_first(self._normalised(image))

    def train(self, image: Image.Image, key: Key) -> Floats:
        """Image -> C x H x W, moved by at most `padding` pixels and perhaps mirrored."""
        return self.augmented(image, generator(key))

    def augmented(self, image: Image.Image, draws: np.random.Generator) -> Floats:
        """`train` with draws from a generator: the flip if there is one, right, down."""
        values = self._normalised(image)
        if self.flip and draws.random() < 0.5:
            values = values[:, ::-1]
        right = int(draws.integers(2 * self.padding, endpoint=True))
        down = int(draws.integers(2 * self.padding, endpoint=True))
        return _channels_first(self._moved(values, down, right))

    def _normalised(self, image: Image.Image) -> Floats:
        if image.size != (self.side, self.side):
            raise DataError(
                f"expected an image of {self.side} x {self.side} pixels for this profile,"
                f" found {image.width} x {image.height}"
            )
        values = pixels(image, self.channels).astype(np.float32)
        return (values - _floats(self.mean)) / _floats(self.std)

    def _moved(self, values: Floats, down: int, right: int) -> Floats:
        """Pad all sides, then cut the first size out at (down, right)."""
        size = self.side + 2 * self.padding
        canvas = np.zeros((size, size, self.channels), dtype=np.float32)
        if self.black:
            canvas[:] = -_floats(self.mean) / _floats(self.std)
        inner = slice(self.padding, self.padding + self.side)
        canvas[inner, inner] = values
        return canvas[down : down + self.side, right : right + self.side]


def _floats(values: tuple[float, ...]) -> Floats:
    return np.array(values, dtype=np.float32)


def _channels_first(values: Floats) -> Floats:
    """H x W x C -> C x H x W."""
    return np.ascontiguousarray(values.transpose(2, 0, 1))


DIGITS = Picture(side=8, mean=(77.8,), std=(95.9,), padding=1, black=True, flip=False)
"""Mean and deviation of the 1797 pictures; no flips, since a mirrored digit is another sign. The
padding is the pictures' own background."""

_CIFAR10 = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
_CIFAR100 = ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4))


def cifar(classes: int, *, black: bool) -> Picture:
    """facebookresearch/ResNeXt datasets/cifar10.lua and cifar100.lua: normalise, flip, pad, crop.

    The zeros that the authors pad with are added after normalising, so they have the colour of the
    mean. Most later code pads the raw picture, in black; the draws are the same.
    """
    mean, std = _CIFAR10 if classes == 10 else _CIFAR100
    return Picture(side=32, mean=mean, std=std, padding=4, black=black, flip=True)
