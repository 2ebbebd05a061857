"""ILSVRC 2012 as it is downloaded: validation images in one folder, their classes in another file.

Three files give the classes, and are looked for in the image folder and up to four folders above:
Kaggle's LOC_val_solution.csv; the devkit's ILSVRC2012_validation_ground_truth.txt, which numbers
the classes as its meta.mat (or a map_clsloc.txt of "wnid number name") says; and a list of one wnid
per image, imagenet_2012_validation_synset_labels.txt. Classes are sorted by wnid, as everywhere.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnext.data.decode import EXTENSIONS
from resnext.errors import DataError

SOLUTION = "LOC_val_solution.csv"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
NUMBERS = "map_clsloc.txt"
SYNSET_LABELS = "imagenet_2012_validation_synset_labels.txt"

COMPANIONS = (SOLUTION, GROUND_TRUTH, META, NUMBERS, SYNSET_LABELS)
DEVKITS = ("ILSVRC2012_devkit", "devkit")
"""How the names of folders with such files begin."""

_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")
WNID = re.compile(r"n\d{8}")
_ABOVE = 4
"""Kaggle's archive has its table of answers three folders above val/."""

_DEVKITS = ("", "data", "ILSVRC2012_devkit_t12/data", "devkit/data", "devkit")


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The classes of the validation images.

    Attributes:
        path: the file that says so.
        wnids: number of an image, counted from 1 as in its name -> its class.
    """

    path: Path
    wnids: Mapping[int, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes that occur, sorted."""
        return tuple(sorted(set(self.wnids.values())))

    def labels(self, names: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
        """The labels of images by their file names, as positions in `classes`.

        Raises:
            DataError: a name of another kind, an image without an answer, an unknown class.
        """
        positions = {name: number for number, name in enumerate(classes)}
        labels = np.empty(len(names), dtype=np.int64)
        for row, name in enumerate(names):
            match = _IMAGE.fullmatch(name)
            wnid = self.wnids.get(int(match[1])) if match else None
            if wnid is None:
                raise DataError(f"{self.path}: expected the class of {name}, found none")
            if wnid not in positions:
                raise DataError(
                    f"{self.path}: expected one of the {len(classes)} classes of train/,"
                    f" found {wnid} for {name}"
                )
            labels[row] = positions[wnid]
        return labels


def home(location: Path) -> Path:
    """The folder of train/ and val/, which in Kaggle's archive is three folders below the top."""
    inner = location / "ILSVRC" / "Data" / "CLS-LOC"
    return inner if inner.is_dir() else location


def is_flat(folder: Path) -> bool:
    """Whether images named as ILSVRC's validation set lie in the folder itself, without classes."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return False
    images = [entry for entry in entries if entry.name.lower().endswith(EXTENSIONS)]
    return bool(images) and is_validation_image(min(images).name)


def is_validation_image(name: str) -> bool:
    """Whether a file is named as ILSVRC's validation images are."""
    return _IMAGE.fullmatch(name) is not None


def ground_truth(folder: Path) -> GroundTruth:
    """The answers to the images in a folder, from a file beside or above it.

    Raises:
        DataError: no such file, or a damaged one.
    """
    readers: tuple[tuple[str, Callable[[Path], Mapping[int, str]]], ...] = (
        (SOLUTION, _solution),
        (GROUND_TRUTH, _devkit),
        (SYNSET_LABELS, _synset_labels),
    )
    absolute = folder.absolute()
    for place in (absolute, *absolute.parents[:_ABOVE]):
        for name, read in readers:
            for inner in _DEVKITS:
                path = place / inner / name
                if path.is_file():
                    return GroundTruth(path, read(path))
    raise DataError(
        f"{folder}: expected a folder per class, or {SOLUTION}, {GROUND_TRUTH} (with {META}) or"
        f" {SYNSET_LABELS} beside it, found images without classes"
    )


def _solution(path: Path) -> Mapping[int, str]:
    """Rows such as ILSVRC2012_val_00048981,n03995372 85 1 499 272."""
    found: dict[int, str] = {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or row[0] == "ImageId":
                continue
            name = _IMAGE.fullmatch(row[0] + ".JPEG")
            wnid = row[1].split(" ")[0] if len(row) > 1 else ""
            if name is None or not WNID.fullmatch(wnid):
                raise DataError(
                    f"{path} line {number}: expected ILSVRC2012_val_... and a wnid,"
                    f" found {','.join(row)[:60]!r}"
                )
            found[int(name[1])] = wnid
    return found


def _devkit(path: Path) -> Mapping[int, str]:
    """One number per image; what the numbers mean is in another file."""
    meanings = next((path.parent / name for name in (META, NUMBERS) if _has(path, name)), None)
    if meanings is None:
        raise DataError(
            f"{path}: expected {META} or {NUMBERS} beside it, which say what its numbers mean,"
            " found neither"
        )
    wnids = _meta(meanings) if meanings.name == META else _numbers(meanings)
    found: dict[int, str] = {}
    for number, line in _lines(path):
        wnid = wnids.get(int(line)) if line.isdecimal() else None
        if wnid is None:
            raise DataError(
                f"{path} line {number}: expected a class number of {meanings.name}, found {line!r}"
            )
        found[number] = wnid
    return found


def _has(path: Path, name: str) -> bool:
    return (path.parent / name).is_file()


def _meta(path: Path) -> Mapping[int, str]:
    """The devkit's table of synsets; the inner nodes of the hierarchy have numbers too."""
    # Comes with scikit-learn, and is needed for this file only.
    from scipy import io

    try:
        rows = io.loadmat(str(path), squeeze_me=True, variable_names=["synsets"])["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(rows)}
    except Exception as error:  # scipy raises many kinds on damaged files
        raise DataError(
            f"{path}: expected the devkit's table of synsets, found {type(error).__name__}: {error}"
        ) from error


def _numbers(path: Path) -> Mapping[int, str]:
    found: dict[int, str] = {}
    for number, line in _lines(path):
        words = line.split()
        if len(words) < 2 or not WNID.fullmatch(words[0]) or not words[1].isdecimal():
            raise DataError(f"{path} line {number}: expected 'wnid number name', found {line!r}")
        found[int(words[1])] = words[0]
    return found


def _synset_labels(path: Path) -> Mapping[int, str]:
    found: dict[int, str] = {}
    for number, line in _lines(path):
        if not WNID.fullmatch(line):
            raise DataError(f"{path} line {number}: expected a wnid, found {line!r}")
        found[number] = line
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.strip()
