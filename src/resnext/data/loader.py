"""From a source and a profile to batches of tensors, in this process, in workers or on threads.

The number of workers changes nothing but the speed: what a batch holds is a function of (seed,
epoch, index), see `order.py`. A worker that dies or stalls is an error in seconds, never a hang.
"""

import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from resnext.data import order
from resnext.data.making import Bad, Engine, Maker, NativeMaker, Raw, maker
from resnext.data.order import Last
from resnext.data.profiles import Profile
from resnext.data.source import Source
from resnext.errors import DataError, ResourceError, UsageError

STALL_SECONDS = 120.0
"""How long one batch may take before its worker counts as stuck."""

BAD_LIMIT = 0.001
"""The part of an epoch's images that may be replaced because they cannot be used."""

_START_SECONDS = 60.0
"""How much longer the first batch may take: workers start, on a machine that may be busy."""

_POLL_SECONDS = 1.0
"""How often the process that waits for a batch looks whether the workers are alive."""

_AHEAD = 2
"""Batches that each worker, or the pool of threads, makes before they are asked for."""


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
    part: int = 1,
    device: torch.device | str = "cpu",
    engine: Engine = "auto",
    bad_limit: float = BAD_LIMIT,
    reuse: bool = False,
) -> "Batches":
    """The augmented, shuffled batches of one epoch, from image `start` of its order on.

    `batch_size` and `start` count the images of all ranks together, so that the epoch is the same
    for any number of ranks; rank r gets its share of each batch, cut between parts of `part`
    images. With last="keep" the final batch may be smaller, on some ranks even empty.

    An image that cannot be used is replaced by another one, chosen by (seed, epoch, index), listed
    in `Batches.bad`, up to `bad_limit` of the epoch's images; 0 stops at the first.

    Raises:
        UsageError: sizes that do not fit together.
    """
    shuffled = order.permutation(len(source), seed=seed, epoch=epoch)
    groups = order.training_batches(
        shuffled, batch_size=batch_size, start=start, last=last, rank=rank, world=world, part=part
    )
    totals = order.batch_sizes(len(source), batch_size=batch_size, start=start, last=last)
    allowed = int(bad_limit * len(source))
    made_by = maker(
        source,
        profile,
        seed=seed,
        epoch=epoch,
        replace=allowed > 0,
        engine=engine,
        threads=_checked(workers),
    )
    return Batches(
        maker=made_by,
        groups=groups,
        totals=totals,
        workers=workers,
        device=device,
        allowed=allowed,
        reuse=reuse,
    )


