"""What every kind of run folder has: checkpoints, logs of lines, and one process that writes.

checkpoints/step-*/  all that training needs to continue: the last ones
lock                 held by the process that writes
"""

import errno
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from resnext.errors import CheckpointError, InUseError, ResNextError, ResourceError, UsageError
from resnext.files import PARTIAL, write_bytes
from resnext.runs.locking import locked
from resnext.runs.records import first_problem
from resnext.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)

CHECKPOINTS, LOCK = "checkpoints", "lock"

KEPT = 2
"""Checkpoints that stay: should the newest be damaged, there is the one before."""

_Line = TypeVar("_Line", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder that training writes to."""

    path: Path

    @abstractmethod
    def finished(self) -> bool:
        """Whether nothing is left to train."""

    def checkpoints(self) -> list[Path]:
        """The folders of the saved states, the newest first."""
        found = (self.path / CHECKPOINTS).glob("step-*")
        return sorted((path for path in found if path.suffix == ""), reverse=True)

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

    def clear(self, updates: int) -> None:
        """Remove what is half written or comes again; rename the checkpoints behind `updates`."""
        for partial in (self.path, self.path / CHECKPOINTS):
            for left in partial.glob("*" + PARTIAL):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for path in self.checkpoints():
            if int(path.name.partition("-")[2]) > updates:
                path.rename(_free(path.with_name(path.name + ".damaged")))

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

    def idle(self) -> bool:
        """Whether nobody is writing here now."""
        try:
            with self.locked():
                return True
        except InUseError:
            return False


_Folder = TypeVar("_Folder", bound=Kept)


def read_record(folder: Path, name: str, model: type[_Line], *, what: str, number: int) -> _Line:
    """The record in a folder, read strictly; `number` is the format that is understood.

    Raises:
        CheckpointError: there is none, it is of another format, or damaged.
    """
    file = folder / name
    try:
        text = file.read_bytes()
        _check_format(file, text, number)
        return model.model_validate_json(text)
    except FileNotFoundError as error:
        found = "no such folder" if not folder.exists() else f"it holds no {name}"
        raise CheckpointError(f"expected {what}, found {folder}: {found}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror or error}") from error
    except ValidationError as error:
        raise CheckpointError(f"{file} is damaged: {first_problem(error)}") from error


def _check_format(file: Path, text: bytes, number: int) -> None:
    """Tell a record of another version from a damaged one."""
    found: Any = None
    with suppress(ValueError):
        found = json.loads(text)
    theirs = found.get("format") if isinstance(found, dict) else None
    if isinstance(theirs, int) and theirs != number:
        raise CheckpointError(
            f"expected {file} of format {number}, found {theirs}: it was made by another version "
            "of resnext; use that one"
        )


def _free(path: Path) -> Path:
    return next(p for p in _free_names(path) if not p.exists())


def begin(path: Path | None, name: str, record: str, text: bytes) -> Path:
    """Make the folder of a run with its record in it: `path`, or the first free `runs/name`.

    A `path` that holds nothing, or what a process leaves that was killed here, will do.

    Raises:
        UsageError: it exists, or cannot be made.
        ResourceError: there is no room for it.
    """
    cut_off = path is not None and _cut_off(path, record)
    made = path if path and cut_off else make_folder(path, name)
    try:
        (made / CHECKPOINTS).mkdir(exist_ok=True)
        write_bytes(made / record, text)
    except (OSError, ResourceError) as error:
        if not cut_off:
            shutil.rmtree(made, ignore_errors=True)
        raise ResourceError(f"cannot write {made}: {reason_of(error)}") from error
    return made


def _cut_off(path: Path, record: str) -> bool:
    """Whether a folder holds no more than a run that was killed before its record was written."""
    if not path.is_dir():
        return False
    found = {file.name for file in path.iterdir()}
    return found <= {CHECKPOINTS, record + PARTIAL} and not any((path / CHECKPOINTS).glob("*"))


def left_off(name: str, continued: Callable[[Path], _Folder]) -> _Folder | None:
    """The first of `runs/name`, `runs/name-2` etc. that continues, if there is one.

    It is not finished, and nobody is at it; those that `continued` refuses are passed over.
    """
    for path in takewhile(Path.exists, _free_names(Path("runs") / name)):
        with suppress(ResNextError):
            folder = continued(path)
            if not folder.finished() and folder.idle():
                return folder
    return None


def make_folder(path: Path | None, name: str) -> Path:
    """The first folder that does not exist yet, made."""
    for candidate in [path] if path else _free_names(Path("runs") / name):
        try:
            candidate.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = ResourceError if full else UsageError
            raise kind(f"cannot make {candidate}: {reason_of(error)}") from error
        return candidate
    raise UsageError(
        f"expected a new run folder, found {path}; nothing was changed, take another --out"
    )


def _free_names(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in count(2))


def lines_of(file: Path, kind: type[_Line]) -> list[_Line]:
    """The whole lines of a log."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    try:
        return [kind.model_validate_json(line) for line in lines]
    except ValidationError as error:
        raise CheckpointError(f"{file} is damaged: {first_problem(error)}") from error


def rewrite(file: Path, lines: Iterable[BaseModel]) -> None:
    """Put a log back to these lines, if there is one."""
    text = "".join(line.model_dump_json() + "\n" for line in lines).encode()
    if file.exists() and file.read_bytes() != text:
        write_bytes(file, text)


def reason_of(error: Exception) -> str:
    """What the system says."""
    return str(getattr(error, "strerror", None) or error)


def append(file: Path, line: BaseModel) -> None:
    """Put a line behind a log, on disk before this returns.

    Raises:
        ResourceError: it cannot be written.
    """
    try:
        with file.open("a", encoding="utf-8") as log:
            log.write(line.model_dump_json() + "\n")
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise ResourceError(f"cannot write {file}: {error.strerror or error}") from error
