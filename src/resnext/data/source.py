"""What a set of labelled images is to the rest of the package: random access, classes, labels."""

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data.decode import MAX_BYTES
from resnext.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Where the bytes of an image file are, for a decoder that fetches them itself.

    Attributes:
        path: the file that holds them; None where they are in `data`.
        offset: where in that file they begin.
        size: how many there are; -1 for all up to the end of the file.
        data: the bytes themselves; None where they are in a file.
        state: size and time of change (in nanoseconds) that the file must have, if it is one that
            an index describes; another file under that name holds other images.
    """

    path: Path | None = None
    offset: int = 0
    size: int = -1
    data: bytes | None = None
    state: tuple[int, int] | None = None

    def read(self) -> bytes:
        """The bytes, fetched here.

        Raises:
            OSError: they cannot be, are too many, or lie in another file than the indexed one.
        """
        if self.path is None:
            return self.data or b""
        descriptor = self.open()
        try:
            size = os.fstat(descriptor).st_size if self.size < 0 else self.size
            if size > MAX_BYTES:
                raise OSError(errno.EFBIG, f"{size} bytes")
            return os.pread(descriptor, size, self.offset)
        finally:
            os.close(descriptor)

    def open(self) -> int:
        """A descriptor of the file, without waiting for what is no regular file.

        Raises:
            OSError: it cannot be opened, or is another file than the indexed one.
        """
        assert self.path is not None
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(descriptor)
        known = self.state in (None, (found.st_size, found.st_mtime_ns))
        if known and stat.S_ISREG(found.st_mode):
            return descriptor
        os.close(descriptor)
        odd = "no regular file" if self.state is None else "not the indexed file"
        raise OSError(errno.ESTALE, odd)


def fetch(place: Encoded, where: str) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: they cannot be read, or are too many; the message starts with `where`.
    """
    try:
        return place.read()
    except OSError as error:
        raise DataError(f"{where}: {_problem(place, error)}") from error


def _problem(place: Encoded, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "expected an image, found no such file"
    if error.errno == errno.EFBIG:
        return f"expected at most {MAX_BYTES // 2**20} MiB, found {error.strerror}"
    if error.errno == errno.ESTALE and place.state is not None:
        return "expected the indexed archive, found another"
    return f"expected an image, found: {error.strerror}"


class Source(Protocol):
    """Labelled images with random access; picklable, so that worker processes can hold one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the position is the label."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """One per image, each in `range(len(classes))`."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Image.Image:
        """The decoded image, mode L or RGB, in its stored orientation.

        Raises:
            DataError: the image cannot be read; the message names it.
        """
        ...

    def encoded(self, index: int) -> Encoded | None:
        """Where the image's file is; None for pixels that never were a file.

        Raises:
            DataError: there is nothing; the message names the image.
        """
        ...

    def describe(self, index: int) -> str:
        """What to call this image in a message: a path, or a file and a row."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) over what identifies the data; the same wherever the data lies."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Images to train on and images to score on, of the same classes.

    Attributes:
        name: "digits", "cifar10", or the name of the folder or file.
        location: what the user typed, so that a run can open it again.
        train: the images to learn from.
        validation: the images to score on; none of them is in `train`.
    """

    name: str
    location: str
    train: Source
    validation: Source

    def __post_init__(self) -> None:
        ours, theirs = self.train.classes, self.validation.classes
        if ours != theirs:
            raise DataError(f"{self.location}: {_difference(ours, theirs)}")
        if len(ours) < 2:
            found = f"only {ours[0]!r}" if ours else "none"
            raise DataError(f"{self.location}: expected at least 2 classes, found {found}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the position is the label."""
        return self.train.classes

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the fingerprints of both parts."""
        return digest(self.train.fingerprint(), self.validation.fingerprint())


def digest(*parts: str | bytes | NDArray[np.generic]) -> str:
    """SHA-256 (hex) over the parts, each preceded by its length so that no two lists collide."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            content = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        else:
            content = memoryview(os.fsencode(part) if isinstance(part, str) else part)
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()


def check_labels(labels: NDArray[np.int64], classes: tuple[str, ...], where: str) -> None:
    """Refuse a label without a class name.

    Raises:
        DataError: naming the first such label and its position.
    """
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if outside.size:
        row = int(outside[0])
        raise DataError(
            f"{where}: expected labels 0 to {len(classes) - 1}, found {labels[row]} in row {row}"
            " (-1 is usual where labels are withheld)"
        )


def _difference(train: tuple[str, ...], validation: tuple[str, ...]) -> str:
    expected = "expected the same classes in train and validation"
    if set(train) == set(validation):
        return f"{expected}, found them in another order"
    only_train = sorted(set(train) - set(validation))
    only_validation = sorted(set(validation) - set(train))
    parts = [
        f"{names[0]!r} ({len(names)} such) only in {split}"
        for split, names in (("train", only_train), ("validation", only_validation))
        if names
    ]
    return f"{expected}, found {' and '.join(parts)}"
