"""Photos of any size: a crop, resized to one size; colour and normalisation as an affine map.

Pixels stay uint8 until they are on the device that trains; only Torch7's own resampling makes float
images, which do not fit into bytes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image

from resnext.data import torch7
from resnext.data.colour import IMAGENET, Statistics
from resnext.data.decode import MAX_PIXELS
from resnext.data.draws import Cut, Rule, resized, train_cut
from resnext.data.order import Key
from resnext.data.pictures import Floats, Pixels, pixels
from resnext.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Filter = Literal["bilinear", "bicubic", "tensor", "torch7"]
"""Two of Pillow's, with antialias; torchvision's bilinear on tensors; Torch's bicubic without
antialias."""

_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Decoded = Image.Image | Pixels
"""An image from Pillow, or H x W x 3 bytes, which are resized as torch does it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """How photos are prepared.

    Attributes:
        rule: whose random crop and whose rounding.
        filter: how the crop is resized.
        side: height and width of the result.
        resize: the shorter side before the central crop of evaluation.
        jitter: whether training changes colours (jitter and lighting of fb.resnet.torch).
        statistics: what colours are normalised by.
    """

    rule: Rule
    filter: Filter
    side: int
    resize: int
    jitter: bool
    statistics: Statistics = IMAGENET

    @property
    def exact_floats(self) -> bool:
        """Whether the result does not fit into bytes."""
        return self.filter == "torch7"

    def train(self, image: Decoded, key: Key) -> Pixels | Floats:
        """Image -> S x S x 3, uint8; float32 in [0, 1] and a little beyond with Torch7's filter.

        Raises:
            DataError: as `whole`, by Torch7's last resort.
        """
        cut = train_cut(
            self.rule,
            *_size(image),
            side=self.side,
            seed=key.seed,
            epoch=key.epoch,
            index=key.index,
        )
        found: Pixels | Floats
        if cut.beyond:
            found = self._central(image, self.side)
        else:
            found = self._resized(_cropped(image, cut), self.side, self.side)
        return _mirrored(found) if cut.mirrored else found

    def evaluate(self, image: Decoded) -> Pixels | Floats:
        """Image -> S x S x 3: the shorter side resized, then the centre.

        Raises:
            DataError: as `whole`.
        """
        return self._central(image, self.resize)

    def whole(self, image: Decoded, shorter: int) -> Pixels | Floats:
        """Image -> H x W x 3 with its shorter side resized, all of it.

        Raises:
            DataError: that has too many pixels, as one pixel by thousands would.
        """
        return self._resized(image, *self._whole_size(image, shorter))

    @property
    def unit(self) -> float:
        """The value of white in the pixels made here."""
        return 1.0 if self.exact_floats else 255.0

    def _central(self, image: Decoded, shorter: int) -> Pixels | Floats:
        if self.filter == "torch7":
            self._whole_size(image, shorter)
            return torch7.scale_center(_unit(image), shorter, self.side)
        whole = self.whole(image, shorter)
        left, top = (offset(self.rule, length, self.side) for length in whole.shape[1::-1])
        return whole[top : top + self.side, left : left + self.side]

    def _whole_size(self, image: Decoded, shorter: int) -> tuple[int, int]:
        """(width, height) of the whole, no more pixels than a file may have."""
        width, height = resized(self.rule, *_size(image), shorter)
        if width * height > MAX_PIXELS:
            raise DataError(
                f"expected at most {MAX_PIXELS // 10**6} million pixels with the shorter side "
                f"resized to {shorter}, found {width} x {height}"
            )
        return width, height

    def _resized(self, image: Decoded, width: int, height: int) -> Pixels | Floats:
        if self.filter == "torch7":
            return torch7.scale_bicubic(_unit(image), height, width)
        if self.filter == "tensor" or not isinstance(image, Image.Image):
            return _tensor_resize(_bytes(image), width, height)
        return pixels(_rgb(image).resize((width, height), _PILLOW[self.filter]), 3)


def _size(image: Decoded) -> tuple[int, int]:
    """(width, height)."""
    if isinstance(image, Image.Image):
        return image.size
    return image.shape[1], image.shape[0]


def _bytes(image: Decoded) -> Pixels:
    return pixels(image, 3) if isinstance(image, Image.Image) else image


def _cropped(image: Decoded, cut: Cut) -> Decoded:
    left, top = int(cut.x), int(cut.y)
    right, bottom = left + int(cut.width), top + int(cut.height)
    if isinstance(image, Image.Image):
        return image.crop((left, top, right, bottom))
    return image[top:bottom, left:right]


def offset(rule: Rule, length: int, side: int) -> int:
    """Where the central part of a length begins."""
    margin = length - side
    return -(-margin // 2) if rule == "torch7" else round(margin / 2)


def _tensor_resize(picture: Pixels, width: int, height: int) -> Pixels:
    """As torchvision resizes a uint8 tensor, with antialias."""
    if picture.shape[:2] == (height, width):
        return picture
    tensor = torch.from_numpy(_writable(picture)).permute(2, 0, 1).unsqueeze(0)
    # Said outright: torch takes half the time for it when it knows that channels come last.
    tensor = tensor.contiguous(memory_format=torch.channels_last)
    resized = torch.nn.functional.interpolate(
        tensor, (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    found: NDArray[np.uint8] = resized.squeeze(0).permute(1, 2, 0).contiguous().numpy()
    return found


def _mirrored(picture: Pixels | Floats) -> Pixels | Floats:
    """By torch: NumPy takes ten times as long to copy pixels of three bytes backwards."""
    mirrored: Pixels | Floats = torch.from_numpy(_writable(picture)).flip(1).numpy()
    return mirrored


def _writable(picture: Pixels | Floats) -> Pixels | Floats:
    """Itself or a copy: torch warns of memory that is not to be written to, as Pillow's is not."""
    return np.require(picture, requirements="W")


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _unit(image: Decoded) -> Floats:
    """H x W x 3 in [0, 1], as Torch's image.load."""
    return _bytes(image).astype(np.float32) / np.float32(255)
