"""Sec. 5.4: Table 8, Faster R-CNN on COCO with four backbones.

A detector begins with the weights that Table 3 trains, or with files that the user names. The scale
demo has two steps that share nothing, as the paper has, but small networks that begin with random
weights on small pictures.
"""

import json
import math
import sys
from collections.abc import Generator, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import resnext
from resnext.budget import solve
from resnext.detection.coco import Coco
from resnext.detection.cost import detection_cost, training_cost, usual_size
from resnext.detection.detecting import evaluate_detector, load_detector
from resnext.detection.method import Method
from resnext.detection.planning import SMALL, DetectionPlan, plan_detection
from resnext.detection.reporting import report_on
from resnext.detection.running import DetectionStep, Done, Progress, train_detector
from resnext.detection.schedule import Schedule
from resnext.detection.schedule import Study as Schedules
from resnext.detection.schedule import study as schedules
from resnext.detection.splits import Sets, open_sets
from resnext.experiments.design import Experiment, Measure, Row, Scale, check_epochs
from resnext.experiments.findings import Findings, Spread
from resnext.experiments.imagenet import R50, R101, X50, X101
from resnext.experiments.measuring import Bench, Tick
from resnext.experiments.paper import number
from resnext.experiments.study import Job, Study, describe, require_commit, short
from resnext.families import compose
from resnext.report import write_report
from resnext.report.content import Chart, Column, Line, Part, Table, Value
from resnext.runs.pretrained import initial_weights
from resnext.spec import Spec

BACKBONES = (R50, X50, R101, X101)
SHORT_STEPS = 18_000
"""Of each step at the scale `short`: a tenth of the paper's."""
SEEDS: MappingProxyType[Scale, int] = MappingProxyType({"paper": 1, "short": 1, "demo": 1})

DEMO = MappingProxyType(
    {
        "shorter": "[128]",
        "longer": "192",
        "anchors": "[[16, 32, 64, 128]]",
        "rpn_width": "128",
        "least_side": "4",
        "after": "[100, 60]",
        "rois": "32",
        "crop_side": "7",
        "nms": "0.5",
        "images": "4",
        "at_once": "4",
        "learning_rate": "0.03",
        "steps": "300",
        "milestones": "[200]",
        "warmup": "50",
    }
)
"""The profile `paper` at small size: what four pictures are learned by heart with."""

SOURCE = "Table 8"
COPIES = 5
"""Of the weights on disk: the finished ones, and two checkpoints of weights and momentum."""
_PROPOSAL = 20
"""Bytes of one that is stored: a box and its score."""


def open_objects(root: Path, scale: Scale) -> Sets:
    """COCO: trainval35k and minival, whole; the demo takes whatever there is.

    Raises:
        DataError: they are not there, or not whole.
    """
    if scale == "demo":
        return open_sets(root)
    return open_sets(root, train="trainval35k", evaluation="minival")


def _base(blocks: int) -> Spec:
    """The small ResNet of the demo: four stages, 32 to 256 channels."""
    return compose((blocks,) * 4, "1x16d", stem=SMALL.stem, out_channels=32)


def backbone(row: Row, scale: Scale) -> Spec:
    """The network under a detector."""
    if scale != "demo":
        return row.spec
    base = _base(1 if row in (R50, X50) else 2)
    if row in (R50, R101):
        return base
    template = str(solve(4, base).template)
    return compose(tuple(s.blocks for s in base.stages), template, stem=SMALL.stem, out_channels=32)


def method(study: Study) -> Schedules:
    """The profile `paper` at a scale, over as many epochs as were asked for.

    Raises:
        UsageError: other epochs than the paper's at the paper's scale.
    """
    choices, objects = study.choices, study.choices.objects
    check_epochs(choices.scale, choices.epochs)
    if choices.scale == "demo":
        wanted = schedules("paper", settings=DEMO)
    else:
        wanted = schedules("paper", steps=SHORT_STEPS if choices.scale == "short" else None)
    if choices.epochs is None or objects is None:
        return wanted
    assert objects.train is not None
    seen = choices.epochs * len(objects.train.usable)
    return Schedules(
        method=wanted.method,
        schedules=tuple(s.with_steps(math.ceil(seen / s.images)) for s in wanted.schedules),
    )


