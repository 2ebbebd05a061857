"""The training loop: a generator that its caller pulls, epoch by epoch.

It takes any module and any batches and knows nothing of data sets, folders or screens. Whoever
pulls may evaluate, save or stop between two records.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnext.errors import DataError, ResNextError
from resnext.metrics import Counts, Tally
from resnext.training.recipe import Recipe
from resnext.training.schedule import learning_rate

PULSE = 0.25
"""Seconds between two looks inside an epoch: each waits for the device once, so they are few."""


class Batch(Protocol):
    """N x channels x height x width images and their N classes."""

    @property
    def images(self) -> Tensor: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102


class Batches(Protocol):
    """The batches of one epoch: how many there are is known before the first."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where training stands inside an epoch, from time to time."""

    epoch: int
    step: int
    steps: int
    learning_rate: float
    counts: Counts
    """Of this epoch so far, each batch counted before its update."""
    seconds: float


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

    @property
    def images_per_second(self) -> float:
        """Training images per second, waiting for data included."""
        return self.counts.samples / self.seconds


def fit(
    model: nn.Module,
    batches: Callable[[int], Batches],
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    pulse: float = PULSE,
) -> Iterator[Step | Epoch]:
    """Train `model` in place; `batches(epoch)` gives the batches of an epoch, counted from 1.

    Nothing happens until the result is pulled. The model must be on `device` already.

    Raises:
        ResNextError: the loss is no longer finite.
        DataError: an epoch has no batches.
    """
    optimizer = sgd(model, recipe)
    for epoch in range(1, recipe.epochs + 1):
        yield from train_epoch(
            model, batches(epoch), recipe, optimizer, epoch=epoch, device=device, pulse=pulse
        )


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """The recipe's optimiser: one rate and one decay for every parameter, as in `train.lua`."""
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def train_epoch(
    model: nn.Module,
    batches: Batches,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    *,
    epoch: int,
    device: torch.device | str = "cpu",
    pulse: float = PULSE,
) -> Iterator[Step | Epoch]:
    """One pass over `batches`: a `Step` every `pulse` seconds, then the `Epoch`."""
    steps = len(batches)
    if steps == 0:
        raise DataError(f"expected images to train on, found none in epoch {epoch}")
    tally = Tally(device)
    started = looked = time.perf_counter()
    model.train()

    def look(step: int, rate: float) -> Step:
        """The only place that waits for the device."""
        counts, seconds = tally.counts(), time.perf_counter() - started
        _require_finite(counts, epoch, step, steps, rate)
        return Step(
            epoch=epoch, step=step, steps=steps, learning_rate=rate, counts=counts, seconds=seconds
        )

    for step, batch in enumerate(batches, start=1):
        rate = rate_of_step(recipe, epoch, step, steps)
        train_step(model, batch, optimizer, tally, rate=rate, device=device)
        if time.perf_counter() - looked >= pulse:
            yield look(step, rate)
            looked = time.perf_counter()
    last = look(steps, rate)
    yield Epoch(
        epoch=epoch,
        learning_rate=rate_of_step(recipe, epoch, 1, steps),
        counts=last.counts,
        seconds=last.seconds,
    )


def rate_of_step(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The schedule taken in the middle of a step; epochs and steps are counted from 1.

    At its beginning, a warm-up would give the first step no rate at all.
    """
    return learning_rate(recipe, epoch - 1 + (step - 0.5) / steps)


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    tally: Tally,
    *,
    rate: float,
    device: torch.device | str,
) -> None:
    """Cross-entropy over the batch, its gradient, one update."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    images = batch.images.to(device, non_blocking=True)
    labels = batch.labels.to(device, non_blocking=True)
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    tally.add(logits, labels, loss)


def _require_finite(counts: Counts, epoch: int, step: int, steps: int, rate: float) -> None:
    if not math.isfinite(counts.loss_sum):
        raise ResNextError(
            f"training stopped: the loss is {counts.loss} by step {step} of {steps} in epoch "
            f"{epoch}, at learning rate {rate:.3g}; a lower rate or a look at the data may help"
        )
