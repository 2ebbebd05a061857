"""A list of classes to take from a larger set: how ImageNet-5K is cut out of ImageNet-22K.

The paper's set (Sec. 5.2) is the 1000 classes of ImageNet-1K and the 4000 others with the most
images. The list is a JSON file that names the data, so it can be opened in the place of a folder.
Classes 0 to 999 are those of ImageNet-1K in their usual order, which the 1K-way test needs; the
others follow, sorted by name.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnext.data import folder
from resnext.data.ilsvrc import WNID
from resnext.data.index import printable
from resnext.data.source import Source
from resnext.data.subset import Subset
from resnext.errors import DataError, UsageError

FORMAT = "resnext class list 1"

IMAGENET_5K = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassList:
    """Classes chosen from a data set.

    Attributes:
        classes: their names; the position is the label.
        counts: images of each, when it was chosen.
        leading: how many of them, at the front, are ImageNet-1K's.
        data: where all images are.
        validation: where the images to score on are, of some of the classes; None to hold some out.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    leading: int
    data: str
    validation: str | None = None

    @property
    def sha256(self) -> str:
        """As `sha256sum` says of a text file with one class per line."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.classes).encode()).hexdigest()


def choose(
    counts: Mapping[str, int],
    leading: Sequence[str],
    *,
    total: int = IMAGENET_5K,
    others: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """The classes: `leading`, sorted, then `others`, or the ones with most images up to `total`.

    Of classes with as many images, the first by name are taken.

    Raises:
        DataError: a class that the data lacks, or too few of them.
    """
    for name in (*leading, *(others or ())):
        if name not in counts:
            missing = sum(1 for each in (*leading, *(others or ())) if each not in counts)
            raise DataError(f"expected {name} among the classes, found it missing ({missing} such)")
    first = set(leading)
    if others is None:
        rest = sorted(counts.keys() - first, key=lambda name: (-counts[name], name))
        wanted = total - len(first)
        if not 0 <= wanted <= len(rest):
            raise DataError(
                f"expected {len(first)} to {len(counts)} classes, found {total} asked for"
            )
        others = rest[:wanted]
    return (*sorted(first), *sorted(set(others) - first))


def counts_of(source: Source) -> dict[str, int]:
    """How many images each class has."""
    found = np.bincount(source.labels, minlength=len(source.classes)).tolist()
    return dict(zip(source.classes, found, strict=True))


def read_names(path: Path) -> tuple[str, ...]:
    """Class names from a folder of class folders (or with train/ or val/), or from a text file.

    A line is a name, blanks included; of one that begins with a synset's number that number, so
    that LOC_synset_mapping.txt will do.

    Raises:
        DataError: nothing there, no names, or one twice.
    """
    if path.is_dir():
        inner = next((path / part for part in ("train", "val") if (path / part).is_dir()), path)
        return tuple(map(printable, folder.class_names(inner)))  # as sources name them
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="backslashreplace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: expected class names, found: {error.strerror}") from error
    said = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    names = [first if WNID.fullmatch(first := name.split()[0]) else name for name in said]
    if len(set(names)) != len(names) or not names:
        twice = next((name for name in names if names.count(name) > 1), None)
        found = "none" if twice is None else f"{twice} twice"
        raise DataError(f"{path}: expected class names, one per line, found {found}")
    return tuple(names)


def write(path: Path, chosen: ClassList) -> None:
    """Write the list, whole or not at all.

    Raises:
        UsageError: there is something of that name, or no folder for it.
    """
    if path.exists():
        raise UsageError(f"{path}: expected the name of a new file, found one of that name")
    record = {
        "format": FORMAT,
        "data": chosen.data,
        "validation": chosen.validation,
        "leading": chosen.leading,
        "sha256": chosen.sha256,
        "classes": dict(zip(chosen.classes, chosen.counts, strict=True)),
    }
    try:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path}: expected a place to write, found: {error.strerror}") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    Path(temporary).replace(path)


def find(path: Path) -> bool:
    """Whether this is meant to be a list: a JSON file."""
    return path.is_file() and path.suffix == ".json"


def read(path: Path) -> ClassList:
    """A list as `write` left it.

    Raises:
        DataError: another kind of file, or classes that were changed since.
    """
    try:
        stored: Any = json.loads(path.read_bytes())
        if stored["format"] != FORMAT:
            raise DataError(
                f"{path}: expected the format {FORMAT!r}, found {str(stored['format'])[:60]!r}"
            )
        chosen = ClassList(
            classes=tuple(str(name) for name in stored["classes"]),
            counts=tuple(int(count) for count in stored["classes"].values()),
            leading=int(stored["leading"]),
            data=str(stored["data"]),
            validation=None if stored["validation"] is None else str(stored["validation"]),
        )
        written = str(stored["sha256"])
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: expected a list of classes, found another JSON file") from error
    if written != chosen.sha256:
        raise DataError(
            f"{path}: expected classes of SHA-256 {written[:16]}, found {chosen.sha256[:16]}"
        )
    return chosen


def select(source: Source, chosen: ClassList, *, needed: Sequence[str]) -> Subset:
    """The images of the chosen classes, class by class, under the list's labels.

    `needed` are classes that the source must have.

    Raises:
        DataError: one of them is missing.
    """
    present = set(source.classes)
    missing = [name for name in needed if name not in present]
    if missing:
        raise DataError(
            f"expected the {len(needed)} classes of the list, found {len(missing)} missing,"
            f" the first: {missing[0]}"
        )
    places = {name: number for number, name in enumerate(chosen.classes)}
    numbers = np.array([places.get(name, -1) for name in source.classes], dtype=np.int64)
    labels = numbers[source.labels]
    taken = np.flatnonzero(labels >= 0)
    order = taken[np.argsort(labels[taken], kind="stable")]
    return Subset(source, order, chosen.classes, numbers)
