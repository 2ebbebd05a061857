"""Named preprocessing: from a decoded image to the numbers a network sees.

A score means nothing without its preprocessing, so a profile has a name that is stored with every
checkpoint and every score. Random draws come from the generator that the caller passes.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnext.data.source import DataSet
from resnext.errors import DataError, UsageError

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A named preprocessing; two profiles of one name do the same.

    Attributes:
        name: what a run and a score record.
        channels: C, 1 (grey) or 3 (RGB).
        resolution: H = W of what comes out.
        train: image, random draws -> C x H x W float32, augmented and normalised.
        evaluate: image -> C x H x W float32, without any randomness.
    """

    name: str
    channels: int
    resolution: int
    train: Callable[[Image.Image, np.random.Generator], Tensor] = field(compare=False, repr=False)
    evaluate: Callable[[Image.Image], Tensor] = field(compare=False, repr=False)


def profile(name: str) -> Profile:
    """The profile of that name: a fixed one, or `pil-R` for photos at R x R pixels.

    Raises:
        UsageError: no profile has that name; the message lists those that exist.
    """
    if name in _FIXED:
        return _FIXED[name]()
    photo = re.fullmatch(r"pil-([1-9][0-9]{1,3})", name)
    if photo:
        return _photo(int(photo[1]))
    known = ", ".join(sorted(_FIXED))
    raise UsageError(f"expected a profile out of {known}, pil-R (R = 10 to 9999), got {name!r}")


def default_profile(data: DataSet) -> Profile:
    """What to do with a data set when nothing else is said, judged by its first training image.

    The digits have their own; 32 x 32 pictures are treated as CIFAR's; anything else as ImageNet's.
    """
    if data.name == "digits":
        return profile("digits")
    if data.train.read(0).size == (32, 32):
        return profile("cifar100" if len(data.classes) == 100 else "cifar10")
    return profile("pil-224")


# ---- pixels


def _pixels(image: Image.Image, channels: int) -> Pixels:
    """Image -> H x W x C, 0 to 255."""
    wanted = "RGB" if channels == 3 else "L"
    converted = image if image.mode == wanted else image.convert(wanted)
    return np.asarray(converted).reshape(image.height, image.width, channels)


def _floats(values: tuple[float, ...]) -> Floats:
    return np.array(values, dtype=np.float32)


def _sized(image: Image.Image, channels: int, side: int) -> Pixels:
    if image.size != (side, side):
        raise DataError(
            f"expected an image of {side} x {side} pixels for this profile,"
            f" found {image.width} x {image.height}"
        )
    return _pixels(image, channels)


