"""How good detections are: COCO's average precision and recall, as its own code computes them.

What is scored is read from the file of annotations, never from what training saw. Detections are
checked first: a score that is no number, or an unknown class, would only lower the figure in
silence.
"""

import contextlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resnext.detection.coco import Coco
from resnext.detection.packages import coco_classes
from resnext.errors import DataError

Backend = Literal["pycocotools", "faster"]
Kind = Literal["bbox", "segm"]
Result = dict[str, Any]
"""image_id, category_id, bbox (x, y, width, height in pixels of the original), score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """COCO's twelve figures in 0..1, and what is behind them; None where there is no object.

    Attributes:
        ap: mean over classes and IoU thresholds .5 to .95; `ap50` and `ap75` at one of them.
        ap_small: of objects below 32 x 32 pixels; `ap_large` from 96 x 96 on.
        recall_1: at most so many detections of an image.
        by_class: AP of each class; None where it has no object.
        curve: precision at recall 0, .01 ... 1 and IoU .5, mean over the classes.
        images: that were scored.
        detections: of all images.
        kind: boxes or masks.
        backend: what computed them.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    recall_1: float | None
    recall_10: float | None
    recall_100: float | None
    recall_small: float | None
    recall_medium: float | None
    recall_large: float | None
    by_class: Mapping[str, float | None]
    curve: tuple[float, ...]
    images: int
    detections: int
    kind: Kind
    backend: Backend
    notes: tuple[str, ...] = ()
    """What is odd about the detections."""

    @property
    def classes(self) -> int:
        """Those with objects to be found."""
        return sum(value is not None for value in self.by_class.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"classes": self.classes}


def score(
    data: Coco,
    results: Sequence[Result],
    *,
    kind: Kind = "bbox",
    backend: Backend = "pycocotools",
) -> Precision:
    """The figures of detections on the images of a set.

    Raises:
        DataError: a detection is impossible, or there is nothing to be found.
        UsageError: the package is not installed.
    """
    results = checked_results(data, results, kind)
    evaluated = _evaluated(data, results, kind, backend)
    figures = _figures(evaluated) if results else [0.0] * 12
    names = (
        *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
        *("recall_1", "recall_10", "recall_100", "recall_small", "recall_medium", "recall_large"),
    )
    precision = evaluated.eval["precision"][:, :, :, 0, -1] if results else None
    return Precision(
        **{name: _known(value) for name, value in zip(names, figures, strict=True)},
        by_class=_by_class(data, precision),
        curve=_curve(precision),
        images=len(data),
        detections=len(results),
        kind=kind,
        backend=backend,
        notes=_notes(data, results),
    )


def checked_results(data: Coco, results: Sequence[Result], kind: Kind = "bbox") -> list[Result]:
    """The detections, ordered by image so that ties in score do not depend on theirs.

    Raises:
        DataError: one is impossible; the message names it.
    """
    if not int((~data.crowd).sum()):
        raise DataError(f"{data.name}: expected objects to be found, found none: nothing to score")
    if not results:
        return []
    images = {int(i): size for i, size in zip(data.ids, data.sizes, strict=True)}
    known = {category.id for category in data.categories}
    for number, result in enumerate(results):
        _check_result(result, number, images, known, kind)
    _refuse_twice(results)
    return sorted(results, key=lambda result: result["image_id"])


def _check_result(
    result: Result, number: int, images: Mapping[int, Any], known: set[int], kind: Kind
) -> None:
    where = f"detection {number}"
    missing = {"image_id", "category_id", "score", "bbox"} - result.keys()
    if kind == "segm" and "segmentation" not in result:
        missing.add("segmentation")
    if missing:
        raise DataError(f"{where}: expected {', '.join(sorted(missing))}, found none")
    if result["image_id"] not in images:
        raise DataError(f"{where}: expected an image of the set, found {result['image_id']!r}")
    if result["category_id"] not in known:
        raise DataError(f"{where}: expected a known class, found {result['category_id']!r}")
    numbers = [result["score"], *result["bbox"]]
    if len(numbers) != 5 or not all(
        isinstance(x, int | float) and math.isfinite(x) for x in numbers
    ):
        raise DataError(
            f"{where} (image {result['image_id']}): expected a finite score and box, found "
            f"{result['score']!r} and {result['bbox']!r}"
        )


def _refuse_twice(results: Sequence[Result]) -> None:
    keys = Counter(
        (r["image_id"], r["category_id"], float(r["score"]), *map(float, r["bbox"]))
        for r in results
    )
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise DataError(
            f"expected every detection once, found {len(twice)} twice, such as class {twice[0][1]} "
            f"on image {twice[0][0]}; several processes may have seen the same images"
        )


