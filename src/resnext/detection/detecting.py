"""A finished detector at work: on a set of pictures with annotations, or on any pictures."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnext.detection.batches import load_image, pixels
from resnext.detection.coco import Category, Coco, read_coco, require_same_categories
from resnext.detection.folder import DetectionFolder, SetRecord
from resnext.detection.networks import Detection, Detector, Joint, TwoStep, proposals_of
from resnext.detection.norm import fold_norms
from resnext.detection.packages import coco_masks
from resnext.detection.planning import blank_detector
from resnext.detection.running import Done
from resnext.detection.scoring import Backend, Precision, Result, recall, score, sized
from resnext.detection.splits import COUNTS, made_again
from resnext.errors import CheckpointError, DataError
from resnext.training.checkpoint import load_weights
from resnext.training.speed import Precision as Width
from resnext.training.speed import autocast
from resnext.training.state import require_same

CROPS = 64
"""That a processor takes through the head together: measured 1.15 times as fast as all at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A detector scored on a set; a figure never travels without what it was made by.

    Attributes:
        run: the folder.
        network: the backbone's name.
        profile: of the method.
        boxes: figures of boxes; `masks` of masks, where there are some.
        data: the set.
        own: whether it is the set that the run was begun with.
        seconds: of detecting.
        dropped: predictions that were no numbers.
        results: the detections.
    """

    run: str
    network: str
    profile: str
    boxes: Precision
    masks: Precision | None
    data: SetRecord
    own: bool
    seconds: float
    dropped: int
    results: tuple[Result, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without the detections."""
        return {
            "run": self.run,
            "network": self.network,
            "profile": self.profile,
            "boxes": self.boxes.to_dict(),
            "masks": None if self.masks is None else self.masks.to_dict(),
            "data": self.data.model_dump(mode="json"),
            "own_data": self.own,
            "seconds": self.seconds,
            "dropped": self.dropped,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One object on a picture: box as left, top, right, bottom in its pixels."""

    label: str
    category_id: int
    score: float
    box: tuple[float, float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def load_detector(
    path: Path, device: torch.device | str = "cpu", *, fold: bool = True
) -> tuple[DetectionFolder, Detector]:
    """The finished detector of a folder, ready for testing.

    `fold` puts frozen normalisation into the convolutions in front of it: equal but for rounding.

    Raises:
        CheckpointError: there is none, or it is not finished, damaged or of another kind.
    """
    folder = DetectionFolder.open(path)
    if not folder.finished():
        raise CheckpointError(
            f"expected a finished detector in {path}, found one still in training; continue with: "
            f"resnext detect train --resume {path}"
        )
    detector = blank_detector(folder)
    weights = load_weights(folder.weights)
    require_same(f"{folder.weights} to hold weights", detector.state_dict(), weights)
    detector.load_state_dict(weights, assign=True)
    detector.eval()
    if fold:
        fold_norms(detector)
    if torch.device(device).type == "cpu":
        part = detector if isinstance(detector, Joint) else detector.classifying
        part.roi_heads.at_once = CROPS
    return folder, detector.to(device).to(memory_format=torch.channels_last)


def data_of(record: SetRecord) -> Coco:
    """The set that a record names.

    Raises:
        DataError: it is gone or has changed.
    """
    files = [Path(name) for name in record.annotations]
    for file in files:
        if not file.exists():
            raise DataError(
                f"expected the pictures of {record.name} at {file}, found none; say --data"
            )
    if len(files) == 1:
        data = read_coco(files[0], Path(record.images), record.name)
        if data.fingerprint == record.fingerprint:
            return data
    if record.name in COUNTS:  # part of a file of 2014, or joined from two
        data = made_again(files[0].parent.parent, record.name)
        if data.fingerprint == record.fingerprint:
            return data
    raise DataError(
        f"expected {' and '.join(map(str, files))} as for {record.name} before, found other "
        "annotations or images; say --data"
    )


def detect(
    detector: Detector,
    images: Sequence[Tensor],
    *,
    precision: Width = "fp32",
) -> list[Detection]:
    """Detections on 3 x H x W images, on the detector's device; answers on the processor."""
    device = next(detector.parameters()).device
    with torch.inference_mode(), autocast(device, precision):
        found = detector([image.to(device, non_blocking=True) for image in images])
    return [{name: value.cpu() for name, value in one.items()} for one in found]


def evaluate_detector(
    path: Path,
    data: Coco | None = None,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    backend: Backend = "pycocotools",
    precision: Width = "fp32",
    fold: bool = True,
) -> Iterator[Done | Evaluated]:
    """Score a detector; its own evaluation set if none is given. Ends with an `Evaluated`.

    Padding moves features near the border a little: the figures of a batch of 1 are for reference.

    Raises:
        CheckpointError: there is no finished detector.
        DataError: the classes differ, a picture cannot be read, or there is nothing to find.
        NotFiniteError: the detector's answers are no numbers.
    """
    folder, detector = load_detector(path, device, fold=fold)
    images = data_of(folder.record.evaluation) if data is None else data
    require_same_categories(folder.record.categories, images.categories, images.name)
    begun = time.perf_counter()
    results: list[Result] = []
    for start in range(0, len(images), batch_size):
        numbers = range(start, min(len(images), start + batch_size))
        found = detect(detector, [load_image(images, i) for i in numbers], precision=precision)
        for i, one in zip(numbers, found, strict=True):
            results += results_of(int(images.ids[i]), one, images.categories)
        yield Done(what="images", done=numbers.stop, total=len(images))
    seconds = time.perf_counter() - begun
    yield Evaluated(
        run=str(path),
        network=folder.record.network,
        profile=folder.record.method.name,
        boxes=score(images, results, backend=backend),
        masks=score(images, results, kind="segm", backend=backend)
        if folder.record.method.masks
        else None,
        data=SetRecord.of(images),
        own=images.fingerprint == folder.record.evaluation.fingerprint,
        seconds=seconds,
        dropped=dropped(detector),
        results=tuple(results),
    )


def dropped(detector: Detector) -> int:
    """Predictions so far that were no numbers."""
    part = detector if isinstance(detector, Joint) else detector.classifying
    return int(part.roi_heads.dropped)


def results_of(image_id: int, found: Detection, categories: Sequence[Category]) -> list[Result]:
    """Detections of an image in the form of COCO; numbers keep all their digits."""
    rows: list[Result] = [
        {
            "image_id": image_id,
            "category_id": categories[label - 1].id,
            "bbox": box,
            "score": value,
        }
        for box, label, value in zip(
            sized(found["boxes"]), found["labels"].tolist(), found["scores"].tolist(), strict=True
        )
    ]
    if "masks" in found:
        encode = coco_masks().encode
        for row, mask in zip(rows, found["masks"], strict=True):
            packed = encode(np.asfortranarray((mask[0] > 0.5).numpy().astype(np.uint8)))
            row["segmentation"] = {**packed, "counts": packed["counts"].decode()}
    return rows


def proposals_on(detector: Detector, data: Coco) -> Iterator[tuple[int, Tensor, Tensor]]:
    """image_id, boxes and scores of every picture, as testing proposes them."""
    device = next(detector.parameters()).device
    part = detector.proposing if isinstance(detector, TwoStep) else detector
    for index in range(len(data)):
        with torch.inference_mode():
            ((boxes, scores),) = proposals_of(part, [load_image(data, index).to(device)])
        yield int(data.ids[index]), boxes.cpu(), scores.cpu()


def proposal_recall(found: Sequence[tuple[int, Tensor, Tensor]], data: Coco) -> Mapping[int, float]:
    """Average recall at 100, 300 and 1000 proposals an image."""
    return recall(data, found)


def predict(
    detector: Detector,
    categories: Sequence[Category],
    files: Sequence[Path],
    *,
    least_score: float = 0.5,
    batch_size: int = 1,
    precision: Width = "fp32",
) -> Iterator[tuple[Path, Tensor, tuple[Found, ...]]]:
    """File, picture (3 x H x W bytes) and what is on it, best first.

    Raises:
        DataError: a file is no picture.
    """
    for start in range(0, len(files), batch_size):
        some = files[start : start + batch_size]
        images = [pixels(file) for file in some]
        for file, image, found in zip(
            some, images, detect(detector, images, precision=precision), strict=True
        ):
            yield file, image, _objects(found, categories, least_score)


def _objects(
    found: Detection, categories: Sequence[Category], least_score: float
) -> tuple[Found, ...]:
    rows = zip(
        found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
    )
    return tuple(
        Found(
            label=categories[label - 1].name,
            category_id=categories[label - 1].id,
            score=value,
            box=(box[0], box[1], box[2], box[3]),
        )
        for box, label, value in rows
        if value >= least_score
    )
