"""A part of a source, and the fixed held-out part of a source that has no split of its own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data.source import Encoded, Source, digest
from resnext.errors import DataError


@dataclass(frozen=True, slots=True)
class Subset:
    """The images of `whole` at `indices`, in that order."""

    whole: Source
    indices: NDArray[np.int64]

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes of the whole, whether or not this part has an image of each."""
        return self.whole.classes

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64, one per image."""
        return self.whole.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Image.Image:
        """See `Source.read`."""
        return self.whole.read(int(self.indices[index]))

    def encoded(self, index: int) -> Encoded | None:
        """See `Source.encoded`."""
        return self.whole.encoded(int(self.indices[index]))

    def describe(self, index: int) -> str:
        """See `Source.describe`."""
        return self.whole.describe(int(self.indices[index]))

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        return digest(self.whole.fingerprint(), self.indices)


def hold_out(source: Source, fraction: float) -> tuple[Subset, Subset]:
    """Split into a part to train on and a part, about `fraction` of each class, to score on.

    The split is stratified (every class has at least one image on both sides) and depends on
    nothing but the labels: not on the seed of a run, so that scores of several seeds compare.

    Raises:
        DataError: a class with fewer than 2 images, or none at all.
    """
    held = np.zeros(len(source), dtype=np.bool_)
    for label, name in enumerate(source.classes):
        members = np.flatnonzero(source.labels == label)
        if len(members) < 2:
            raise DataError(
                f"expected at least 2 images of class {name!r}, one to train on and one to hold out"
                f" for validation, found {len(members)}"
            )
        held[members[_chosen(len(members), fraction, label)]] = True
    return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))


def _chosen(count: int, fraction: float, label: int) -> NDArray[np.int64]:
    """Which of a class's images are held out: by raw random bits, which NumPy never changes."""
    size = min(max(round(count * fraction), 1), count - 1)
    return np.argsort(np.random.Philox(key=[0, label]).random_raw(count), kind="stable")[:size]
