"""Which image comes when, and with which random draws: pure functions of (seed, epoch, index).

Nothing here depends on the number of workers or ranks, or on where an epoch was interrupted, so a
run that continues sees exactly the images and augmentations that it would have seen. The generator
is Philox, keyed by (seed, epoch): its counter's third word is the image and the fourth the purpose,
so no two streams overlap (each may draw 2^128 times).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from resnext.errors import UsageError

Last = Literal["keep", "drop"]

Row = TypeVar("Row", NDArray[np.int64], range)
"""Of indices."""

_ORDER, _AUGMENTATION, _COLOUR, _REPLACEMENT = 0, 1, 3, 4
"""Purposes of streams; 2 is that of `draws.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What the random draws for one image depend on, and nothing else."""

    seed: int
    epoch: int
    index: int


def permutation(count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch's `count` images.

    Sorting raw bits, which NumPy promises never to change; `Generator.permutation` carries no such
    promise. 1.28 million images take 0.17 s.
    """
    bits = _philox(seed, epoch, 0, _ORDER).random_raw(count)
    return np.argsort(bits, kind="stable").astype(np.int64, copy=False)


def generator(key: Key) -> np.random.Generator:
    """The random draws for one image in one epoch."""
    return np.random.Generator(_philox(key.seed, key.epoch, key.index, _AUGMENTATION))


def colour_numbers(key: Key, count: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) for the colour of one image, see `colour.py`."""
    words = _philox(key.seed, key.epoch, key.index, _COLOUR).random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def replacement(key: Key, count: int, attempt: int) -> int:
    """The image that stands in for one that cannot be read, at the given attempt from 0."""
    words = _philox(key.seed, key.epoch, key.index, _REPLACEMENT).random_raw(attempt + 1)
    return int(words[-1] % np.uint64(count))


def training_batches(
    order: NDArray[np.int64],
    *,
    batch_size: int,
    start: int,
    last: Last,
    rank: int,
    world: int,
    part: int = 1,
) -> list[NDArray[np.int64]]:
    """One rank's share of every batch from position `start` of the order on.

    `batch_size` counts the images of all ranks together, and every rank gets the same number of
    batches. Shares are cut between parts of `part` images, those that batch normalisation sees at
    once; what is left over of a batch stays with its last whole part. With last="keep" the final
    batch may be smaller, and some shares of it empty.

    Raises:
        UsageError: sizes that do not fit, or an epoch without a single batch.
    """
    _check_ranks(rank, world)
    sizes = batch_sizes(len(order), batch_size=batch_size, start=start, last=last)
    if batch_size // part < world:
        raise UsageError(
            f"expected at most {batch_size // part} processes for batches of {batch_size} images "
            f"in parts of {part}, found {world}; take a larger batch or smaller parts"
        )
    ends = np.cumsum([start, *sizes])
    batches = [order[at:end] for at, end in pairwise(ends)]
    return [share_of(batch, rank, world, part) for batch in batches]


def batch_sizes(count: int, *, batch_size: int, start: int, last: Last) -> list[int]:
    """Images of each batch of an epoch of `count`, over all ranks, from position `start` on.

    A final batch of one image joins the batch before it: one value has no spread to normalise by.

    Raises:
        UsageError: sizes that do not fit, or an epoch without a single batch.
    """
    if batch_size < 1:
        raise UsageError(f"expected a batch of at least 1 image, found {batch_size}")
    if not 0 <= start <= count:
        raise UsageError(f"expected a start within the {count} images, found {start}")
    if last == "drop" and count < batch_size:
        raise UsageError(
            f"expected a batch size of at most the {count} images, found {batch_size}:"
            " dropping the last partial batch would leave none"
        )
    whole, rest = divmod(count - start, batch_size)
    sizes = [batch_size] * whole
    if last == "keep" and rest:
        if rest == 1 and sizes:
            sizes[-1] += 1
        else:
            sizes.append(rest)
    return sizes


def evaluation_batches(
    count: int, *, batch_size: int, rank: int, world: int
) -> list[NDArray[np.int64]]:
    """One rank's part of the images in their stored order, cut into batches.

    The parts of all ranks hold every image exactly once, without padding, at any world size; ranks
    may have different numbers of batches. `batch_size` counts the images of one rank.

    Raises:
        UsageError: sizes that do not fit.
    """
    _check_ranks(rank, world)
    if batch_size < 1:
        raise UsageError(f"expected a batch size of at least 1, found {batch_size}")
    part = share_of(np.arange(count, dtype=np.int64), rank, world)
    return [part[at : at + batch_size] for at in range(0, len(part), batch_size)]


def _philox(seed: int, epoch: int, index: int, purpose: int) -> np.random.Philox:
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, index, purpose], dtype=np.uint64))


def share_of(whole: Row, rank: int, world: int, part: int = 1) -> Row:
    """Rank `rank`'s contiguous slice; the slices cover the whole, differ by at most one part.

    What is left over of the parts stays with the last rank.
    """
    parts = max(1, len(whole) // part)
    first, end = (parts * number // world for number in (rank, rank + 1))
    return whole[first * part : len(whole) if end == parts else end * part]


def _check_ranks(rank: int, world: int) -> None:
    if not 0 <= rank < world:
        raise UsageError(f"expected a rank below the world size {world}, found {rank}")
