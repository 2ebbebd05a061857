"""The errors of a module on batches of images, always with how they were measured."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnext.data.whole import WholeBatch, WholeBatches
from resnext.errors import DataError
from resnext.evaluation.protocols import SINGLE, SINGLE_VIEW, Average, Protocol
from resnext.evaluation.views import Averaged, Score, scorer
from resnext.metrics import Counts, Tally
from resnext.training.batches import Batch, Batches
from resnext.training.distributed import ALONE, World
from resnext.training.loop import PULSE

__all__ = ["SINGLE_VIEW", "Kept", "Part", "Scores", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where an evaluation stands, from time to time."""

    step: int
    steps: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Kept:
    """The scores of this process's images, in their order, on the CPU.

    Attributes:
        averaged: n x classes.
        labels: n, int64.
    """

    averaged: Averaged
    labels: Tensor

    def scores(self, average: Average) -> Tensor:
        """See `Averaged.scores`."""
        return self.averaged.scores(average)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The errors over a whole set, with the protocol and the preprocessing behind them.

    Attributes:
        counts: over all processes.
        leading: the same of the images of the leading classes, each among these alone (Sec. 5.2's
            1K-way), if asked for.
        protocol: see `Protocol`.
        profile: what prepared the images.
        seconds: from the first batch asked for to the last score, in this process.
        kept: what this process saw, if asked for.
    """

    counts: Counts
    protocol: str
    profile: str
    seconds: float = 0.0
    kept: Kept | None = None
    leading: Counts | None = None


def evaluate(
    model: nn.Module,
    batches: Batches | WholeBatches,
    *,
    samples: int,
    profile: str,
    protocol: Protocol = SINGLE,
    score: Score | None = None,
    keep: bool = False,
    leading: int | None = None,
    device: torch.device | str = "cpu",
    pulse: float = PULSE,
    world: World = ALONE,
) -> Iterator[Part | Scores]:
    """Score `model` on every image once: a `Part` every `pulse` seconds, then the `Scores`.

    Of several processes each has its share of the batches; a `Part` speaks of this process, the
    `Scores` of all. The model is left in evaluation mode, that is, with running statistics in
    normalisation.

    Args:
        model: N x C x H x W -> N x classes.
        batches: of the kind that the protocol asks for.
        samples: images of the set, over all processes.
        profile: the name of what prepared them.
        protocol: its name, and what is averaged.
        score: what it does, from `scorer`; made here for a protocol of one size.
        keep: whether to keep the scores of this process's images.
        leading: how many classes to count once more among themselves.
        device: where the model is.
        pulse: in seconds.
        world: the processes.

    Raises:
        DataError: the batches hold more or fewer images than the set's `samples`.
    """
    tally, first, kept = Tally(device), Tally(device), _Keeper()
    looked = started = time.perf_counter()
    score = score or scorer(protocol, model, device)
    model.eval()
    share: Iterable[Batch | WholeBatch] = batches
    for step, batch in enumerate(share, start=1):
        found = _score(score, batch, tally, protocol.average, device)
        if leading is not None:
            _count(first, found.scores(protocol.average), batch.labels, leading)
        if keep:
            kept.add(found, batch.labels)
        if time.perf_counter() - looked >= pulse:
            yield Part(step=step, steps=len(batches), counts=tally.counts())
            looked = time.perf_counter()
    seen, seen_first = world.totals([tally.samples, first.samples])
    tally.share(world.sum_, seen)
    first.share(world.sum_, seen_first)
    counts = tally.counts()
    if counts.samples != samples or not samples:
        raise DataError(f"expected {samples} images to score on, found {counts.samples}")
    yield Scores(
        counts=counts,
        protocol=str(protocol),
        profile=profile,
        seconds=time.perf_counter() - started,
        kept=kept.whole() if keep else None,
        leading=None if leading is None else first.counts(),
    )


@torch.inference_mode()
def _score(
    score: Score,
    batch: Batch | WholeBatch,
    tally: Tally,
    average: Average,
    device: torch.device | str,
) -> Averaged:
    labels = batch.labels.to(device, non_blocking=True)
    found = score(batch)
    scores = found.scores(average)
    tally.add(scores, labels, F.cross_entropy(scores, labels))
    return found


@torch.inference_mode()
def _count(tally: Tally, scores: Tensor, labels: Tensor, classes: int) -> None:
    """Count the images of the leading classes among these: N x K scores, N labels on the CPU."""
    own = (labels < classes).nonzero().squeeze(1)
    if len(own):
        among, right = scores[own.to(scores.device), :classes], labels[own].to(scores.device)
        tally.add(among, right, F.cross_entropy(among, right))


class _Keeper:
    """Scores on their way to the CPU, one batch behind, so that the device need not wait."""

    def __init__(self) -> None:
        self._found: list[Averaged] = []
        self._labels: list[Tensor] = []

    def add(self, found: Averaged, labels: Tensor) -> None:
        self._fetch()
        self._found.append(found)
        self._labels.append(labels)

    def _fetch(self) -> None:
        if self._found:
            last = self._found[-1]
            chances = last.probabilities
            self._found[-1] = Averaged(
                last.logits.cpu(), None if chances is None else chances.cpu()
            )

    def whole(self) -> Kept | None:
        """All of them; None in a process that had no images."""
        if not self._found:
            return None
        self._fetch()
        chances = [found.probabilities for found in self._found]
        probabilities = [chance for chance in chances if chance is not None]
        return Kept(
            Averaged(
                torch.cat([found.logits for found in self._found]),
                torch.cat(probabilities) if probabilities else None,
            ),
            torch.cat(self._labels),
        )
