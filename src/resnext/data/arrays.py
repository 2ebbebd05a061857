"""A source whose pixels are in memory, for small sets that come as one array."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data.source import Encoded, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySource:
    """Images of one size, held in memory.

    Attributes:
        title: what the set is called in messages.
        pixels: N x H x W (grey) or N x H x W x 3 (RGB).
        labels: see `Source`.
        classes: see `Source`.
    """

    title: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """See `Source.read`; never fails."""
        return Image.fromarray(self.pixels[index])

    def encoded(self, index: int) -> Encoded | None:  # noqa: ARG002 - the same for all
        """See `Source.encoded`: there are no files."""
        return None

    def describe(self, index: int) -> str:
        """See `Source.describe`."""
        return f"{self.title} row {index}"

    def fingerprint(self) -> str:
        """See `Source.fingerprint`: over every pixel."""
        return digest(*self.classes, self.labels, self.pixels)