def _tensor(values: Floats) -> Tensor:
    """H x W x C -> C x H x W."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _shifted(values: Floats, padding: int, fill: Floats, down: int, right: int) -> Floats:
    """Pad all sides by `padding` with `fill` (C), then cut the first size out at (down, right)."""
    height, width, _ = values.shape
    canvas = np.empty((height + 2 * padding, width + 2 * padding, len(fill)), dtype=np.float32)
    canvas[:] = fill
    canvas[padding : padding + height, padding : padding + width] = values
    return canvas[down : down + height, right : right + width]


# ---- small pictures of a fixed size: normalise, flip, pad, crop


@dataclass(frozen=True, slots=True, kw_only=True)
class _Small:
    """Fixed-size pictures, moved by up to `padding` pixels.

    Attributes:
        mean: per channel, in grey levels 0 to 255.
        std: likewise.
        padding: pixels added to each side before the crop.
        fill: what the padding holds, in normalised units per channel.
        flip: whether half of the pictures are mirrored.
    """

    side: int
    mean: Floats
    std: Floats
    padding: int
    fill: Floats
    flip: bool

    def evaluate(self, image: Image.Image) -> Tensor:
        return _tensor(self._normalised(image))

    def train(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        values = self._normalised(image)
        if self.flip and rng.random() < 0.5:
            values = values[:, ::-1]
        right = int(rng.integers(2 * self.padding, endpoint=True))
        down = int(rng.integers(2 * self.padding, endpoint=True))
        return _tensor(_shifted(values, self.padding, self.fill, down, right))

    def _normalised(self, image: Image.Image) -> Floats:
        pixels = _sized(image, len(self.mean), self.side)
        return (pixels.astype(np.float32) - self.mean) / self.std


def _small(name: str, view: _Small) -> Profile:
    return Profile(
        name=name,
        channels=len(view.mean),
        resolution=view.side,
        train=view.train,
        evaluate=view.evaluate,
    )


def _digits() -> Profile:
    """Handwritten digits: mean and deviation of the 1797 pictures, moved by at most one pixel.

    No flips: a mirrored digit is another sign. The padding is the pictures' own background, 0.
    """
    mean, std = _floats((77.8,)), _floats((95.9,))
    view = _Small(side=8, mean=mean, std=std, padding=1, fill=-mean / std, flip=False)
    return _small("digits", view)


_CIFAR10 = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
_CIFAR100 = ((129.3, 124.1, 112.4), (68.2, 65.4, 70.4))
_Constants = tuple[tuple[float, ...], tuple[float, ...]]


def _cifar(name: str, constants: _Constants, *, raw_pad: bool) -> Profile:
    """facebookresearch/ResNeXt datasets/cifar10.lua and cifar100.lua: normalise, flip, pad, crop.

    The zeros that the authors pad with are added after normalising, so they have the colour of the
    mean. Most later code pads the raw picture, in black: that is `raw_pad`, with the same draws.
    """
    mean, std = (_floats(values) for values in constants)
    fill = -mean / std if raw_pad else np.zeros_like(mean)
    return _small(name, _Small(side=32, mean=mean, std=std, padding=4, fill=fill, flip=True))


# ---- photos of any size


_IMAGENET_MEAN = _floats((0.485, 0.456, 0.406))
_IMAGENET_STD = _floats((0.229, 0.224, 0.225))


def _photo(resolution: int) -> Profile:
    """Photos as torchvision's reference recipe treats them, with Pillow alone.

    Training: a crop of 8% to 100% of the area and aspect 3/4 to 4/3, resized to R x R, half of them
    mirrored. Evaluation: shorter side to R * 8 / 7 (256 for 224), then the central R x R. Bilinear
    with antialias; ImageNet's mean and deviation.
    """
    return Profile(
        name=f"pil-{resolution}",
        channels=3,
        resolution=resolution,
        train=partial(_random_crop, resolution),
        evaluate=partial(_central_crop, resolution),
    )


def _random_crop(resolution: int, image: Image.Image, rng: np.random.Generator) -> Tensor:
    crop = _rgb(image).crop(crop_box(image.width, image.height, rng))
    resized = crop.resize((resolution, resolution), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _imagenet(resized)


def _central_crop(resolution: int, image: Image.Image) -> Tensor:
    shorter = round(resolution * 8 / 7)
    width, height = (
        (shorter, int(shorter * image.height / image.width))
        if image.width <= image.height
        else (int(shorter * image.width / image.height), shorter)
    )
    resized = _rgb(image).resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    return _imagenet(resized.crop((left, top, left + resolution, top + resolution)))


def crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Where torchvision's RandomResizedCrop would cut: (left, top, right, bottom) in pixels.

    The area is uniform in 8% to 100%, the logarithm of the aspect uniform in 3/4 to 4/3. After ten
    boxes that stick out: the central one, as near to the picture's shape as the aspect may come.
    """
    for _ in range(10):
        area = rng.uniform(0.08, 1.0) * width * height
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(width - w, endpoint=True))
            top = int(rng.integers(height - h, endpoint=True))
            return left, top, left + w, top + h
    return _central_box(width, height)


def _central_box(width: int, height: int) -> tuple[int, int, int, int]:
    aspect = min(max(width / height, 3 / 4), 4 / 3)
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _imagenet(image: Image.Image) -> Tensor:
    values = _pixels(image, 3).astype(np.float32) / np.float32(255)
    return _tensor((values - _IMAGENET_MEAN) / _IMAGENET_STD)


_FIXED: dict[str, Callable[[], Profile]] = {
    "digits": _digits,
    "cifar10": partial(_cifar, "cifar10", _CIFAR10, raw_pad=False),
    "cifar10-raw-pad": partial(_cifar, "cifar10-raw-pad", _CIFAR10, raw_pad=True),
    "cifar100": partial(_cifar, "cifar100", _CIFAR100, raw_pad=False),
    "cifar100-raw-pad": partial(_cifar, "cifar100-raw-pad", _CIFAR100, raw_pad=True),
}
