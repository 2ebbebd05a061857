"""The errors of a module on batches of images, always with how they were measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from resnext.errors import DataError
from resnext.metrics import Counts, Tally
from resnext.training.distributed import ALONE, World
from resnext.training.loop import PULSE
from resnext.training.trainer import Batch, Batches

SINGLE_VIEW = "single view"
"""Each image is seen once, as its profile prepares it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where an evaluation stands, from time to time."""

    step: int
    steps: int
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The errors over a whole set, with the protocol and the preprocessing behind them."""

    counts: Counts
    protocol: str
    profile: str


def evaluate(
    model: nn.Module,
    batches: Batches,
    *,
    samples: int,
    profile: str,
    device: torch.device | str = "cpu",
    pulse: float = PULSE,
    world: World = ALONE,
) -> Iterator[Part | Scores]:
    """Score `model` on every image once: a `Part` every `pulse` seconds, then the `Scores`.

    Of several processes each has its share of the batches; a `Part` speaks of this process, the
    `Scores` of all.

    The model is left in evaluation mode, that is, with running statistics in normalisation.

    Raises:
        DataError: the batches hold more or fewer images than the set's `samples`.
    """
    tally = Tally(device)
    looked = time.perf_counter()
    model.eval()
    for step, batch in enumerate(batches, start=1):
        _score(model, batch, tally, device)
        if time.perf_counter() - looked >= pulse:
            yield Part(step=step, steps=len(batches), counts=tally.counts())
            looked = time.perf_counter()
    (seen,) = world.totals([tally.samples])
    tally.share(world.sum_, seen)
    counts = tally.counts()
    if counts.samples != samples or not samples:
        raise DataError(f"expected {samples} images to score on, found {counts.samples}")
    yield Scores(counts=counts, protocol=SINGLE_VIEW, profile=profile)


@torch.inference_mode()
def _score(model: nn.Module, batch: Batch, tally: Tally, device: torch.device | str) -> None:
    labels = batch.labels.to(device, non_blocking=True)
    logits = model(batch.images.to(device, non_blocking=True))
    tally.add(logits, labels, F.cross_entropy(logits.float(), labels))
