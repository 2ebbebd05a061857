"""What became of each image, and the figures that follow: intervals, calibration, confusion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from resnext.metrics import TOP, Counts, ranks

CONFIDENCE = 0.95
_NORMAL = 1.959963984540054
"""The quantile of the normal distribution for that."""

BINS = 15
"""Of equal width, for the calibration error: Guo et al. (2017), arXiv 1706.04599, Eqn. 3."""

_ROWS = 4096
"""Images looked at in one go: a few temporaries of their scores fit into memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """One number of each kind per image, on the CPU.

    Attributes:
        labels: N, int64.
        ranks: N, int64, see `metrics.ranks`: 0 is right.
        predicted: N, int64; of equal scores the lower class, of scores that are no numbers the
            first such.
        confidence: N, float32, the probability of the predicted class; 1 where it is no number.
        losses: N, float32, in nats.
        classes: among how many was chosen.
    """

    labels: Tensor
    ranks: Tensor
    predicted: Tensor
    confidence: Tensor
    losses: Tensor
    classes: int

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor) -> Self:
        """N x classes scores, whose softmax are probabilities, and N labels -> outcomes."""
        pairs = zip(torch.split(scores, _ROWS), torch.split(labels, _ROWS), strict=True)
        parts = [_outcomes(rows.float(), some) for rows, some in pairs]
        joined = [torch.cat(column) for column in zip(*parts, strict=True)]
        place, predicted, confidence, losses = joined or [torch.empty(0)] * 4
        return cls(
            labels=labels,
            ranks=place,
            predicted=predicted,
            confidence=confidence,
            losses=losses,
            classes=scores.shape[1],
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The outcomes of several processes, in their order."""
        names = ("labels", "ranks", "predicted", "confidence", "losses")
        columns = {
            name: torch.cat([getattr(part, name) for part in parts if len(part.labels)])
            for name in names
        }
        return cls(**columns, classes=parts[0].classes)

    def counts(self) -> Counts:
        """Top-1 and top-5, of fewer than five classes top-k."""
        top = min(TOP, self.classes)
        return Counts(
            samples=len(self.labels),
            top1_wrong=int((self.ranks >= 1).sum()),
            top5_wrong=int((self.ranks >= top).sum()),
            loss_sum=float(self.losses.double().sum()),
        )

    @property
    def not_finite(self) -> int:
        """Images whose scores are no numbers; they count as wrong."""
        return int((~self.losses.isfinite()).sum())

    def class_errors(self) -> list[float | None]:
        """Top-1 error of each class in percent; None for a class without images."""
        totals = torch.bincount(self.labels, minlength=self.classes).tolist()
        wrong = torch.bincount(self.labels[self.ranks >= 1], minlength=self.classes).tolist()
        return [100 * w / n if n else None for w, n in zip(wrong, totals, strict=True)]

    def confusion(self) -> list[tuple[int, int, int]]:
        """(class, predicted class, images) of all mistakes, the most frequent first."""
        mistakes = self.ranks >= 1
        pairs = self.labels[mistakes] * self.classes + self.predicted[mistakes]
        cells, counts = torch.unique(pairs, return_counts=True)
        found = [
            (cell // self.classes, cell % self.classes, count)
            for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)
        ]
        return sorted(found, key=lambda cell: (-cell[2], cell))

    def calibration_error(self, bins: int = BINS) -> float:
        """Expected calibration error in percent, over `bins` bins of equal width.

        In each, how far the mean confidence is from the part of right answers, weighted by images.
        A confidence on the border of two bins belongs to the lower one.
        """
        if not len(self.labels):
            return math.nan
        place = (self.confidence.double() * bins).ceil().long().clamp_(1, bins) - 1
        gap = self.confidence.double() - (self.ranks == 0).double()
        total = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, gap)
        return 100 * float(total.abs().sum()) / len(self.labels)


def _outcomes(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    best = scores.amax(1, keepdim=True)
    classes = torch.arange(scores.shape[1])
    chosen = (scores == best) | scores.isnan()
    predicted = torch.where(chosen, classes, scores.shape[1] - 1).amin(1)
    probabilities = scores.softmax(1).gather(1, predicted.unsqueeze(1)).squeeze(1)
    losses = F.cross_entropy(scores, labels, reduction="none")
    return ranks(scores, labels), predicted, probabilities.nan_to_num(1.0), losses


def wilson(part: int, whole: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion, in percent.

    Wilson (1927); unlike the normal approximation it stays within 0 and 100 and is usable for few
    images. It holds for images drawn at random, and says nothing about the choice of the set.
    """
    if not whole:
        return math.nan, math.nan
    p, square = part / whole, _NORMAL**2 / whole
    centre = p + square / 2
    spread = _NORMAL * math.sqrt(p * (1 - p) / whole + square / (4 * whole))
    low, high = (100 * (centre + sign * spread) / (1 + square) for sign in (-1, 1))
    return (0.0 if part == 0 else low), (100.0 if part == whole else high)
