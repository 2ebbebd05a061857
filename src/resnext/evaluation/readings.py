"""One set of scores, read in several ways: all classes or 1000, mean logits or probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from resnext.errors import UsageError
from resnext.evaluation.protocols import Average
from resnext.evaluation.score_files import check_labels
from resnext.evaluation.statistics import BINS, Outcomes, wilson
from resnext.metrics import TOP, Counts
from resnext.training.distributed import ALONE, World

FIVE_K, ONE_K = 5000, 1000
"""Table 6: a network of 5000 classes, whose first 1000 are those of ImageNet-1K."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The figures of one way to read scores; errors and intervals in percent.

    Attributes:
        classes: among how many the best is chosen: the first of the network's.
        average: what was averaged over views.
        outcomes: of every image, over all processes.
    """

    classes: int
    average: Average
    outcomes: Outcomes

    @property
    def counts(self) -> Counts:
        """See `Counts`."""
        return self.outcomes.counts()

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON; the classes called by their names."""
        counts = self.counts
        called = [*names, *map(str, range(len(names), self.classes))]
        errors = zip(called, self.outcomes.class_errors(), strict=False)
        return {
            "classes": self.classes,
            "average": self.average,
            "top1_error": counts.top1_error,
            "top1_interval": list(wilson(counts.top1_wrong, counts.samples)),
            "top5_error": counts.top5_error,
            "top5_interval": list(wilson(counts.top5_wrong, counts.samples)),
            "not_finite": self.outcomes.not_finite,
            "top": min(TOP, self.classes),
            "interval": "Wilson 95 %",
            "calibration_error": self.outcomes.calibration_error(),
            "calibration_bins": BINS,
            "class_errors": {name: error for name, error in errors if error is not None},
            "confusion": [
                [called[true], called[predicted], images]
                for true, predicted, images in self.outcomes.confusion()
            ],
        }


def ways(outputs: int, asked: str | None) -> tuple[int, ...]:
    """Among how many classes to choose: that which was asked for, then what else there is.

    Args:
        outputs: of the network.
        asked: ``1k``, ``5k`` or None for all classes.

    Raises:
        UsageError: the network has another number of classes.
    """
    numbers = {None: outputs, "5k": FIVE_K, "1k": ONE_K}
    if asked not in numbers:
        raise UsageError(f"expected --classes 1k or 5k, found {asked!r}")
    first = numbers[asked]
    if first > outputs or (asked == "5k" and outputs != FIVE_K):
        raise UsageError(f"expected a network of {first} classes for {asked}, found {outputs}")
    others = (FIVE_K, ONE_K) if outputs == FIVE_K else ()
    return (first, *(number for number in others if number != first))


def read(
    scores: Tensor | None,
    labels: Tensor | None,
    *,
    classes: int,
    average: Average,
    world: World = ALONE,
) -> Reading:
    """Read this process's scores, and learn of the others'.

    The 1K-way test of Table 6 takes the softmax over the first 1000 of the averaged scores.

    Args:
        scores: n x outputs, or None in a process without images.
        labels: n.
        classes: among how many to choose.
        average: what the scores are the mean of.
        world: the processes.

    Raises:
        DataError: a label lies beyond these classes.
    """
    ours = world.agreed(lambda: _outcomes(scores, labels, classes))
    found = [outcomes for outcomes in world.gather(ours) if outcomes is not None]
    return Reading(classes=classes, average=average, outcomes=Outcomes.joined(found))


def _outcomes(scores: Tensor | None, labels: Tensor | None, classes: int) -> Outcomes | None:
    if scores is None or labels is None:
        return None
    check_labels(labels, classes, f"to choose among {classes} classes")
    return Outcomes.of(scores[:, :classes], labels)
