"""Named preprocessing: from a decoded image to the numbers a network sees.

A score means nothing without its preprocessing, so a profile has a name that is stored with every
checkpoint and every score. What is random in it is a pure function of (seed, epoch, index).
"""

import re
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnext.data import colour
from resnext.data.colour import HALF, IMAGENET, Statistics
from resnext.data.digits import is_digits
from resnext.data.order import Key, colour_numbers
from resnext.data.photos import Filter, Photo
from resnext.data.pictures import DIGITS, Floats, Picture, Pixels, cifar
from resnext.data.source import DataSet, Source
from resnext.errors import DataError, UsageError

_LOOKED_AT = 10
"""Images of which one must be readable to tell their kind: training stands in for a damaged one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A named preprocessing; two profiles of one name do the same.

    Attributes:
        name: what a run and a score record.
        view: what is done.
    """

    name: str
    view: Picture | Photo

    @property
    def channels(self) -> int:
        """C, 1 (grey) or 3 (RGB)."""
        return self.view.channels if isinstance(self.view, Picture) else 3

    @property
    def resolution(self) -> int:
        """H = W of what comes out."""
        return self.view.side

    def train(self, image: Image.Image, key: Key) -> Tensor:
        """Image -> C x R x R float32, augmented by the draws of the key, normalised."""
        numbers = colour_numbers(key, colour.NUMBERS) if self.changes_colours else None
        return self._finished(self.view.train(image, key), numbers)

    def evaluate(self, image: Image.Image) -> Tensor:
        """Image -> C x R x R float32, normalised."""
        return self._finished(self.view.evaluate(image), None)

    @property
    def changes_colours(self) -> bool:
        """Whether training draws numbers for `colour.normalised`."""
        return isinstance(self.view, Photo) and self.view.jitter

    @property
    def unit(self) -> float | None:
        """The value of white in what the view makes; None where that is normalised already."""
        return self.view.unit if isinstance(self.view, Photo) else None

    @property
    def statistics(self) -> Statistics:
        """What photos are normalised by; small pictures have their own, in their view."""
        return self.view.statistics if isinstance(self.view, Photo) else IMAGENET

    @property
    def kind(self) -> str | None:
        """The family of a profile of photos: its name without the sizes."""
        found = _PHOTO.fullmatch(self.name)
        return found[1] if found and isinstance(self.view, Photo) else None

    def _finished(self, made: Pixels | Floats, numbers: NDArray[np.float64] | None) -> Tensor:
        if self.unit is None:
            return torch.from_numpy(made)
        batch = torch.from_numpy(np.array(made)[None])
        drawn = None if numbers is None else torch.from_numpy(numbers[None])
        found = colour.normalised(batch, drawn, unit=self.unit, statistics=self.statistics)
        return found[0].contiguous()


_PICTURES = {
    "digits": DIGITS,
    "cifar10": cifar(10, black=False),
    "cifar10-raw-pad": cifar(10, black=True),
    "cifar100": cifar(100, black=False),
    "cifar100-raw-pad": cifar(100, black=True),
}

_PHOTOS: dict[str, tuple[Filter, bool, Statistics]] = {
    "pil": ("bilinear", False, IMAGENET),
    "pil-half": ("bilinear", False, HALF),
    "pil-bicubic": ("bicubic", False, IMAGENET),
    "pil-bicubic-half": ("bicubic", False, HALF),
    "tensor": ("tensor", False, IMAGENET),
    "torch7": ("torch7", True, IMAGENET),
    "torch7-antialias": ("bilinear", True, IMAGENET),
}
"""Filter, whether training changes colours, and what they are normalised by."""

_PHOTO = re.compile(r"([a-z0-9-]+)-([1-9][0-9]{1,3})(?:@([1-9][0-9]{1,3}))?")


def profile(name: str) -> Profile:
    """The profile of that name.

    ``digits``, ``cifar10``, ``cifar100`` and their ``-raw-pad`` variants have a fixed size. For
    photos, R is the side in pixels: ``pil-R`` and ``tensor-R`` are torchvision's reference recipe
    on Pillow images and on tensors; ``pil-bicubic-R``, ``pil-half-R`` and ``pil-bicubic-half-R``
    are timm's, by Pillow's bicubic filter and with 0.5 for mean and deviation; ``torch7-R`` is the
    authors' code, resampling and colours included; ``torch7-antialias-R`` is their recipe with
    antialiased resampling, which fits into bytes. Evaluation takes the centre R x R of the image
    with its shorter side resized to R · 8/7 (256 for 224), or to E under the name ``...-R@E``:
    ``torch7-320@320``.

    Raises:
        UsageError: no profile has that name; the message lists those that exist.
    """
    if name in _PICTURES:
        return Profile(name=name, view=_PICTURES[name])
    match = _PHOTO.fullmatch(name)
    if match and match[1] in _PHOTOS:
        side = int(match[2])
        resize = int(match[3]) if match[3] else round(side * 8 / 7)
        if resize < side:
            raise UsageError(f"expected a resize of at least {side} in a profile, found {name!r}")
        return Profile(name=name, view=_photo(match[1], side, resize))
    known = ", ".join([*_PICTURES, *(f"{kind}-R" for kind in _PHOTOS)])
    raise UsageError(
        f"expected a profile out of {known} (R: side in pixels, 10 to 9999), found {name!r}"
    )


def _photo(kind: str, side: int, resize: int) -> Photo:
    chosen, jitter, statistics = _PHOTOS[kind]
    return Photo(
        rule="torch7" if kind.startswith("torch7") else "torchvision",
        filter=chosen,
        side=side,
        resize=resize,
        jitter=jitter,
        statistics=statistics,
    )


def photo_profile(kind: str, side: int, resize: int) -> Profile:
    """The profile of a family at these sizes, under its shortest name.

    Raises:
        UsageError: the crop is larger than the resized image.
    """
    usual = resize == round(side * 8 / 7)
    return profile(f"{kind}-{side}" + ("" if usual else f"@{resize}"))


def pillow_profile(
    side: int, resize: int, *, interpolation: str, statistics: Statistics, of: str
) -> Profile:
    """The profile of a peer's network: Pillow's filter, shorter side, crop, mean and deviation.

    Raises:
        UsageError: nothing here prepares images as `of` wants them.
    """
    for kind, (found, jitter, normalised_by) in _PHOTOS.items():
        if (found, jitter, normalised_by) == (interpolation, False, statistics):
            return photo_profile(kind, side, resize)
    raise UsageError(
        f"expected preprocessing of {of} by Pillow's bilinear or bicubic filter, with ImageNet's "
        f"mean or 0.5, found {interpolation}, mean {statistics.mean} and std {statistics.std}; say "
        "--profile"
    )


def default_profile(data: DataSet) -> Profile:
    """What to do with a data set when nothing else is said, judged by its first training image.

    The digits have their own; 32 x 32 pictures are treated as CIFAR's; anything else as photos.
    Images that cannot be read are passed over, up to a few.

    Raises:
        DataError: none of the first few can be read; the message names the first.
    """
    if is_digits(data):
        return profile("digits")
    if _first_size(data.train) == (32, 32):
        return profile("cifar100" if len(data.classes) == 100 else "cifar10")
    return profile("pil-224")


def _first_size(source: Source) -> tuple[int, int]:
    for index in range(min(_LOOKED_AT, len(source))):
        with suppress(DataError):
            return source.read(index).size
    return source.read(0).size  # says what is wrong with the first
