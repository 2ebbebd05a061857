"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resnext.errors import ResourceError, UsageError

PARTIAL = ".tmp"
"""Ends the name of what is being written; it may be deleted when nobody is."""


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the contents of `path` in one instant: write beside it, flush to disk, rename.

    Raises:
        ResourceError: it cannot be written; what was there before still is.
    """
    partial = path.with_name(path.name + PARTIAL)
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An error of the system while `path` is written, as one that a user can read."""
    try:
        yield
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def ensure_folder(path: Path) -> None:
    """Make a folder that was asked for, and those above it, where there is none.

    Raises:
        UsageError: it cannot be made there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
