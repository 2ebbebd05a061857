"""The folder of a run, and what is written into it.

run.json             what was asked for: enough to do it again
metrics.jsonl        one line for every epoch
steps.jsonl          one line for every hundred updates
not-finite.json      the images that training ran away on, if it did
bad-images.jsonl     one line for every image that could not be used, if there were any
checkpoints/step-*/  all that training needs to continue: the last ones
weights.safetensors  the weights after the best epoch
lock                 held by the process that writes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from resnext.errors import CheckpointError, ResNextError, ResourceError
from resnext.files import write_bytes
from resnext.runs.keeping import Kept, append, begin, lines_of, read_record, reason_of, rewrite
from resnext.runs.records import (
    FORMAT,
    BadImage,
    EpochRecord,
    NotFinite,
    RunRecord,
    StepRecord,
    best,
    ended_early,
)
from resnext.spec import Spec
from resnext.training.checkpoint import WEIGHTS, save_weights

RECORD, METRICS, STEPS = "run.json", "metrics.jsonl", "steps.jsonl"
BAD_IMAGES, NOT_FINITE = "bad-images.jsonl", "not-finite.json"


@dataclass(frozen=True, slots=True)
class RunFolder(Kept):
    """A run on disk."""

    record: RunRecord

    @classmethod
    def create(cls, path: Path | None, name: str, record: RunRecord) -> Self:
        """Make the folder: `path`, or else the first free one of `runs/name`, `runs/name-2` etc.

        A `path` that holds nothing, or what a process leaves that was killed here, will do.

        Raises:
            UsageError: it exists, or cannot be made.
            ResourceError: there is no room for it.
        """
        text = record.model_dump_json(indent=2).encode()
        return cls(begin(path, name, RECORD, text), record)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The run in a folder.

        Raises:
            CheckpointError: there is none, or its record is damaged.
        """
        what = "a run folder"
        return cls(path, read_record(path, RECORD, RunRecord, what=what, number=FORMAT))

    @property
    def weights(self) -> Path:
        """The weights of the best epoch."""
        return self.path / WEIGHTS

    def spec(self) -> Spec:
        """The network.

        Raises:
            CheckpointError: the record holds none.
        """
        try:
            return Spec.from_dict(self.record.spec)
        except ResNextError as error:
            raise CheckpointError(f"{self.path / RECORD} is damaged: {error}") from error

    def epochs(self) -> list[EpochRecord]:
        """The epochs finished so far; a last line torn by a crash is left out.

        Raises:
            CheckpointError: another line is damaged.
        """
        return lines_of(self.path / METRICS, EpochRecord)

    def finished(self) -> bool:
        """Whether all epochs of the recipe are trained and scored, or patience is at its end."""
        epochs, recipe = self.epochs(), self.record.recipe
        return len(epochs) >= recipe.epochs or ended_early(epochs, recipe.patience)

    def bad_images(self) -> list[BadImage]:
        """Those that could not be used, in the order in which they were met.

        Raises:
            CheckpointError: a line is damaged.
        """
        return lines_of(self.path / BAD_IMAGES, BadImage)

    def note(self, bad: BadImage) -> None:
        """Log an image that could not be used.

        Raises:
            ResourceError: it cannot be written.
        """
        append(self.path / BAD_IMAGES, bad)

    def keep_not_finite(self, found: NotFinite) -> None:
        """Write down the images that training ran away on.

        Raises:
            ResourceError: it cannot be written.
        """
        write_bytes(self.path / NOT_FINITE, found.model_dump_json(indent=1).encode())

    def log(self, step: StepRecord) -> None:
        """Write down how the epoch is going.

        Raises:
            ResourceError: it cannot be written.
        """
        append(self.path / STEPS, step)

    def rewind(self, epochs: int, updates: int, bad_images: int) -> None:
        """Take back what was written behind a state: it will come again.

        Lines of epochs and steps that lie behind it go, as do half-written files and the log of
        bad images from line `bad_images` on. Checkpoints behind it, which are damaged, are renamed.

        Raises:
            ResourceError: a file cannot be written.
        """
        try:
            (self.path / NOT_FINITE).unlink(missing_ok=True)
            self.clear(updates)
        except OSError as error:
            raise ResourceError(f"cannot change {self.path}: {reason_of(error)}") from error
        rewrite(self.path / METRICS, [line for line in self.epochs() if line.epoch <= epochs])
        steps = lines_of(self.path / STEPS, StepRecord)
        rewrite(self.path / STEPS, [line for line in steps if line.updates <= updates])
        rewrite(self.path / BAD_IMAGES, self.bad_images()[:bad_images])

    def keep(self, weights: Mapping[str, Tensor], epoch: EpochRecord) -> None:
        """Record a validated epoch: its weights if they are the best so far, then its line.

        Raises:
            ResourceError: it cannot be written.
        """
        done = [*self.epochs(), epoch]
        if best(done) is epoch or not self.weights.exists():
            save_weights(self.weights, weights)
        append(self.path / METRICS, epoch)
