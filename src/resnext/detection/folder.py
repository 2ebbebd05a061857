"""The folder of a detector, and what is written into it.

detection.json       what was asked for: enough to do it again
steps.jsonl          one line every so many steps: losses, rate, seconds
evaluations.jsonl    one line for every scoring
proposals/           of the training images, between the two steps of the paper's profile
checkpoints/step-*/  all that training needs to continue: the last ones
weights.safetensors  the detector behind its last step
lock                 held by the process that writes
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from resnext.detection.coco import Category, Coco
from resnext.detection.method import Method
from resnext.detection.schedule import Schedule
from resnext.errors import CheckpointError, ResNextError, ResourceError
from resnext.runs.keeping import Kept, append, begin, lines_of, read_record, reason_of, rewrite
from resnext.runs.records import same_weights
from resnext.spec import Spec
from resnext.training.checkpoint import WEIGHTS, save_weights
from resnext.training.speed import Precision

FORMAT = 1
RECORD, STEPS, EVALUATIONS, PROPOSALS = (
    "detection.json",
    "steps.jsonl",
    "evaluations.jsonl",
    "proposals",
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class SetRecord(_Record):
    """Which pictures, and where they are."""

    name: str
    annotations: tuple[str, ...]
    images: str
    fingerprint: str
    count: int

    @classmethod
    def of(cls, data: Coco) -> Self:
        """What identifies a set."""
        return cls(
            name=data.name,
            annotations=tuple(str(file.absolute()) for file in data.annotations),
            images=str(data.images.absolute()),
            fingerprint=data.fingerprint,
            count=len(data),
        )


class DetectionRecord(_Record):
    """All that decides a detector, and where it ran: the contents of `detection.json`."""

    format: int = FORMAT
    network: str
    spec: dict[str, Any]
    method: Method
    schedules: tuple[Schedule, ...]
    classes: tuple[tuple[int, str], ...]
    """Number in the data set and name of label 1, 2 ..."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train: SetRecord
    evaluation: SetRecord
    empty: bool
    """Whether images without objects are trained on too."""
    seed: int
    device: str
    threads: int
    processes: int
    precision: Precision
    initial_weights: str | None
    recalibrated: int
    """Images that the statistics of normalisation were taken from anew; 0 keeps the weights'."""
    versions: dict[str, str]
    command: tuple[str, ...]
    commit: str | None
    started: str

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes as the data layer has them."""
        return tuple(Category(*row) for row in self.classes)


class StepLine(_Record):
    """One line of `steps.jsonl`."""

    phase: str
    step: int
    updates: int
    learning_rate: float
    losses: dict[str, float]
    seconds: float
    data_wait: float


_FREE = ("device", "threads", "processes", "versions", "command", "commit", "started")
"""What may change between two parts of a run."""

_PLACES = {
    f"{which}.{field}": f"{which}.fingerprint"
    for which in ("train", "evaluation")
    for field in ("annotations", "images")
}
"""Where pictures lie, and what tells whether they are the same."""


def differences(ours: DetectionRecord, theirs: DetectionRecord) -> Iterator[str]:
    """What makes two detectors different ones: `field theirs instead of ours`.

    The place of pictures or of initial weights that are the same does not.
    """
    mine, other = _flat(ours), _flat(theirs)
    for field in sorted(mine.keys() | other.keys()):
        fingerprint = _PLACES.get(field)
        if fingerprint is not None and mine[fingerprint] == other[fingerprint]:
            continue
        if field == "initial_weights" and same_weights(mine[field], other[field]):
            continue
        if mine.get(field) != other.get(field):
            yield f"{field} {str(other.get(field))[:60]} instead of {str(mine.get(field))[:60]}"


def _flat(record: DetectionRecord) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in json.loads(record.model_dump_json(exclude=set(_FREE))).items():
        if name in ("method", "train", "evaluation"):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        elif name == "schedules":
            found |= {f"{s['phase']}.{key}": inner for s in value for key, inner in s.items()}
        else:
            found[name] = value
    return found


@dataclass(frozen=True, slots=True)
class DetectionFolder(Kept):
    """A detector on disk."""

    record: DetectionRecord

    @classmethod
    def create(cls, path: Path | None, name: str, record: DetectionRecord) -> Self:
        """Make the folder: `path`, or else the first free one of `runs/name`, `runs/name-2` etc.

        Raises:
            UsageError: it exists, or cannot be made.
            ResourceError: there is no room for it.
        """
        text = record.model_dump_json(indent=2).encode()
        return cls(begin(path, name, RECORD, text), record)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The detector in a folder.

        Raises:
            CheckpointError: there is none, or its record is damaged.
        """
        record = read_record(
            path, RECORD, DetectionRecord, what="a detector's folder", number=FORMAT
        )
        return cls(path, record)

    @property
    def weights(self) -> Path:
        """The detector behind its last step."""
        return self.path / WEIGHTS

    @property
    def proposals(self) -> Path:
        """Where proposals of the training images lie."""
        return self.path / PROPOSALS

    def spec(self) -> Spec:
        """The backbone.

        Raises:
            CheckpointError: the record holds none.
        """
        try:
            return Spec.from_dict(self.record.spec)
        except ResNextError as error:
            raise CheckpointError(f"{self.path / RECORD} is damaged: {error}") from error

    def finished(self) -> bool:
        """Whether all steps of all phases are done."""
        return self.weights.exists()

    def lines(self) -> list[StepLine]:
        """What was logged of the steps.

        Raises:
            CheckpointError: a line is damaged.
        """
        return lines_of(self.path / STEPS, StepLine)

    def log(self, line: StepLine) -> None:
        """Write down how it is going.

        Raises:
            ResourceError: it cannot be written.
        """
        append(self.path / STEPS, line)

    def rewind(self, updates: int) -> None:
        """Take back what was written behind a state: it will come again.

        Raises:
            ResourceError: a file cannot be written.
        """
        try:
            self.clear(updates)
        except OSError as error:
            raise ResourceError(f"cannot change {self.path}: {reason_of(error)}") from error
        rewrite(self.path / STEPS, [line for line in self.lines() if line.updates <= updates])

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Write the finished detector.

        Raises:
            ResourceError: it cannot be written.
        """
        save_weights(self.weights, weights)
