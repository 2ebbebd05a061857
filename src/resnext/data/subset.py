"""A part of a source, and the fixed held-out part of a source that has no split of its own."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data import store
from resnext.data.source import Encoded, Source, digest
from resnext.errors import DataError

_PLAIN = 100_000
"""Up to so many indices are pickled; more are shared with other processes by a mapped file."""


@dataclass(frozen=True, eq=False)
class Subset:
    """The images of `whole` at `indices`, in that order.

    Attributes:
        whole: the source.
        indices: positions in it.
        named: class names that replace those of the whole, if any.
        numbers: for every label of the whole, its label among `named`.
    """

    whole: Source
    indices: NDArray[np.int64]
    named: tuple[str, ...] | None = None
    numbers: NDArray[np.int64] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if len(self.indices) <= _PLAIN:
            return Subset, (self.whole, self.indices, self.named, self.numbers)
        return _shared, (self.whole, self._stored, self.named, self.numbers)

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes of the whole, whether or not this part has an image of each."""
        return self.whole.classes if self.named is None else self.named

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """int64, one per image."""
        labels = self.whole.labels[self.indices]
        return labels if self.numbers is None else self.numbers[labels]

    @cached_property
    def _stored(self) -> store.Table:
        key = store.key("subset", digest(self.indices, self.labels))
        return store.save(key, {}, {"indices": self.indices, "labels": self.labels})

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
        whole = self.whole.fingerprint()
        if self.named is None:
            return digest(whole, self.indices)
        return digest(whole, self.indices, *self.named, self.labels)


def _shared(
    whole: Source,
    table: store.Table,
    named: tuple[str, ...] | None,
    numbers: NDArray[np.int64] | None,
) -> Subset:
    """A subset whose arrays are the mapped file's."""
    subset = Subset(whole, table.arrays["indices"], named, numbers)
    subset.__dict__.update(labels=table.arrays["labels"], _stored=table)  # the cached properties
    return subset


def hold_out(source: Source, fraction: float) -> tuple[Subset, Subset]:
    """Split into a part to train on and a part, about `fraction` of each class, to score on.

    The split is stratified (every class has at least one image on both sides) and depends on
    nothing but the labels: not on the seed of a run, so that scores of several seeds compare.

    Raises:
        DataError: a class with fewer than 2 images, or none at all.
    """
    counts = np.bincount(source.labels, minlength=len(source.classes))
    few = np.flatnonzero(counts < 2)
    if few.size:
        raise DataError(
            f"expected at least 2 images of class {source.classes[few[0]]!r}, one to train on"
            f" and one to hold out for validation, found {counts[few[0]]}"
        )
    by_class = np.empty(len(source), dtype=np.bool_)
    ends = np.cumsum(counts).tolist()
    for label, (count, end) in enumerate(zip(counts.tolist(), ends, strict=True)):
        by_class[end - count : end] = _chosen(count, fraction, label)
    held = np.empty_like(by_class)
    held[np.argsort(source.labels, kind="stable")] = by_class
    return Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))


def _chosen(count: int, fraction: float, label: int) -> NDArray[np.bool_]:
    """Which of a class's images are held out: by raw random bits, which NumPy never changes."""
    size = min(max(round(count * fraction), 1), count - 1)
    return _smallest(np.random.Philox(key=[0, label]).random_raw(count), size)


def _smallest(values: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    """Where the `count` smallest values are, the first of equal ones; a fifth of a sort's time."""
    limit = np.partition(values, count - 1)[count - 1]
    found = values <= limit
    surplus = np.count_nonzero(found) - count
    if surplus:
        found[np.flatnonzero(values == limit)[-surplus:]] = False
    return found
