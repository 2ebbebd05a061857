"""What a page says of a scored detector: figures, curves, classes, and pictures with boxes."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from resnext.detection.coco import Coco
from resnext.detection.detecting import Evaluated, Found, predict
from resnext.detection.drawing import drawn
from resnext.detection.folder import DetectionFolder
from resnext.detection.networks import Detector
from resnext.detection.scoring import Precision
from resnext.report import Chart, Column, Line, Part, Photo, Photos, Report, Table, Value
from resnext.runs.provenance import as_typed

PICTURES, LEAST_SCORE = 12, 0.3
"""On the page, and of the objects drawn on them."""

_FIGURES = (
    ("AP", "ap"),
    ("AP at IoU .5", "ap50"),
    ("AP at IoU .75", "ap75"),
    ("AP, small objects", "ap_small"),
    ("AP, medium", "ap_medium"),
    ("AP, large", "ap_large"),
    ("AR, 1 detection", "recall_1"),
    ("AR, 10", "recall_10"),
    ("AR, 100", "recall_100"),
)


def report_of(
    folder: DetectionFolder,
    evaluated: Evaluated,
    pictures: Sequence[tuple[Path, Tensor, tuple[Found, ...]]] = (),
) -> Report:
    """The page of a detector that was scored.

    Args:
        folder: its run.
        evaluated: its figures.
        pictures: with what was found on them, from `predict`.
    """
    kinds = [("boxes", evaluated.boxes)]
    if evaluated.masks is not None:
        kinds.append(("masks", evaluated.masks))
    parts: list[Part] = [_figures(kinds), _curves(kinds), *_losses(folder), _classes(kinds)]
    if pictures:
        parts.append(_photos(pictures))
    return Report(
        name="detection",
        title=f"{evaluated.network}, profile {evaluated.profile}",
        summary=_summary(evaluated),
        parts=tuple(parts),
        facts=_facts(folder, evaluated),
    )


def report_on(
    folder: DetectionFolder, detector: Detector, evaluated: Evaluated, data: Coco
) -> Report:
    """The page of a detector, with the first pictures of the set and what is found on them.

    Raises:
        DataError: a picture cannot be read.
    """
    shown = pictures_of(data)
    found = predict(detector, folder.record.categories, shown, least_score=LEAST_SCORE)
    return report_of(folder, evaluated, list(found))


def pictures_of(data: Coco, count: int = PICTURES) -> list[Path]:
    """The first images of a set."""
    return [data.path(index) for index in range(min(count, len(data)))]


def _summary(evaluated: Evaluated) -> tuple[str, ...]:
    boxes = evaluated.boxes
    whose = "the set that the run was begun with" if evaluated.own else "another set than the run's"
    sentences = [
        (
            f"AP {_percent(boxes.ap)} %, at IoU .5 {_percent(boxes.ap50)} %, over {boxes.classes} "
            f"classes with objects on {boxes.images} images of {evaluated.data.name}, {whose}."
        ),
    ]
    if boxes.images < 1000:
        sentences.append(
            f"So few images ({boxes.images}) say nothing about COCO: compare with published "
            "figures on minival's 5,000 alone."
        )
    return tuple(sentences)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"


def _figures(kinds: Sequence[tuple[str, Precision]]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for title, field in _FIGURES:
        values = [getattr(figures, field) for _, figures in kinds]
        rows.append((title, *(None if v is None else 100 * v for v in values)))
    return Table(
        name="precision",
        title="Average precision and recall",
        columns=(Column(title="figure"), *(Column(title=f"{k}, %", digits=1) for k, _ in kinds)),
        rows=tuple(rows),
        notes=(
            (
                f"Computed by {kinds[0][1].backend}; a figure is missing where no "
                "object is of its size."
            ),
        ),
    )


def _curves(kinds: Sequence[tuple[str, Precision]]) -> Chart:
    at = tuple(k / 100 for k in range(101))
    return Chart(
        name="precision-recall",
        title="Precision and recall at IoU .5, mean over the classes",
        x="recall",
        y="precision",
        lines=tuple(Line(label=kind, x=at, y=figures.curve) for kind, figures in kinds),
    )


def _losses(folder: DetectionFolder) -> list[Chart]:
    """The losses of each phase over its steps."""
    lines = folder.lines()
    charts = []
    for phase in dict.fromkeys(line.phase for line in lines):
        own = [line for line in lines if line.phase == phase]
        steps = tuple(float(line.step) for line in own)
        charts.append(
            Chart(
                name=f"losses-{phase}",
                title=f"Losses of single steps ({phase})",
                x="step",
                y="loss",
                lines=tuple(
                    Line(label=name, x=steps, y=tuple(line.losses[name] for line in own))
                    for name in own[0].losses
                ),
            )
        )
    return charts


def _classes(kinds: Sequence[tuple[str, Precision]]) -> Table:
    names = kinds[0][1].by_class
    rows: list[tuple[Value, ...]] = []
    for name in names:
        values = [figures.by_class[name] for _, figures in kinds]
        rows.append((name, *(None if v is None else 100 * v for v in values)))
    return Table(
        name="classes",
        title="AP of each class",
        columns=(Column(title="class"), *(Column(title=f"{k}, %", digits=1) for k, _ in kinds)),
        rows=tuple(rows),
        notes=(f"{kinds[0][1].classes} of {len(names)} classes have objects on these images.",),
    )


def _photos(pictures: Sequence[tuple[Path, Tensor, tuple[Found, ...]]]) -> Photos:
    return Photos(
        name="detections",
        title="Detections",
        photos=tuple(
            Photo(caption=f"{file.name}: {_words(objects)}", data=drawn(image, objects))
            for file, image, objects in pictures
        ),
    )


def _words(objects: Sequence[Found]) -> str:
    return ", ".join(f"{found.label} {found.score:.2f}" for found in objects[:5]) or "nothing"


def _facts(folder: DetectionFolder, evaluated: Evaluated) -> dict[str, str]:
    record = folder.record
    return {
        "run": str(folder.path),
        "command": as_typed(record.command),
        "commit": record.commit or "unknown",
        "data": f"{evaluated.data.name}, {evaluated.data.fingerprint[:12]}",
        "trained on": f"{record.train.name}, {record.train.count} images",
        "seed": str(record.seed),
        "device": record.device,
        "precision": record.precision,
        "weights begun with": record.initial_weights or "none",
        **{name: text for name, text in record.versions.items() if name != "platform"},
    }
