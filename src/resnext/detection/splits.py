"""Which images are meant: the splits of COCO in both of its layouts, or two files of one's own.

trainval35k is train2017 and minival is val2017 (Detectron and COCO say so): the same images and
annotations under other names of files. From files of 2014 they need the 5,000 numbers of minival.
"""

import json
import os.path
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from resnext.detection.coco import Coco, read_coco, require_same_categories
from resnext.errors import DataError, UsageError

COUNTS = MappingProxyType(
    {
        "train2014": 82_783,
        "val2014": 40_504,
        "val35k": 35_504,
        "minival": 5_000,
        "trainval35k": 118_287,
        "train2017": 118_287,
        "val2017": 5_000,
    }
)
"""Images of each split; one that is asked for by name must have as many."""

_SAME = MappingProxyType({"trainval35k": "train2017", "minival": "val2017"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """What is trained on and what is scored on; the first may be missing."""

    train: Coco | None
    evaluation: Coco

    @property
    def name(self) -> str:
        """Both splits."""
        return "+".join(one.name for one in (self.train, self.evaluation) if one)

    @property
    def location(self) -> str:
        """Where the pictures that are scored on lie."""
        return str(self.evaluation.images)

    @property
    def fingerprint(self) -> str:
        """Of both splits."""
        return "+".join(one.fingerprint for one in (self.train, self.evaluation) if one)


def open_sets(
    root: Path, *, train: str | None = None, evaluation: str | None = None, training: bool = True
) -> Sets:
    """The two splits of a folder in a layout of COCO.

    Left out, they are train2017 and val2017, or else train and val, as they are, and as many as
    there are. Named, they must be whole.

    Raises:
        DataError: they are not there, or not whole, or share images, or differ in their classes.
        UsageError: there is no such split.
    """
    trained = _opened(root, train, ("train2017", "trainval35k", "train")) if training else None
    scored = _opened(root, evaluation, ("val2017", "minival", "val"))
    if trained is None:
        return Sets(train=None, evaluation=scored)
    check_pair(trained, scored)
    return Sets(train=trained, evaluation=scored)


def is_coco(root: Path) -> bool:
    """Whether a folder is laid out as COCO is."""
    return any((root / "annotations").glob("instances_*.json"))


def check_pair(train: Coco, evaluation: Coco) -> None:
    """Refuse sets that share images (unless they are one), differ in classes, or hold no object.

    Raises:
        DataError: the message shows the first difference.
    """
    require_same_categories(train.categories, evaluation.categories, evaluation.name)
    shared = _shared(train, evaluation) if train.fingerprint != evaluation.fingerprint else []
    if shared:
        raise DataError(
            f"expected other images in {evaluation.name} than in {train.name}, found "
            f"{len(shared)} in both, such as {shared[0]}"
        )
    if not len(train.usable):
        raise DataError(f"{train.name}: expected images with objects, found none")


def _shared(a: Coco, b: Coco) -> list[int] | list[str]:
    """The images of both: by number where COCO gave it, or else their files."""
    if _whole(a) and _whole(b):  # 2014 and 2017 have one number for a picture, and two files
        numbers: list[int] = np.intersect1d(a.ids, b.ids).tolist()
        return numbers
    return sorted(_places(a) & _places(b))


def _whole(data: Coco) -> bool:
    """Whether it is a split of COCO, not a set of one's own under such a name."""
    return COUNTS.get(data.name.removeprefix("instances_")) == len(data)


def _places(data: Coco) -> set[str]:
    """The files of its images, behind links; resolved by folder, as there may be 100,000."""
    parts = [os.path.split(file) for file in data.files]
    folders = {folder: str((data.images / folder).resolve()) for folder in {f for f, _ in parts}}
    return {f"{folders[folder]}/{name}" for folder, name in parts}


def open_split(root: Path, split: str) -> Coco:
    """A split by name, which must be whole.

    Raises:
        DataError: it is not there or not whole; for minival of 2014, which file is wanted.
        UsageError: there is no such split.
    """
    if split not in COUNTS:
        raise UsageError(f"expected a split out of {', '.join(COUNTS)}, found {split!r}")
    found = _read(root, split)
    if len(found) != COUNTS[split]:
        raise DataError(
            f"{root}: expected {COUNTS[split]:,} images in {split}, found {len(found):,}; without "
            "the name of a split the files are taken as they are"
        )
    return found


def made_again(root: Path, split: str) -> Coco:
    """A split by name, however many images it has: what a run's record names.

    Raises:
        DataError: it is not there.
    """
    return _read(root, split)


def _opened(root: Path, split: str | None, usual: tuple[str, ...]) -> Coco:
    if split is not None:
        return open_split(root, split)
    there = [name for name in usual if _there(root, name)]
    if there:
        return _plain(root, there[0])
    if _file(root, "val2014").exists() and usual[1] in COUNTS:
        return _read(root, usual[1])
    raise DataError(
        f"expected annotations/instances_{usual[0]}.json in {root}, found none; files of other "
        "names go with --annotations and --images"
    )


def _read(root: Path, split: str) -> Coco:
    same = _SAME.get(split, split)
    if _there(root, same):
        return replace(_plain(root, same), name=split)
    if split in ("train2014", "val2014") or not _file(root, "val2014").exists():
        return _plain(root, split)
    validation = _plain(root, "val2014")
    inside = np.isin(validation.ids, _minival(root))
    if split in ("minival", "val2017"):
        return validation.subset(np.flatnonzero(inside), split)
    rest = validation.subset(np.flatnonzero(~inside), "val35k")
    if split == "val35k":
        return rest
    return joined(_plain(root, "train2014"), rest, root, split)


def _there(root: Path, split: str) -> bool:
    """Whether a split has files of its own.

    Beside files of 2014, val2017's annotations without its images are there for their numbers.
    """
    numbers_only = _file(root, "val2014").exists() and not (root / split).is_dir()
    return _file(root, split).exists() and not numbers_only


def _plain(root: Path, split: str) -> Coco:
    return read_coco(_file(root, split), root / split, split)


def _file(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _minival(root: Path) -> NDArray[np.int64]:
    """The numbers of minival's images."""
    folder = root / "annotations"
    for name in ("instances_minival2014.json", "instances_val2017.json"):
        if (folder / name).exists():
            content = json.loads((folder / name).read_bytes())
            return np.array([row["id"] for row in content["images"]], np.int64)
    if (folder / "minival.txt").exists():
        return np.array((folder / "minival.txt").read_text(encoding="utf-8-sig").split(), np.int64)
    raise DataError(
        f"expected the numbers of minival's 5,000 images in {folder}, found none; put there one of "
        "instances_val2017.json, instances_minival2014.json or minival.txt (a number a line)"
    )


def joined(a: Coco, b: Coco, root: Path, name: str) -> Coco:
    """The images of two sets, whose folders are in `root`.

    Raises:
        DataError: they differ in their classes or share images.
    """
    require_same_categories(a.categories, b.categories, b.name)
    both = np.intersect1d(a.ids, b.ids)
    if len(both):
        raise DataError(f"expected no image in both {a.name} and {b.name}, found {both[0]}")
    files = tuple(str((s.images / f).relative_to(root)) for s in (a, b) for f in s.files)
    whole = replace(
        a,
        name=name,
        annotations=(*a.annotations, *b.annotations),
        images=root,
        fingerprint=f"{a.fingerprint}+{b.fingerprint}",
        ids=np.concatenate([a.ids, b.ids]),
        files=files,
        sizes=np.concatenate([a.sizes, b.sizes]),
        offsets=np.concatenate([a.offsets, b.offsets[1:] + a.offsets[-1]]),
        boxes=np.concatenate([a.boxes, b.boxes]),
        labels=np.concatenate([a.labels, b.labels]),
        crowd=np.concatenate([a.crowd, b.crowd]),
        shapes=np.concatenate([a.shapes, b.shapes]),
        shape_ends=np.concatenate([a.shape_ends, b.shape_ends + len(a.shapes)]),
        dropped={k: a.dropped.get(k, 0) + b.dropped.get(k, 0) for k in {*a.dropped, *b.dropped}},
    )
    return whole.subset(np.argsort(whole.ids), name)
