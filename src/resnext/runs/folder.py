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

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError
from torch import Tensor

from resnext.errors import CheckpointError, ResNextError, ResourceError, UsageError
from resnext.runs.locking import locked
from resnext.runs.records import (
    FORMAT,
    BadImage,
    EpochRecord,
    NotFinite,
    RunRecord,
    StepRecord,
    best,
    first_problem,
)
from resnext.spec import Spec
from resnext.training.checkpoint import (
    PARTIAL,
    WEIGHTS,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_weights,
    write_bytes,
)

RECORD, METRICS, STEPS, CHECKPOINTS = "run.json", "metrics.jsonl", "steps.jsonl", "checkpoints"
BAD_IMAGES, NOT_FINITE, LOCK = "bad-images.jsonl", "not-finite.json", "lock"

KEPT = 2
"""Checkpoints that stay: should the newest be damaged, there is the one before."""

_Line = TypeVar("_Line", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run on disk."""

    path: Path
    record: RunRecord

    @classmethod
    def create(cls, path: Path | None, name: str, record: RunRecord) -> Self:
        """Make the folder: `path`, or else the first free one of `runs/name`, `runs/name-2` etc.

        A `path` that holds nothing, or what a process leaves that was killed here, will do.

        Raises:
            UsageError: it exists, or cannot be made.
            ResourceError: there is no room for it.
        """
        cut_off = path is not None and _cut_off(path)
        made = path if path and cut_off else _make_folder(path, name)
        try:
            (made / CHECKPOINTS).mkdir(exist_ok=True)
            write_bytes(made / RECORD, record.model_dump_json(indent=2).encode())
        except (OSError, ResourceError) as error:
            if not cut_off:
                shutil.rmtree(made, ignore_errors=True)
            raise ResourceError(f"cannot write {made}: {_reason(error)}") from error
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
            raise CheckpointError(f"{file} is damaged: {first_problem(error)}") from error

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
        return _lines(self.path / METRICS, EpochRecord)

    def finished(self) -> bool:
        """Whether all epochs of the recipe are trained and scored."""
        return len(self.epochs()) >= self.record.recipe.epochs

    def checkpoints(self) -> list[Path]:
        """The folders of the saved states, the newest first."""
        found = (self.path / CHECKPOINTS).glob("step-*")
        return sorted((path for path in found if path.suffix == ""), reverse=True)

    def note(self, bad: BadImage) -> None:
        """Log an image that could not be used.

        Raises:
            ResourceError: it cannot be written.
        """
        _append(self.path / BAD_IMAGES, bad)

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
        _append(self.path / STEPS, step)

    def save(self, updates: int, checkpoint: Checkpoint) -> Path:
        """Save what training needs to continue; the last `KEPT` such folders stay.

        Raises:
            ResourceError: it cannot be written; what was there before still is.
        """
        made = self.path / CHECKPOINTS / f"step-{updates:08d}"
        if not made.exists():
            save_checkpoint(made, checkpoint)
        for old in self.checkpoints()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return made

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest state that is whole, and what was found of newer ones.

        Raises:
            CheckpointError: there are states, and all of them are damaged.
        """
        problems: list[str] = []
        for path in self.checkpoints():
            try:
                return load_checkpoint(path), problems
            except CheckpointError as error:
                problems.append(str(error))
        if problems:
            raise CheckpointError(
                f"expected a whole checkpoint in {self.path}, found none: {problems[0]}"
            )
        return None, problems

    def rewind(self, epochs: int, updates: int, bad_images: int) -> None:
        """Take back what was written behind a state: it will come again.

        Lines of epochs and steps that lie behind it go, as do half-written files and the log of
        bad images from line `bad_images` on. Checkpoints behind it, which are damaged, are renamed.

        Raises:
            ResourceError: a file cannot be written.
        """
        try:
            self._clear(updates)
        except OSError as error:
            raise ResourceError(f"cannot change {self.path}: {_reason(error)}") from error
        _rewrite(self.path / METRICS, [line for line in self.epochs() if line.epoch <= epochs])
        steps = _lines(self.path / STEPS, StepRecord)
        _rewrite(self.path / STEPS, [line for line in steps if line.updates <= updates])
        _rewrite(self.path / BAD_IMAGES, _lines(self.path / BAD_IMAGES, BadImage)[:bad_images])

    def _clear(self, updates: int) -> None:
        """Remove what is half written or comes again; rename the checkpoints behind `updates`."""
        (self.path / NOT_FINITE).unlink(missing_ok=True)
        for partial in (self.path, self.path / CHECKPOINTS):
            for left in partial.glob("*" + PARTIAL):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for path in self.checkpoints():
            if int(path.name.partition("-")[2]) > updates:
                path.rename(_free(path.with_name(path.name + ".damaged")))

    def keep(self, weights: Mapping[str, Tensor], epoch: EpochRecord) -> None:
        """Record a validated epoch: its weights if they are the best so far, then its line.

        Raises:
            ResourceError: it cannot be written.
        """
        done = [*self.epochs(), epoch]
        if best(done) is epoch or not self.weights.exists():
            save_weights(self.weights, weights)
        _append(self.path / METRICS, epoch)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that writes here.

        The system frees the lock when the process ends, however it ends.

        Raises:
            InUseError: another process is writing; the message names its machine and number.
            ResourceError: the folder cannot be written.
        """
        with locked(self.path / LOCK, f"nobody to write to the run folder {self.path}"):
            yield


def _free(path: Path) -> Path:
    return next(p for p in _free_names(path) if not p.exists())


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


def _cut_off(path: Path) -> bool:
    """Whether a folder holds no more than a run that was killed before its record was written."""
    if not path.is_dir():
        return False
    found = {file.name for file in path.iterdir()}
    return found <= {CHECKPOINTS, RECORD + PARTIAL} and not any((path / CHECKPOINTS).glob("*"))


def _make_folder(path: Path | None, name: str) -> Path:
    """The first folder that does not exist yet, made."""
    for candidate in [path] if path else _free_names(Path("runs") / name):
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = ResourceError if full else UsageError
            raise kind(f"cannot make {candidate}: {_reason(error)}") from error
        return candidate
    raise UsageError(
        f"expected a new run folder, found {path}; nothing was changed, take another --out"
    )


def _free_names(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in count(2))


def _lines(file: Path, kind: type[_Line]) -> list[_Line]:
    """The whole lines of a log."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    try:
        return [kind.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise CheckpointError(f"{file} is damaged: {first_problem(error)}") from error


def _rewrite(file: Path, lines: Iterable[BaseModel]) -> None:
    """Put a log back to these lines, if there is one."""
    text = "".join(line.model_dump_json() + "\n" for line in lines).encode()
    if file.exists() and file.read_bytes() != text:
        write_bytes(file, text)


def _reason(error: Exception) -> str:
    """What the system says."""
    return str(getattr(error, "strerror", None) or error)


def _append(file: Path, line: BaseModel) -> None:
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(line.model_dump_json() + "\n")
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise ResourceError(f"cannot write {file}: {error.strerror or error}") from error