def evaluation_batches(
    source: Source,
    profile: Profile,
    *,
    batch_size: int,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    engine: Engine = "auto",
) -> "Batches":
    """Every image once over all ranks, in stored order, without padding, at any world size.

    `batch_size` counts the images of this rank. An image that cannot be used is an error.

    Raises:
        UsageError: sizes that do not fit together.
    """
    groups = order.evaluation_batches(len(source), batch_size=batch_size, rank=rank, world=world)
    made_by = maker(
        source,
        profile,
        seed=None,
        epoch=0,
        replace=False,
        engine=engine,
        threads=_checked(workers),
    )
    totals = [len(group) for group in groups]
    return Batches(maker=made_by, groups=groups, totals=totals, workers=workers, device=device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """An epoch's batches: has a length, can be iterated again, makes nothing before that.

    Attributes:
        maker: makes them.
        groups: the images of each.
        totals: how many images each holds over all ranks.
        workers: processes, or threads of the native loader.
        device: where they are wanted.
        allowed: how many images may be replaced.
        reuse: whether a batch of photos may lie where the one before lay, for callers that are done
            with that: new memory costs as much as filling it.
        bad: those replaced so far in the latest iteration.

    Raises:
        DataError: while iterating, for an image that cannot be used; the message names it.
        ResourceError: while iterating, when a worker process died or is stuck.
    """

    maker: Maker
    groups: Sequence[NDArray[np.int64]]
    totals: Sequence[int]
    workers: int
    device: torch.device | str = "cpu"
    allowed: int = 0
    reuse: bool = False
    stall_seconds: float = STALL_SECONDS
    bad: list[Bad] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Batch]:
        memory: Tensor | None = None
        for raw in self.raw():
            fits = memory is not None and len(memory) == len(raw.labels)
            images = raw.ready(self.device, out=memory if fits else None)
            if self.reuse:
                memory = images
            yield Batch(images, raw.labels, raw.indices)

    def raw(self) -> Iterator[Raw]:
        """The batches before they are moved and normalised: photos as bytes."""
        self.bad.clear()
        if not self.groups:
            made: Iterator[Raw] = iter(())
        elif isinstance(self.maker, NativeMaker):
            made = self._from_threads()
        elif self.workers:
            made = self._from_workers()
        else:
            made = map(self.maker.batch, self.groups)
        for raw in made:
            self._count(raw.bad)
            yield raw

    def _count(self, bad: Sequence[Bad]) -> None:
        self.bad.extend(bad)
        if len(self.bad) > self.allowed:
            reasons = "; ".join(found.reason for found in self.bad[:3])
            raise DataError(
                f"expected at most {self.allowed} images that cannot be used, found "
                f"{len(self.bad)}: {reasons}"
            )

    def _from_threads(self) -> Iterator[Raw]:
        """Batches made ahead while the caller works; the native loader has threads of its own."""
        feeder = _Feeder(self.maker)
        used: list[NDArray[np.generic]] = []  # memory of batches that the caller is done with
        try:
            for position in range(len(self.groups) + _AHEAD):
                if position < len(self.groups):
                    feeder.ask(self.groups[position], used.pop() if used else None)
                if position >= _AHEAD:
                    raw = self._fed(feeder, position - _AHEAD)
                    yield raw
                    if self.reuse:
                        used.append(raw.images.numpy())
        finally:
            feeder.stop()

    def _fed(self, feeder: "_Feeder", position: int) -> Raw:
        try:
            return feeder.get(self.stall_seconds + (0.0 if position else _START_SECONDS))
        except queue.Empty as error:
            raise ResourceError(self._lost(position, alive=True)) from error

    def _from_workers(self) -> Iterator[Raw]:
        loader: DataLoader[Any] = DataLoader(
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

    def _next(self, made: Iterator[Raw | DataError], position: int) -> Any:
        """The next batch; looks after the workers every few seconds while it waits."""
        starting = 0.0 if position else _START_SECONDS
        deadline = time.monotonic() + self.stall_seconds + starting
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


class _Feeder:
    """A thread that makes batches in the order asked for.

    A daemon: one that waits for a disk that never answers does not keep the process alive.
    """

    def __init__(self, made_by: Maker) -> None:
        self._maker = made_by
        self._asked: queue.SimpleQueue[tuple[Any, Any] | None] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[Raw | BaseException] = queue.SimpleQueue()
        self._stopped = False
        threading.Thread(target=self._run, name="batches", daemon=True).start()

    def ask(self, group: NDArray[np.int64], out: NDArray[np.generic] | None) -> None:
        """Have a batch made, in memory that may be overwritten."""
        self._asked.put((group, out))

    def get(self, seconds: float) -> Raw:
        """The next batch.

        Raises:
            queue.Empty: it is not there after so many seconds.
        """
        made = self._made.get(timeout=seconds)
        if isinstance(made, BaseException):
            raise made
        return made

    def stop(self) -> None:
        """Make nothing more."""
        self._stopped = True
        self._asked.put(None)

    def _run(self) -> None:
        while (job := self._asked.get()) is not None and not self._stopped:
            try:
                self._made.put(self._maker.batch(*job))
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                self._made.put(error)


def _checked(workers: int) -> int:
    if workers < 0:
        raise UsageError(f"expected 0 or more workers, found {workers}")
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