def _plan(study: Study, row: Row, seed: int, objects: Sets) -> DetectionPlan:
    choices = study.choices
    weights = None
    if choices.scale != "demo":
        weights = _given(study, row) or study.job(row, seed).path
    return plan_detection(
        objects,
        backbone(row, choices.scale),
        method(study),
        weights=weights,
        seed=seed,
        device=choices.device,
        workers=choices.workers or 0,
    )


def _given(study: Study, row: Row) -> Path | None:
    """The weights that are named for a backbone."""
    return study.choices.weights.get(row.id)


@cache
def _digest(weights: Path, changed: int) -> str:
    """SHA-256 of a file or run; a study asks for it many times."""
    del changed
    return initial_weights(weights).sha256


def _settings(study: Study, row: Row) -> dict[str, Any]:
    wanted, given = method(study), _given(study, row)
    return {
        "network": backbone(row, study.choices.scale).to_dict(),
        "method": wanted.method.model_dump(mode="json"),
        "schedules": [one.model_dump(mode="json") for one in wanted.schedules],
        "weights": None if given is None else _digest(given, given.stat().st_mtime_ns),
    }


def _needs(study: Study, row: Row) -> tuple[Row, ...]:
    begun = study.choices.scale == "demo" or _given(study, row) is not None
    return () if begun else (row,)


def _run(bench: Bench, row: Row) -> Iterator[Tick | dict[str, Any]]:
    plan = _plan(bench.study, row, bench.job.seed, bench.objects)
    folder = plan.create_or_continue(bench.job.path, sys.argv)
    require_commit(bench.job, folder.record.commit, any_commit=bench.study.choices.any_commit)
    if not folder.finished():
        total = sum(one.steps for one in plan.study.schedules)
        for progress in train_detector(plan, folder, stop=bench.stop):
            yield from _told(progress, total)
    values: dict[str, Any] = {
        "begins_with": folder.record.initial_weights,
        "commit": folder.record.commit,
    }
    values["scored"] = yield from _scored(bench, bench.objects.evaluation, page=True)
    if bench.study.choices.scale == "demo":
        assert bench.objects.train is not None
        values["scored_on_training"] = yield from _scored(bench, bench.objects.train)
    yield values


def _told(progress: Progress, total: int) -> Iterator[Tick]:
    if isinstance(progress, DetectionStep):
        text = f"{progress.phase}, step {progress.step:,} of {progress.steps:,}"
        yield Tick(progress.updates, total, text)
    elif isinstance(progress, Done):
        yield Tick(progress.done, progress.total, progress.what)


def _scored(
    bench: Bench, data: Coco, *, page: bool = False
) -> Generator[Tick, None, dict[str, Any]]:
    path, device = bench.job.path, bench.device
    for progress in evaluate_detector(path, data, device=device):
        bench.check()
        if isinstance(progress, Done):
            yield Tick(progress.done, progress.total, f"scoring {data.name}")
            continue
        if page:
            write_report(report_on(*load_detector(path, device), progress, data), path)
        boxes = progress.boxes
        return {
            "data": data.name,
            "images": boxes.images,
            "backend": boxes.backend,
            "ap": boxes.ap,
            "ap50": boxes.ap50,
            "ap75": boxes.ap75,
            "precision": list(boxes.curve),
        }
    raise AssertionError("evaluate_detector ends with what it found")


def _asked(job: Job) -> tuple[Spec, Schedules]:
    """Network, method and schedules, from the settings of a job."""
    wanted = job.settings
    return Spec.from_dict(wanted["network"]), Schedules(
        method=Method.model_validate_json(json.dumps(wanted["method"])),
        schedules=tuple(Schedule.model_validate_json(json.dumps(s)) for s in wanted["schedules"]),
    )


def _cost(job: Job) -> float:
    """Multiply-adds of training, and of testing as much as is tested."""
    assert isinstance(job.data, Sets)
    spec, wanted = _asked(job)
    classes = len(job.data.evaluation.categories)
    tested = detection_cost(spec, wanted.method, classes, usual_size(wanted.method)).total
    return training_cost(spec, wanted, classes) + tested * len(job.data.evaluation)


def _disk(job: Job) -> int:
    """Bytes of the two networks' weights and of the stored proposals."""
    assert isinstance(job.data, Sets)
    assert job.data.train is not None
    spec, wanted = _asked(job)
    weights = 2 * 4 * COPIES * resnext.complexity(spec).parameters
    return weights + len(job.data.train) * wanted.method.after[0] * _PROPOSAL


