"""The folder of a run, and what is written into it.

run.json             what was asked for: enough to do it again
metrics.jsonl        one line for every epoch
bad-images.jsonl     one line for every image that could not be used, if there were any
checkpoints/step-*/  the weights after the last epoch
weights.safetensors  the weights after the best epoch
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from resnext.data.making import Used
from resnext.errors import CheckpointError, ResNextError, ResourceError, UsageError
from resnext.spec import Spec
from resnext.training.checkpoint import WEIGHTS, save_checkpoint, save_weights, write_bytes
from resnext.training.recipe import Recipe

RECORD, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"
BAD_IMAGES = "bad-images.jsonl"


FORMAT = 1
"""Of `run.json`; fields may be added under one number, with a default."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class DataRecord(_Record):
    """Which images a run saw."""

    name: str
    location: str
    """`digits`, or an absolute path; how `evaluate` finds the images again."""
    fingerprint: str
    classes: tuple[str, ...]


class RunRecord(_Record):
    """All that decides a run, and where it ran: the contents of `run.json`."""

    format: int = FORMAT
    network: str
    """The specification's name; `spec` is what counts."""
    spec: dict[str, Any]
    recipe: Recipe
    data: DataRecord
    profile: str
    engine: Used = "pillow"
    """What decoded and resized the images; engines agree to two grey levels."""
    seed: int
    device: str
    threads: int
    """Threads of one operation; another number may round sums differently."""
    versions: dict[str, str]
    command: tuple[str, ...]
    commit: str | None
    started: str


class EpochRecord(_Record):
    """One line of `metrics.jsonl`: errors in percent, losses in nats."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_error: float
    validation_loss: float | None
    """Nothing where it is not finite, which happens while running statistics settle."""
    validation_error: float
    validation_top5_error: float
    seconds: float
    """Of training alone."""
    images_per_second: float


class BadImage(_Record):
    """An image that could not be used in an epoch, and the one that stood in for it."""

    epoch: int
    image: str
    reason: str
    replacement: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run on disk."""

    path: Path
    record: RunRecord

    @classmethod
    def create(cls, path: Path | None, name: str, record: RunRecord) -> Self:
        """Make the folder: `path`, or else the first free one of `runs/name`, `runs/name-2` etc.

        Raises:
            UsageError: it exists, or cannot be made.
        """
        made = _make_folder([path] if path else _free_names(Path("runs") / name))
        try:
            (made / CHECKPOINTS).mkdir()
            write_bytes(made / RECORD, record.model_dump_json(indent=2).encode())
        except (OSError, ResourceError) as error:
            shutil.rmtree(made, ignore_errors=True)  # or the next try would find it taken
            raise ResourceError(f"cannot write {made}: {error}") from error
        return cls(made, record)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The run in a folder.

        Raises:
            CheckpointError: there is none, or its record is damaged.
        """
        file = path / RECORD
        try:
            text = file.read_bytes()
            _check_format(file, text)
            return cls(path, RunRecord.model_validate_json(text))
        except FileNotFoundError as error:
            found = "no such folder" if not path.exists() else f"it holds no {RECORD}"
            raise CheckpointError(f"expected a run folder, found {path}: {found}") from error
        except OSError as error:
            raise CheckpointError(f"cannot read {file}: {error.strerror or error}") from error
        except ValidationError as error:
            raise CheckpointError(f"{file} is damaged: {_first_problem(error)}") from error

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
        file = self.path / METRICS
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        try:
            return [EpochRecord.model_validate_json(line) for line in lines]
        except ValidationError as error:
            raise CheckpointError(f"{file} is damaged: {_first_problem(error)}") from error

    def last_checkpoint(self) -> Path | None:
        """Where the weights of the last trained epoch are, validated or not; None before it."""
        return next((self.path / CHECKPOINTS).glob("step-*/" + WEIGHTS), None)

    def note(self, bad: BadImage) -> None:
        """Log an image that could not be used.

        Raises:
            ResourceError: it cannot be written.
        """
        _append(self.path / BAD_IMAGES, bad.model_dump_json())

    def checkpoint(self, weights: Mapping[str, Tensor], *, epoch: int, step: int) -> None:
        """Save what was trained, before anything else can fail; only the last checkpoint stays.

        Raises:
            ResourceError: it cannot be written.
        """
        made = self.path / CHECKPOINTS / f"step-{step:08d}"
        save_checkpoint(made, weights, {"epoch": epoch, "step": step})
        for old in made.parent.iterdir():
            if old != made:
                shutil.rmtree(old, ignore_errors=True)

    def keep(self, weights: Mapping[str, Tensor], epoch: EpochRecord) -> None:
        """Record a validated epoch: its weights if they are the best so far, then its line.

        Raises:
            ResourceError: it cannot be written.
        """
        done = [*self.epochs(), epoch]
        if best(done) is epoch:
            save_weights(self.weights, weights)
        _append(self.path / METRICS, epoch.model_dump_json())


def best(epochs: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch of the lowest validation error; of several, the last, whose rate was the lowest.

    The paper's code reports this minimum over the epochs on the very images it tests with, which
    flatters; a run therefore records both this and its last epoch.
    """
    return min(reversed(epochs), key=lambda epoch: epoch.validation_error)


def _check_format(file: Path, text: bytes) -> None:
    """Tell a record of another version from a damaged one."""
    found: Any = None
    with suppress(ValueError):
        found = json.loads(text)
    number = found.get("format") if isinstance(found, dict) else None
    if isinstance(number, int) and number != FORMAT:
        raise CheckpointError(
            f"expected {file} of format {FORMAT}, found {number}: it was made by another version "
            "of resnext; use that one"
        )


def _make_folder(candidates: Iterable[Path]) -> Path:
    """The first candidate that does not exist yet, made."""
    for path in candidates:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"cannot make {path}: {error.strerror or error}") from error
        return path
    raise UsageError(
        f"expected a new run folder, found {path}; nothing was changed, take another --out"
    )


def _free_names(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in count(2))


def _append(file: Path, line: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise ResourceError(f"cannot write {file}: {error.strerror or error}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
