"""From a source and a profile to batches of tensors, in this process or in workers.

The workers change nothing but the speed: what a batch holds is a function of (seed, epoch, index),
see `order.py`. A worker that dies or stalls is an error in seconds, never a hang.
"""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resnext.data import order
from resnext.data.order import Last
from resnext.data.profiles import Profile
from resnext.data.source import Source
from resnext.errors import DataError, ResourceError, UsageError

STALL_SECONDS = 120.0
"""How long one batch may take before its worker counts as stuck."""

_POLL_SECONDS = 1.0
"""How often the process that waits for a batch looks whether the workers are alive."""

_AHEAD = 2
"""Batches that each worker makes before they are asked for."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees.

    Attributes:
        images: N x C x H x W float32.
        labels: N, int64.
        indices: N, int64, the images' positions in their source.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


def train_batches(
    source: Source,
    profile: Profile,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    workers: int = 0,
    last: Last = "keep",
    rank: int = 0,
    world: int = 1,
) -> "Batches":
    """The augmented, shuffled batches of one epoch, from image `start` of its order on.

    `batch_size` and `start` count the images of all ranks together, so that the epoch is the same
    for any number of ranks; rank r gets its share of each batch. With last="keep" the final batch
    may be smaller, on some ranks even empty.

    Raises:
        UsageError: sizes that do not fit together.
    """
    shuffled = order.permutation(len(source), seed=seed, epoch=epoch)
    groups = order.training_batches(
        shuffled, batch_size=batch_size, start=start, last=last, rank=rank, world=world
    )
    return Batches(
        maker=_Maker(source=source, profile=profile, draws=_Draws(seed=seed, epoch=epoch)),
        groups=groups,
        workers=_checked(workers),
    )


def evaluation_batches(
    source: Source,
    profile: Profile,
    *,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> "Batches":
    """Every image once over all ranks, in stored order, without padding, at any world size.

    `batch_size` counts the images of this rank.

    Raises:
        UsageError: sizes that do not fit together.
    """
    groups = order.evaluation_batches(len(source), batch_size=batch_size, rank=rank, world=world)
    maker = _Maker(source=source, profile=profile, draws=None)
    return Batches(maker=maker, groups=groups, workers=_checked(workers))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draws:
    seed: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker(Dataset[Batch | DataError]):
    """Makes a batch of given images; a copy of it is all that a worker process holds."""

    source: Source
    profile: Profile
    draws: _Draws | None

    def __getitem__(self, indices: NDArray[np.int64]) -> Batch | DataError:
        """The batch, or what was wrong with an image: an exception would lose its one line."""
        try:
            return self.batch(indices)
        except DataError as error:
            return error

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        side = self.profile.resolution
        images = np.empty((len(indices), self.profile.channels, side, side), dtype=np.float32)
        for position, index in enumerate(indices.tolist()):
            images[position] = self._image(index).numpy()
        labels = torch.from_numpy(self.source.labels[indices])
        return Batch(torch.from_numpy(images), labels, torch.from_numpy(indices.copy()))

    def _image(self, index: int) -> Tensor:
        image = self.source.read(index)
        try:
            if self.draws is None:
                return self.profile.evaluate(image)
            draws = order.generator(seed=self.draws.seed, epoch=self.draws.epoch, index=index)
            return self.profile.train(image, draws)
        except DataError as error:
            raise DataError(f"{self.source.describe(index)}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """An epoch's batches: has a length, can be iterated again, makes nothing before that.

    Raises:
        DataError: while iterating, for an image that cannot be used; the message names it.
        ResourceError: while iterating, when a worker process died or is stuck.
    """

    maker: _Maker
    groups: Sequence[NDArray[np.int64]]
    workers: int
    stall_seconds: float = STALL_SECONDS

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Batch]:
        if self.workers == 0 or not self.groups:
            return map(self.maker.batch, self.groups)
        return self._from_workers()

    def _from_workers(self) -> Iterator[Batch]:
        loader = DataLoader(
            self.maker,
            batch_size=None,
            sampler=self.groups,
            num_workers=self.workers,
            prefetch_factor=_AHEAD,
            collate_fn=_unchanged,
            timeout=_POLL_SECONDS,
            multiprocessing_context=_context(),
            generator=torch.Generator(),  # its own: the default one would draw from the run's
        )
        made: Any = iter(loader)
        try:
            for position in range(len(self.groups)):
                outcome = self._next(made, position)
                if isinstance(outcome, DataError):
                    raise outcome
                yield outcome
        finally:
            made._shutdown_workers()  # now, not when a traceback lets go of the iterator

    def _next(self, made: Iterator[Batch | DataError], position: int) -> Any:
        """The next batch; looks after the workers every few seconds while it waits."""
        deadline = time.monotonic() + self.stall_seconds
        while True:
            try:
                return next(made)
            except (RuntimeError, OSError, EOFError) as error:
                if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader "):
                    raise  # a mistake in our code, raised again by torch with its traceback
                alive = "timed out" in str(error)
                if alive and time.monotonic() < deadline:
                    continue
                raise ResourceError(self._lost(position, alive=alive)) from error

    def _lost(self, position: int, *, alive: bool) -> str:
        """A worker that died takes along batches that it had not handed over yet."""
        images = [int(group[0]) for group in self.groups[position:] if len(group)]
        first = self.maker.source.describe(images[0]) if images else "no image"
        if alive:
            found = f"it stuck for {self.stall_seconds:.0f} s in the batch from {first} on"
        else:
            found = f"it dead within {_AHEAD * self.workers} batches from {first} on"
        return (
            f"expected a batch from a data worker, found {found}; memory and storage may be short"
        )


def _checked(workers: int) -> int:
    if workers < 0:
        raise UsageError(f"expected 0 or more workers, got {workers}")
    return workers


def _context() -> BaseContext:
    """How workers start: from a clean server process, since forking this one copies held locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is imported once, not once per worker
    return context


def _unchanged(made: Any) -> Any:
    return made
