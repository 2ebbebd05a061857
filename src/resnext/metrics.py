"""Logits and labels become integer counts; counts become errors in percent.

Counts add, so a score over many batches (or many processes) is exact and does not depend on how the
images were grouped. An error is a percentage of wrong images, as in the paper's tables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

TOP = 5
"""The second figure of the paper's tables: the true class is not among the five best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many images were seen, how many of them were wrong, and their summed loss (nats)."""

    samples: int = 0
    top1_wrong: int = 0
    top5_wrong: int = 0
    loss_sum: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(
            samples=self.samples + other.samples,
            top1_wrong=self.top1_wrong + other.top1_wrong,
            top5_wrong=self.top5_wrong + other.top5_wrong,
            loss_sum=self.loss_sum + other.loss_sum,
        )

    @property
    def top1_error(self) -> float:
        """Images whose best class is wrong, in percent; not a number without images."""
        return _percent(self.top1_wrong, self.samples)

    @property
    def top5_error(self) -> float:
        """Images whose class is not among the min(5, classes) best, in percent."""
        return _percent(self.top5_wrong, self.samples)

    @property
    def loss(self) -> float:
        """Mean loss of an image, in nats."""
        return self.loss_sum / self.samples if self.samples else float("nan")


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the true one: N x K logits and N labels -> N integers.

    Of equal logits the lower class comes first, as in `argmax` and in a stable sort, so a network
    that says the same of everything is right about class 0 only. A logit that is not a number comes
    before every other, and an image whose own logit is not a number has rank K: always wrong.
    """
    own = logits.gather(1, labels.unsqueeze(1))
    classes = torch.arange(logits.shape[1], device=logits.device)
    ahead = ~(logits <= own) | ((logits == own) & (classes < labels.unsqueeze(1)))
    return ahead.sum(1)


class Tally:
    """Running counts that stay on the device, so that adding a batch never waits for it."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Start at nothing; the loss is summed in float64 where the device has it."""
        precision = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self._samples = 0
        self._wrong = torch.zeros(2, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=precision, device=device)

    @property
    def samples(self) -> int:
        """How many have been counted."""
        return self._samples

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Count one batch: N x K logits, N labels, and the mean loss over the batch."""
        top = min(TOP, logits.shape[1])
        rank = ranks(logits.detach(), labels)
        self._samples += len(labels)
        self._wrong += torch.stack([(rank >= 1).sum(), (rank >= top).sum()])
        self._loss += loss.detach().to(self._loss.dtype) * len(labels)

    def absorb(self, other: Self) -> None:
        """Count what another one has counted."""
        self._samples += other._samples
        self._wrong += other._wrong
        self._loss += other._loss

    def share(self, sum_: Callable[[Tensor], None], samples: int) -> None:
        """Make this the counts of all processes: `sum_` adds up a tensor over them, in place.

        Together they have counted so many samples.
        """
        sum_(self._wrong)
        sum_(self._loss)
        self._samples = samples

    def counts(self) -> Counts:
        """The counts so far; waits for the device."""
        top1_wrong, top5_wrong = self._wrong.tolist()
        return Counts(
            samples=self._samples,
            top1_wrong=top1_wrong,
            top5_wrong=top5_wrong,
            loss_sum=self._loss.item(),
        )


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else float("nan")
