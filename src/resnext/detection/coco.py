"""Pictures with boxes in the format of COCO: read once, checked, and held as packed arrays.

What no training could use is dropped and counted; what contradicts itself is refused. Lists of
dictionaries would be copied into every worker, arrays are not.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnext.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Category:
    """A class of objects under the number that its data set gives it; COCO's have gaps."""

    id: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Coco:
    """Images with the boxes on them, in the order of their numbers.

    Attributes:
        name: for people.
        annotations: the files that all of this was read from.
        images: the folder that `files` are in.
        fingerprint: SHA-256 of the files of annotations; of a part of them, with its numbers.
        ids: of the images, ascending.
        files: of the images, relative to `images`.
        sizes: width and height of each.
        categories: by ascending number; label k is the k-th of them, from 1.
        offsets: boxes `offsets[i]` up to `offsets[i + 1]` are on image i.
        boxes: left, top, right, bottom in pixels, inside the image.
        labels: from 1.
        crowd: whether a box holds a group.
        shapes: of each box its segmentation as JSON, one behind the other; `shape_ends` says where.
        dropped: reason -> how many boxes were left out.
    """

    name: str
    annotations: tuple[Path, ...]
    images: Path
    fingerprint: str
    ids: NDArray[np.int64]
    files: tuple[str, ...]
    sizes: NDArray[np.int32]
    categories: tuple[Category, ...]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    shapes: NDArray[np.uint8]
    shape_ends: NDArray[np.int64]
    dropped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def usable(self) -> NDArray[np.int64]:
        """Images with an object that is no crowd: those that are trained on."""
        objects = np.add.reduceat(np.append(~self.crowd, False).astype(np.int64), self.offsets[:-1])
        objects[self.offsets[:-1] == self.offsets[1:]] = 0
        return np.flatnonzero(objects)

    def path(self, index: int) -> Path:
        """Of an image."""
        return self.images / self.files[index]

    def rows(self, index: int) -> slice:
        """Where the boxes of an image are."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def shape(self, row: int) -> Any:
        """The segmentation of a box, as the file has it."""
        begin = int(self.shape_ends[row - 1]) if row else 0
        return json.loads(self.shapes[begin : int(self.shape_ends[row])].tobytes() or b"null")

    def subset(self, indices: Sequence[int] | NDArray[np.int64], name: str) -> "Coco":
        """Some of the images, in this order; it should be that of their numbers."""
        chosen = np.asarray(indices, dtype=np.int64)
        of = self.fingerprint.encode() + self.ids[chosen].tobytes()
        spans = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen]
        rows = np.concatenate(spans) if spans else np.zeros(0, np.int64)
        texts = [
            self.shapes[(self.shape_ends[r - 1] if r else 0) : self.shape_ends[r]] for r in rows
        ]
        return replace(
            self,
            name=name,
            fingerprint=hashlib.sha256(of).hexdigest(),
            ids=self.ids[chosen],
            files=tuple(self.files[i] for i in chosen),
            sizes=self.sizes[chosen],
            offsets=np.cumsum([0, *(len(span) for span in spans)]),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            shapes=np.concatenate([np.zeros(0, np.uint8), *texts]),
            shape_ends=np.cumsum([len(text) for text in texts], dtype=np.int64),
        )


def read_coco(annotations: Path, images: Path, name: str | None = None) -> Coco:
    """Read a file of annotations and look whether its images are there.

    Raises:
        DataError: a file is missing, or what it says is impossible; the message names the file and
            the first annotations or images at fault.
    """
    content = _content(annotations)
    _check_parts(content, annotations)
    _check_ids(content, annotations)
    categories = _categories(content["categories"], annotations)
    rows = sorted(content["images"], key=lambda row: row["id"])
    _check_images(rows, annotations)
    files = _files(rows, images, annotations)
    by_image = _boxes_by_image(content, categories, annotations)
    dropped: Counter[str] = Counter()
    kept = [_kept(row, by_image.get(row["id"], []), dropped) for row in rows]
    flat = [box for boxes in kept for box in boxes]
    labels = {category.id: label for label, category in enumerate(categories, 1)}
    texts = [
        json.dumps(box["segmentation"]).encode() if "segmentation" in box else b"" for box in flat
    ]
    return Coco(
        name=name or annotations.stem,
        annotations=(annotations,),
        images=images,
        fingerprint=hashlib.sha256(annotations.read_bytes()).hexdigest(),
        ids=np.array([row["id"] for row in rows], dtype=np.int64),
        files=files,
        sizes=np.array([(row["width"], row["height"]) for row in rows], np.int32).reshape(-1, 2),
        categories=categories,
        offsets=np.cumsum([0, *(len(boxes) for boxes in kept)]),
        boxes=np.array([box["corners"] for box in flat], np.float32).reshape(-1, 4),
        labels=np.array([labels[box["category_id"]] for box in flat], np.int64),
        crowd=np.array([bool(box.get("iscrowd", 0)) for box in flat], np.bool_),
        shapes=np.frombuffer(b"".join(texts), np.uint8),
        shape_ends=np.cumsum([len(text) for text in texts], dtype=np.int64),
        dropped=dict(dropped),
    )


def require_same_categories(
    ours: Sequence[Category], theirs: Sequence[Category], where: str
) -> None:
    """Refuse classes of other names or numbers: labels would be shifted in silence.

    Raises:
        DataError: the message shows the first that differs.
    """
    if tuple(ours) == tuple(theirs):
        return
    a, b = {c.id: c.name for c in ours}, {c.id: c.name for c in theirs}
    odd = sorted(number for number in a.keys() | b.keys() if a.get(number) != b.get(number))
    first = odd[0]
    raise DataError(
        f"{where}: expected the {len(ours)} classes of training, found {len(theirs)}: number "
        f"{first} is {b.get(first, 'nothing')!r} in place of {a.get(first, 'nothing')!r} "
        f"({len(odd)} differ)"
    )


def _content(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"expected JSON in {file}, found something else: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"expected an object in {file}, found a {type(found).__name__}")
    return found


def _check_parts(content: Row, file: Path) -> None:
    for part in ("images", "annotations", "categories"):
        rows = content.get(part)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{file}: expected a list under {part!r}, found {type(rows).__name__}")
    if not content["images"]:
        raise DataError(f"{file}: expected images, found none")


def _check_ids(content: Row, file: Path) -> None:
    for part in ("images", "annotations", "categories"):
        numbers = [row.get("id") for row in content[part]]
        wrong = [n for n in numbers if type(n) is not int]
        if wrong:
            raise DataError(f"{file}: expected a whole number as id in {part}, found {wrong[0]!r}")
        twice = [n for n, count in Counter(numbers).items() if count > 1]
        if twice:
            raise DataError(f"{file}: expected each id once in {part}, found {_first(twice)} twice")


def _categories(rows: Iterable[Row], file: Path) -> tuple[Category, ...]:
    found = tuple(Category(row["id"], str(row.get("name", ""))) for row in rows)
    names = Counter(category.name for category in found)
    odd = [name for name, count in names.items() if count > 1 or not name]
    if odd or not found:
        raise DataError(f"{file}: expected classes with a name each, found {odd[:3] or 'none'}")
    return tuple(sorted(found, key=lambda category: category.id))


def _check_images(rows: Sequence[Row], file: Path) -> None:
    odd = [
        row["id"]
        for row in rows
        if not all(type(row.get(side)) is int and row[side] > 0 for side in ("width", "height"))
    ]
    if odd:
        raise DataError(
            f"{file}: expected width and height of every image, found images {_first(odd)}"
        )
    unnamed = [row["id"] for row in rows if not isinstance(row.get("file_name"), str)]
    if unnamed:
        raise DataError(
            f"{file}: expected a file_name of every image, found images {_first(unnamed)}"
        )


def _files(rows: Sequence[Row], folder: Path, file: Path) -> tuple[str, ...]:
    """Where the images are: by name, or by number, since 2014 and 2017 name them differently."""
    listed = _listing(folder)
    found, missing = [], []
    for row in rows:
        plain = f"{row['id']:012d}.jpg"
        names = (row["file_name"], plain, f"COCO_{folder.name}_{plain}")
        name = next((n for n in names if n in listed or _nested(folder, n)), None)
        if name is None:
            missing.append(row["file_name"])
        else:
            found.append(name)
    if missing:
        raise DataError(
            f"{file}: expected its images in {folder}, found {len(found)} of {len(rows)}; missing "
            f"{_first(missing)}"
        )
    return tuple(found)


def _listing(folder: Path) -> set[str]:
    """One look at the folder instead of one for each file."""
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error


def _nested(folder: Path, name: str) -> bool:
    """Whether a name with folders in it leads to a file, inside of `folder`."""
    return "/" in name and ".." not in Path(name).parts and (folder / name).is_file()


def _boxes_by_image(
    content: Row, categories: Sequence[Category], file: Path
) -> dict[int, list[Row]]:
    images = {row["id"] for row in content["images"]}
    known = {category.id for category in categories}
    problems: dict[str, list[Any]] = {}
    found: dict[int, list[Row]] = {}
    for row in content["annotations"]:
        problem = _problem(row, images, known)
        if problem:
            problems.setdefault(problem, []).append(row["id"])
        else:
            found.setdefault(row["image_id"], []).append(row)
    for problem, numbers in problems.items():
        raise DataError(f"{file}: {problem}, found annotations {_first(numbers)}")
    return found


def _problem(row: Row, images: set[int], known: set[int]) -> str | None:
    """What is wrong with an annotation."""
    if row.get("image_id") not in images:
        return "expected annotations of known images"
    if row.get("category_id") not in known:
        return "expected annotations of known categories"
    box = row.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(x) in (int, float) and math.isfinite(x) for x in box)
    ):
        return "expected a bbox of four finite numbers"
    return None


def _kept(image: Row, rows: Sequence[Row], dropped: Counter[str]) -> list[dict[str, Any]]:
    """The boxes of an image that can be used, clipped to it."""
    kept = []
    for row in rows:
        x, y, w, h = row["bbox"]
        left, top = max(0.0, x), max(0.0, y)
        right, bottom = min(image["width"], x + w), min(image["height"], y + h)
        corners = np.array([left, top, right, bottom], np.float32)
        if w <= 0 or h <= 0:
            dropped["no width or height"] += 1
        elif row.get("area", 1) <= 0:
            dropped["no area"] += 1
        elif corners[2] <= corners[0] or corners[3] <= corners[1]:
            dropped["outside the image"] += 1
        else:
            kept.append({**row, "corners": corners})
    return kept


def _first(values: Sequence[Any]) -> str:
    """The first five, and how many there are."""
    text = ", ".join(map(str, values[:5]))
    return text if len(values) <= 5 else f"{text} … ({len(values)} in all)"