def _notes(data: Coco, results: Sequence[Result]) -> tuple[str, ...]:
    """What is odd about detections: none at all, corners in place of sizes, shifted classes."""
    if not results:
        return ("no detections at all: every figure is 0",)
    images = {int(i): size for i, size in zip(data.ids, data.sizes, strict=True)}
    notes = []
    boxes = np.array([r["bbox"] for r in results], np.float64)
    sizes = np.array([images[r["image_id"]] for r in results], np.float64)
    outside = ((boxes[:, :2] + boxes[:, 2:]) > sizes + 1).any(1).mean()
    if outside > 0.2:
        notes.append(
            f"{outside:.0%} of the boxes leave their image: expected x, y, width, height, perhaps "
            "these are corners"
        )
    if _other_classes(data, results):
        notes.append(
            "most boxes lie on objects of other classes, none on their own: perhaps the numbers of "
            "the classes are shifted"
        )
    return tuple(notes)


def _other_classes(data: Coco, results: Sequence[Result]) -> bool:
    """Whether more than half of the boxes lie on objects, but of other classes."""
    numbers = np.array([category.id for category in data.categories])
    place = {int(i): index for index, i in enumerate(data.ids)}
    own = other = 0
    for result in results:
        rows = data.rows(place[result["image_id"]])
        near = _overlaps(np.array(result["bbox"], np.float64), data.boxes[rows]) >= 0.5
        same = numbers[data.labels[rows] - 1] == result["category_id"]
        own += bool((near & same).any())
        other += bool((near & ~same).any())
    return own == 0 and other > len(results) / 2


def _overlaps(box: NDArray[np.float64], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """IoU of x, y, width, height with rows of corners."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    found: NDArray[np.float64] = shared / (box[2] * box[3] + areas - shared + 1e-9)
    return found


def _evaluated(data: Coco, results: list[Result], kind: Kind, backend: Backend) -> Any:
    coco, evaluation = coco_classes(backend)
    if not results:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        truth.dataset = _annotations(data)
        truth.createIndex()
        found = truth.loadRes([_loadable(truth, result, kind) for result in results])
        run = evaluation(truth, found, kind)
        run.evaluate()
        run.accumulate()
    return run


def _loadable(truth: Any, result: Result, kind: Kind) -> Result:
    """A detection for `loadRes`, which takes the area of a box, if there is one, for the mask's."""
    if kind == "bbox":
        return dict(result)
    rest = {name: value for name, value in result.items() if name != "bbox"}
    return {**rest, "segmentation": truth.annToRLE(result)}  # areas are of packed masks only


def _annotations(data: Coco) -> dict[str, Any]:
    """The files of annotations as they are, for the images of the set."""
    wanted = {int(i) for i in data.ids}
    contents = [json.loads(file.read_bytes()) for file in data.annotations]
    return {
        "info": {},
        "images": [row for c in contents for row in c["images"] if row["id"] in wanted],
        "annotations": [
            {"iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3], **row}
            for c in contents
            for row in c["annotations"]
            if row["image_id"] in wanted
        ],
        "categories": contents[0]["categories"],
    }


def _figures(run: Any) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        run.summarize()
    return [float(value) for value in run.stats[:12]]


def _known(value: float) -> float | None:
    return None if value < 0 else value


def _by_class(data: Coco, precision: NDArray[np.float64] | None) -> dict[str, float | None]:
    has = np.bincount(data.labels[~data.crowd], minlength=len(data.categories) + 1)[1:] > 0
    found: dict[str, float | None] = {}
    for k, category in enumerate(data.categories):
        values = np.zeros(1) if precision is None else precision[:, :, k]
        found[category.name] = float(values.mean()) if has[k] else None
    return found


def _curve(precision: NDArray[np.float64] | None) -> tuple[float, ...]:
    if precision is None:
        return (0.0,) * 101
    at_half = precision[0]
    return tuple(float(x) for x in at_half[:, at_half[0] > -1].mean(1))


def recall(
    data: Coco, boxes: Iterable[tuple[int, Any, Any]], most: Sequence[int] = (100, 300, 1000)
) -> dict[int, float]:
    """Average recall of proposals, of whatever class, at so many an image.

    Args:
        data: the images.
        boxes: image_id, P x 4 corners, scores.
        most: counts, ascending.

    Raises:
        DataError: there is nothing to be found.
    """
    results = [
        {"image_id": image, "category_id": data.categories[0].id, "bbox": box, "score": float(s)}
        for image, corners, scores in boxes
        for box, s in zip(sized(corners), scores, strict=True)
    ]
    if not int((~data.crowd).sum()):
        raise DataError(f"{data.name}: expected objects to be found, found none: nothing to score")
    if not results:
        return dict.fromkeys(most, 0.0)
    coco, evaluation = coco_classes("pycocotools")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        truth.dataset = _annotations(data)
        truth.createIndex()
        run = evaluation(truth, truth.loadRes(results), "bbox")
        run.params.useCats, run.params.maxDets = 0, list(most)
        run.evaluate()
        run.accumulate()
    found = run.eval["recall"][:, 0, 0, :]
    return {count: float(found[:, k].mean()) for k, count in enumerate(most)}


def sized(corners: Any) -> list[list[float]]:
    """Left, top, right, bottom -> x, y, width, height."""
    return [[a, b, c - a, d - b] for a, b, c, d in corners.tolist()]


def read_results(path: Path) -> list[Result]:
    """Detections in a file of JSON, as `resnext detect evaluate` writes and takes them.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(f"expected a list of detections in {path}, found {type(found).__name__}")
    return found
