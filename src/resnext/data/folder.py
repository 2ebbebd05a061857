"""Images as files, in one folder per class."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data.decode import EXTENSIONS, decode
from resnext.data.source import Encoded, digest
from resnext.errors import DataError

_VALIDATION = ("val", "validation", "valid", "test")
"""Names of the folder to score on, the preferred first: a test folder often has no labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """Image files below `root`; the first part of a path is the class.

    Attributes:
        root: absolute.
        files: paths relative to `root`, in the order of torchvision's ImageFolder.
        labels: see `Source`.
        classes: names of the class folders, sorted.
    """

    root: Path
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Image.Image:
        """See `Source.read`."""
        return decode(self.root / self.files[index], self.describe(index))

    def encoded(self, index: int) -> Encoded:
        """See `Source.encoded`: a file of its own."""
        return Encoded(path=self.root / self.files[index])

    def describe(self, index: int) -> str:
        """See `Source.describe`: the path."""
        return _printable(str(self.root / self.files[index]))

    def fingerprint(self) -> str:
        """See `Source.fingerprint`: over names and sizes, not contents."""
        try:
            sizes = [(self.root / name).stat().st_size for name in self.files]
        except OSError as error:
            raise DataError(
                f"{self.root}: expected the files found before, found {error}"
            ) from error
        return digest(*self.classes, self.labels, *self.files, np.array(sizes, dtype=np.int64))


def read_parts(location: Path) -> tuple[FolderSource, FolderSource | None]:
    """The images to train on and those to score on, the latter None if there is no such folder.

    Raises:
        DataError: as `read`; a folder to score on without one to train on; both the same folder.
    """
    folders = {folder.name: folder for folder in _folders(location)}
    validation = next((folders[name] for name in _VALIDATION if name in folders), None)
    train = folders.get("train")
    if train is None:
        if folders and folders.keys() <= set(_VALIDATION):
            raise DataError(f"{location}: expected train/ beside {', '.join(folders)}, found none")
        return read(location), None
    if validation is None:  # train/ may also be the class of pictures of trains
        return read(train if _folders(train) else location), None
    if train.samefile(validation):
        raise DataError(
            f"{location}: expected two folders, found train/ again as {validation.name}/"
        )
    return read(train), read(validation)


def read_validation(location: Path) -> FolderSource | None:
    """The images to score on, with or without a folder to train on beside; None if there are none.

    Raises:
        DataError: as `read`.
    """
    folders = {folder.name: folder for folder in _folders(location)}
    if not folders.keys() <= {"train", *_VALIDATION}:
        return None
    validation = next((folders[name] for name in _VALIDATION if name in folders), None)
    return None if validation is None else read(validation)


def read(root: Path) -> FolderSource:
    """The images below a folder of class folders.

    Raises:
        DataError: no class folders, images beside them, or a class without images.
    """
    folders = _folders(root)
    if not folders:
        raise DataError(f"{_printable(str(root))}: {_what_instead(root)}")
    files: list[str] = []
    sizes: list[int] = []
    for folder in folders:
        found = [f"{folder.name}/{name}" for name in _images(folder)]
        if not found:
            raise DataError(f"{_printable(str(folder))}: {_no_images(folder)}")
        files += found
        sizes.append(len(found))
    return FolderSource(
        root=root.absolute(),
        files=tuple(files),
        labels=np.repeat(np.arange(len(folders), dtype=np.int64), sizes),
        classes=tuple(_printable(folder.name) for folder in folders),
    )


def _folders(location: Path) -> list[Path]:
    """Folders directly below, sorted; hidden ones (.git, .ipynb_checkpoints) are no classes."""
    try:
        found = [entry for entry in location.iterdir() if entry.is_dir()]
    except OSError as error:
        raise DataError(
            f"{location}: expected a folder to read, found: {error.strerror}"
        ) from error
    return sorted(entry for entry in found if not entry.name.startswith("."))


def _images(folder: Path) -> Iterator[str]:
    """Paths of image files at any depth, relative to `folder`, in the order of ImageFolder."""
    for parent, _, names in sorted(os.walk(folder)):
        inner = os.path.relpath(parent, folder)
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                yield name if inner == "." else f"{inner}/{name}"


def _what_instead(root: Path) -> str:
    expected = "expected a folder per class"
    images = sum(1 for _ in _images(root))
    if images:
        return f"{expected}, found {images} images without one"
    return f"{expected}, found {'nothing' if not any(root.iterdir()) else 'no folder and no image'}"


def _no_images(folder: Path) -> str:
    others = sorted(entry.name for entry in folder.iterdir())
    found = f"{len(others)} other entries such as {others[0]}" if others else "an empty folder"
    return f"expected images ({', '.join(EXTENSIONS)}) of this class, found {_printable(found)}"


def _printable(name: str) -> str:
    """A name that any terminal and any JSON file can hold: bytes outside UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