def _measure(row: Row) -> Measure:
    return Measure(
        id=f"detect-{row.id}",
        home="table8",
        label=row.label,
        settings=lambda study, _: _settings(study, row),
        run=lambda bench: _run(bench, row),
        needs=lambda study: _needs(study, row),
        cost=_cost,
        disk=_disk,
        objects=True,
    )


DETECTORS = tuple(_measure(row) for row in BACKBONES)


def _parts(findings: Findings) -> Sequence[Part]:
    return (_table(findings), *_curves(findings))


def _table(findings: Findings) -> Table:
    demo = findings.study.choices.scale == "demo"
    columns = [Column(title="backbone"), Column(title="run as")]
    for what in ("AP@0.5", "AP"):
        columns.append(Column(title=f"paper: {what}, %", digits=1, source=SOURCE))
        columns.append(Column(title=f"ours: {what}, %", digits=1))
        if demo:
            columns.append(Column(title=f"ours: {what} on the training pictures, %", digits=1))
        else:
            columns.append(Column(title=f"difference in {what}", digits=1, signed=True))
    columns += [
        Column(title="standard error of AP"),
        Column(title="seeds", digits=0),
        Column(title="commit"),
    ]
    return Table(
        name="table8",
        title="Faster R-CNN on COCO minival" if not demo else "Faster R-CNN on a few pictures",
        columns=tuple(columns),
        rows=tuple(
            _row(findings, *pair, demo=demo) for pair in zip(BACKBONES, DETECTORS, strict=True)
        ),
        notes=_notes(findings.study),
    )


def _row(findings: Findings, row: Row, measure: Measure, *, demo: bool) -> tuple[Value, ...]:
    results = findings.results(measure)
    cells: list[Value] = [row.label, describe(backbone(row, findings.study.choices.scale))]
    for what, field in (("AP@0.5", "ap50"), ("AP", "ap")):
        ours, paper = _spread(results, "scored", field), number(SOURCE, row.label, what)
        cells += [paper, ours.mean]
        if demo:
            cells.append(_spread(results, "scored_on_training", field).mean)
        else:
            cells.append(None if ours.mean is None or paper is None else ours.mean - paper)
    commits = ", ".join(sorted({short(one) for one in _commits(results)})) or None
    return (*cells, _spread(results, "scored", "ap").error, len(results), commits)


def _commits(results: Sequence[dict[str, Any]]) -> Iterator[str | None]:
    """The code that trained and the code that scored."""
    for one in results:
        yield one["commit"]
        yield one["values"].get("commit", one["commit"])


def _spread(results: Sequence[dict[str, Any]], which: str, field: str) -> Spread:
    """Percent; a figure that no object decides is left out."""
    found = [one["values"][which][field] for one in results]
    return Spread.of([100 * value for value in found if value is not None])


def _curves(findings: Findings) -> tuple[Chart, ...]:
    at = tuple(k / 100 for k in range(101))
    which = "scored_on_training" if findings.study.choices.scale == "demo" else "scored"
    lines = [
        Line(label=measure.label, x=at, y=tuple(results[0]["values"][which]["precision"]))
        for measure in DETECTORS
        if (results := findings.results(measure))
    ]
    if not lines:
        return ()
    where = " on the training pictures" if which != "scored" else ""
    return (
        Chart(
            name="table8-precision",
            title=f"Precision and recall at IoU .5{where}, mean over the classes, seed 0",
            x="recall",
            y="precision",
            lines=tuple(lines),
        ),
    )


def _notes(study: Study) -> tuple[str, ...]:
    if study.choices.scale == "demo":
        return (_DEMO_NOTE,)
    steps = " and ".join(
        f"{one.steps:,} steps of {one.images} images ({one.phase})"
        for one in method(study).schedules
    )
    return (f"Two steps that share no features, RoIPool, C4 (appendix B): {steps}.",)


_DEMO_NOTE = (
    "Scale demo: small backbones that begin with random weights, and two steps that share nothing, "
    "on small pictures. It shows the method at work; so few pictures teach "
    "nothing about others, so that the paper's numbers are of another question."
)

TABLE8 = Experiment(
    id="table8",
    title="Table 8: object detection",
    source=SOURCE,
    rows=BACKBONES,
    measures=DETECTORS,
    seeds=SEEDS,
    parts=_parts,
    data="COCO, and ImageNet-1K for the backbones (or --weights)",
    demo_rows=(),
)
