"""The training loop: a generator that its caller pulls, step by step.

It takes any module and any batches and knows nothing of data sets, folders or screens. Whoever
pulls may evaluate, save or stop between two records.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from resnext.metrics import Counts
from resnext.training.batches import Batches
from resnext.training.schedule import rate_of_step
from resnext.training.trainer import Trainer

PULSE = 0.25
"""Seconds between two looks inside an epoch: each waits for the device once, so they are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One finished step."""

    epoch: int
    step: int
    steps: int
    learning_rate: float
    batch: Any
    """What the step was made of, in this process."""
    counts: Counts | None
    """Of this epoch so far, each batch counted before its update; given from time to time."""
    seconds: float
    """Of this epoch so far."""
    waited: float
    """Seconds of them in which there was no batch ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One finished epoch."""

    epoch: int
    """Counted from 1."""
    learning_rate: float
    """Of the first step."""
    counts: Counts
    """Of augmented images, each batch counted before its update: a running figure."""
    seconds: float
    waited: float

    @property
    def images_per_second(self) -> float:
        """Training images per second, waiting for data included."""
        return self.counts.samples / self.seconds if self.seconds else 0.0


def fit(
    trainer: Trainer,
    batches: Callable[[int, int], Batches],
    *,
    pulse: float = PULSE,
    seconds: float = 0.0,
    waited: float = 0.0,
) -> Iterator[Step | Epoch]:
    """Train from where the trainer stands to the end of its recipe.

    `batches(epoch, step)` gives what is left of an epoch, counted from 1, behind so many steps.
    Nothing happens until the result is pulled; `counts` are looked at every `pulse` seconds.
    `seconds` have already gone into the epoch that is begun, `waited` of them without a batch.

    Raises:
        DataError: an epoch has no batches.
    """
    while trainer.position.epoch <= trainer.recipe.epochs:
        yield from _epoch(trainer, batches, pulse, seconds, waited)
        trainer.next_epoch()
        seconds = waited = 0.0


def _epoch(
    trainer: Trainer,
    batches: Callable[[int, int], Batches],
    pulse: float,
    seconds: float,
    waited: float,
) -> Iterator[Step | Epoch]:
    epoch, done = trainer.position.epoch, trainer.position.step
    given = _Timed(batches(epoch, done), waited)
    steps = done + len(given)
    started = looked = time.perf_counter()
    for batch in trainer.train_epoch(given):
        now = time.perf_counter()
        due = now - looked >= pulse
        step = trainer.position.step
        yield Step(
            epoch=epoch,
            step=step,
            steps=steps,
            learning_rate=rate_of_step(trainer.recipe, epoch, step, steps),
            batch=batch,
            counts=trainer.counts() if due else None,
            seconds=seconds + now - started,
            waited=given.waited,
        )
        looked = now if due else looked
    yield Epoch(
        epoch=epoch,
        learning_rate=rate_of_step(trainer.recipe, epoch, 1, steps),
        counts=trainer.counts(),
        seconds=seconds + time.perf_counter() - started,
        waited=given.waited,
    )


class _Timed:
    """Batches that know how long they were waited for."""

    def __init__(self, batches: Batches, waited: float) -> None:
        self._batches = batches
        self.totals = batches.totals
        self.waited = waited

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._batches)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch
