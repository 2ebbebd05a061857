"""``resnext detect``: train a detector, score it, and use it on pictures."""

import json
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnext.cli.detect_display import counted, follow_detector
from resnext.cli.display import interruptible, loading
from resnext.errors import INTERRUPTED, DataError, PreemptedError, ResNextError, UsageError

if TYPE_CHECKING:
    from resnext.detection.coco import Coco
    from resnext.detection.detecting import Evaluated
    from resnext.detection.folder import DetectionFolder
    from resnext.detection.planning import DetectionPlan
    from resnext.detection.splits import Sets
    from resnext.training.distributed import World

detect_app = typer.Typer(
    help="Find objects on pictures: Faster R-CNN on any network (Sec. 5.4, Table 8).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[
    Path | None, typer.Option(help="A folder as COCO lays it out: annotations/, train2017/ ...")
]
Annotations = Annotated[
    Path | None, typer.Option(help="A file in COCO's format, where the layout is another.")
]
Images = Annotated[Path | None, typer.Option(help="The folder of its images.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:N or mps; a GPU if there is one.")
]
Width = Annotated[
    Literal["fp32", "bf16"] | None, typer.Option("--precision", help="Of the activations; fp32.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures at once.")]


@detect_app.command("train")
def train(
    network: Annotated[
        str | None, typer.Option(help="The backbone, such as 'ResNeXt-50 (32x4d)'.")
    ] = None,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="Train on exactly this: train2017, trainval35k, ...")
    ] = None,
    eval_split: Annotated[
        str | None, typer.Option(help="Score on exactly this: val2017, minival, ...")
    ] = None,
    annotations: Annotations = None,
    images: Images = None,
    eval_annotations: Annotated[
        Path | None, typer.Option(help="The same to score on; that of training if left out.")
    ] = None,
    eval_images: Annotated[Path | None, typer.Option(help="The folder of its images.")] = None,
    profile: Annotated[
        Literal["small", "paper", "modern", "modern-fpn"] | None,
        typer.Option(help="Method and schedule; small."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Of the backbone: a run, safetensors or .pth file.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of each phase; its drops move along.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures of a step, over all processes; the rate follows.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another value in the profile."),
    ] = None,
    recalibrate: Annotated[
        int | None,
        typer.Option(min=0, help="Pictures to take normalisation's statistics from anew."),
    ] = None,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Train on pictures without objects too.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder: made, or continued if begun; runs/... if left out."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue this run with all it began with.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and sampling; 0.")] = None,
    device: Device = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that load pictures; 0 loads them here.")
    ] = 0,
    precision: Width = None,
    save_seconds: Annotated[float, typer.Option(min=0, help="Between two checkpoints.")] = 600,
) -> None:
    """Train a detector.

    The same line again continues what it began, if it names the folder with --out.
    """
    started = time.perf_counter()
    asked: dict[str, Any] = {
        "network": network,
        "profile": profile,
        "weights": weights,
        "steps": steps,
        "images": batch_size,
        "settings": _settings(settings or []),
        "recalibrate": recalibrate,
        "empty": keep_empty or None,
        "seed": seed,
        "precision": precision,
    }
    where = (data, split, eval_split, annotations, images, eval_annotations, eval_images)
    with loading():
        from resnext.training.distributed import joined
    kept: list[DetectionFolder] = []
    with (
        interruptible(lambda: _kept(kept[0]) if kept else "no run was begun"),
        joined() as world,
    ):
        with loading(quiet=not world.first) as doing:
            doing("opening the pictures")
            plan, folder = _begun(asked, where, out, resume, device, workers, world)
        kept.append(folder)
        if world.first:
            _print_plan(plan, folder)
        if not world.from_first(folder.finished):
            _train(plan, folder, world, save_seconds)
        if world.first:
            print(f"time     {time.perf_counter() - started:.1f} s")
            print(f"weights  {folder.weights}")
            print(f"next     resnext detect evaluate {shlex.quote(str(folder.path))}")


@detect_app.command("evaluate")
def evaluate(
    run: Annotated[Path, typer.Argument(help="A detector's folder.")],
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="Exactly this split of the folder.")] = None,
    annotations: Annotations = None,
    images: Images = None,
    results: Annotated[
        Path | None, typer.Option(help="Score these detections (JSON of COCO) and run nothing.")
    ] = None,
    backend: Annotated[
        Literal["pycocotools", "faster"], typer.Option(help="What computes the figures.")
    ] = "pycocotools",
    save: Annotated[Path | None, typer.Option(help="Write the detections there (JSON).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page into this folder.")] = None,
    batch_size: BatchSize = 1,
    device: Device = None,
    precision: Width = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON.")] = False,
) -> None:
    """Score a detector as COCO does: its own pictures, or others of the same classes."""
    with interruptible(lambda: f"{run} is as it was"), loading(stderr=True):
        from resnext.detection.detecting import evaluate_detector, load_detector
        from resnext.detection.folder import DetectionFolder
        from resnext.runs.planning import resolve_device

        found = _scored_set(data, split, annotations, images)
        place = resolve_device(device)
        folder = DetectionFolder.open(run)
    with interruptible(lambda: f"{run} is as it was"):
        if results is not None:
            _print_figures(_of_results(folder, found, results, backend), as_json=as_json)
            return
        evaluated = counted(
            evaluate_detector(
                run,
                found,
                device=place,
                batch_size=batch_size,
                backend=backend,
                precision=precision or folder.record.precision,
            )
        )
        if save is not None:
            _write_json(save, list(evaluated.results))
        if report is not None:
            _, detector = load_detector(run, place)
            _write_report(report, folder, detector, evaluated, found)
        _print_evaluated(evaluated, as_json=as_json)


@detect_app.command("propose")
def propose(
    run: Annotated[Path, typer.Argument(help="A detector's folder.")],
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="Exactly this split of the folder.")] = None,
    annotations: Annotations = None,
    images: Images = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the proposals into this new folder.")
    ] = None,
    device: Device = None,
) -> None:
    """Say how many objects the proposals contain, of whatever class."""
    with loading(stderr=True):
        from resnext.detection.detecting import (
            data_of,
            load_detector,
            proposal_recall,
            proposals_on,
        )
        from resnext.detection.running import Done
        from resnext.runs.planning import resolve_device

    with interruptible(lambda: f"{run} is as it was"):
        folder, detector = load_detector(run, resolve_device(device))
        given = _scored_set(data, split, annotations, images)
        found = data_of(folder.record.evaluation) if given is None else given
        _check_new(out)
        proposals: list[Any] = []

        def all_of_them() -> Iterable[Any]:
            for one in proposals_on(detector, found):
                proposals.append(one)
                yield Done(what="images", done=len(proposals), total=len(found))
            yield proposal_recall(proposals, found)

        recalls = counted(all_of_them())
        for count, value in recalls.items():
            print(f"AR@{count:<8} {100 * value:.1f} %")
        print(f"{'images':<11} {len(found)} of {found.name}")
        if out is not None:
            _store(out, folder, found, proposals)
            print(f"{'proposals':<11} {out}")


@detect_app.command("predict")
def predict(
    run: Annotated[Path, typer.Argument(help="A detector's folder.")],
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    out: Annotated[
        Path | None, typer.Option(help="Write drawn pictures and predictions.json there.")
    ] = None,
    least_score: Annotated[float, typer.Option(min=0, max=1, help="Of what is shown.")] = 0.5,
    batch_size: BatchSize = 1,
    device: Device = None,
    precision: Width = None,
) -> None:
    """Find objects on pictures; prints a line of JSON for each."""
    files = _files(pictures)
    with loading(stderr=True):
        from resnext.detection.detecting import load_detector
        from resnext.detection.detecting import predict as predictions
        from resnext.detection.drawing import drawn
        from resnext.runs.planning import resolve_device
        from resnext.training.checkpoint import write_bytes

    with interruptible(lambda: "what was drawn is whole"):
        folder, detector = load_detector(run, resolve_device(device))
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        written = []
        for file, image, objects in predictions(
            detector,
            folder.record.categories,
            files,
            least_score=least_score,
            batch_size=batch_size,
            precision=precision or folder.record.precision,
        ):
            line = {"file": str(file), "objects": [found.to_dict() for found in objects]}
            print(json.dumps(line, ensure_ascii=False), flush=True)
            written.append(line)
            if out is not None:
                write_bytes(out / f"{file.stem}.jpg", drawn(image, objects))
        if out is not None:
            _write_json(out / "predictions.json", written)


def _settings(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (_, equals, _) in zip(texts, pairs, strict=True):
        if not equals:
            raise UsageError(f"expected FIELD=VALUE for --set, found {text!r}")
    return {field: value for field, _, value in pairs}


def _begun(
    asked: dict[str, Any],
    where: tuple[Any, ...],
    out: Path | None,
    resume: Path | None,
    device: str | None,
    workers: int,
    world: "World",
) -> "tuple[DetectionPlan, DetectionFolder]":
    """What was asked for, or what a run was begun with."""
    from resnext.detection.again import plan_again
    from resnext.detection.folder import DetectionFolder
    from resnext.detection.planning import plan_detection

    said = {name: value for name, value in asked.items() if value not in (None, {})}
    if resume is not None:
        if out is not None or said or any(where):
            raise UsageError("expected --resume alone: a run continues with all it began with")
        folder = DetectionFolder.open(resume)
        return plan_again(folder, device=device, workers=workers, world=world), folder
    if world.size > 1 and out is None:
        raise UsageError("expected --out with several processes, found none")
    plan = world.agreed(
        lambda: plan_detection(_sets(*where), device=device, workers=workers, world=world, **said)
    )
    made = (
        plan.create(None, sys.argv)
        if out is None
        else world.from_first(lambda: plan.create_or_continue(out, sys.argv))
    )
    return plan, made


def _sets(
    data: Path | None,
    split: str | None,
    eval_split: str | None,
    annotations: Path | None,
    images: Path | None,
    eval_annotations: Path | None,
    eval_images: Path | None,
) -> "Sets":
    from resnext.detection.coco import read_coco
    from resnext.detection.splits import Sets, open_sets

    if data is not None and annotations is not None:
        raise UsageError("expected --data or --annotations, found both")
    if data is not None:
        return open_sets(data, train=split, evaluation=eval_split)
    if annotations is None or images is None:
        raise UsageError("expected --data, or --annotations with --images, found neither")
    trained = read_coco(annotations, images)
    if eval_annotations is None:
        return Sets(train=trained, evaluation=trained)
    return Sets(train=trained, evaluation=read_coco(eval_annotations, eval_images or images))


def _scored_set(
    data: Path | None, split: str | None, annotations: Path | None, images: Path | None
) -> "Coco | None":
    from resnext.detection.coco import read_coco
    from resnext.detection.splits import open_sets

    if data is not None and annotations is not None:
        raise UsageError("expected --data or --annotations, found both")
    if data is not None:
        return open_sets(data, evaluation=split, training=False).evaluation
    if annotations is not None:
        if images is None:
            raise UsageError("expected --images beside --annotations, found none")
        return read_coco(annotations, images)
    return None


def _train(
    plan: "DetectionPlan", folder: "DetectionFolder", world: "World", save_seconds: float
) -> None:
    from resnext.detection.running import train_detector
    from resnext.runs import stopping

    with stopping(ending=True) as stop:
        records = train_detector(plan, folder, world=world, stop=stop, save_seconds=save_seconds)
        try:
            follow_detector(records, shown=world.first)
        except PreemptedError as error:
            if world.first:
                why = "interrupted" if stop.exit_code == INTERRUPTED else "asked to end"
                print(f"resnext: {why}; {error}; {_continue(folder)}", file=sys.stderr)
            raise typer.Exit(stop.exit_code) from None
        except ResNextError as error:
            if getattr(error, "__notes__", None):
                raise
            raise type(error)(f"{error}; {_kept(folder)}") from error


def _kept(folder: "DetectionFolder") -> str:
    saved = folder.checkpoints()
    if not saved:
        return f"nothing was saved yet in {folder.path}"
    return f"{folder.path} keeps all up to {saved[0].name}; {_continue(folder)}"


def _continue(folder: "DetectionFolder") -> str:
    return f"continue with: resnext detect train --resume {shlex.quote(str(folder.path))}"


def _print_plan(plan: "DetectionPlan", folder: "DetectionFolder") -> None:
    record, train = folder.record, plan.sets.train
    assert train is not None
    begin = record.initial_weights or "random weights"
    fresh = f", statistics of {record.recalibrated} pictures" if record.recalibrated else ""
    print(f"network  {record.network}; begins with {begin}{fresh}")
    used = len(train) if plan.empty else len(train.usable)
    scored = plan.sets.evaluation
    print(
        f"data     {train.name}: {used:,} of {len(train):,} pictures to train on, "
        f"{len(train.boxes):,} boxes, {len(train.categories)} classes; {scored.name}: "
        f"{len(scored):,} to score on"
    )
    for reason, count in train.dropped.items():
        print(f"dropped  {count:,} boxes: {reason}")
    print(f"profile  {_values(record.method)}")
    for schedule in record.schedules:
        print(f"steps    {_values(schedule)}")
    print(f"run      {folder.path}, seed {record.seed} on {plan.device}", flush=True)


def _values(record: Any) -> str:
    """Every field, so that nothing is assumed."""
    fields = record.model_dump(mode="json")
    return ", ".join(f"{name} {json.dumps(value).strip(chr(34))}" for name, value in fields.items())


def _of_results(
    folder: "DetectionFolder", data: "Coco | None", file: Path, backend: Any
) -> dict[str, Any]:
    from resnext.detection.detecting import data_of
    from resnext.detection.scoring import read_results, score

    found = data_of(folder.record.evaluation) if data is None else data
    return score(found, read_results(file), backend=backend).to_dict()


def _print_evaluated(evaluated: "Evaluated", *, as_json: bool) -> None:
    record = evaluated.to_dict()
    if as_json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    whose = "the run's own" if evaluated.own else "others than the run's"
    _print_figures(record["boxes"], as_json=False)
    if record["masks"] is not None:
        print("masks")
        _print_figures(record["masks"], as_json=False)
    if evaluated.dropped:
        print(f"{'left out':<13} {evaluated.dropped} predictions that were no numbers")
    print(f"{'network':<13} {evaluated.network}, profile {evaluated.profile}")
    print(f"{'data':<13} {evaluated.data.name} in {evaluated.data.images}: {whose}")
    print(
        f"{'time':<13} {evaluated.seconds:.1f} s, "
        f"{evaluated.seconds / evaluated.data.count:.2f} s a picture"
    )


def _print_figures(record: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
        return
    rows = {
        "AP": ("ap",),
        "AP at .5, .75": ("ap50", "ap75"),
        "AP by size": ("ap_small", "ap_medium", "ap_large"),
        "AR 1, 10, 100": ("recall_1", "recall_10", "recall_100"),
    }
    for title, fields in rows.items():
        print(f"{title:<13} {', '.join(_percent(record[field]) for field in fields)}")
    best = sorted(
        ((v, name) for name, v in record["by_class"].items() if v is not None), reverse=True
    )
    shown = ", ".join(f"{name} {100 * value:.0f}" for value, name in best[:5])
    print(f"{'classes':<13} {record['classes']} with objects; best {shown}")
    print(
        f"{'images':<13} {record['images']:,}, {record['detections']:,} detections, "
        f"{record['backend']}"
    )


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f} %"


def _write_json(path: Path, value: Any) -> None:
    from resnext.training.checkpoint import write_bytes

    if not path.parent.is_dir():
        raise UsageError(f"expected a folder to write into, found none at {path.parent}")
    write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def _write_report(
    out: Path, folder: "DetectionFolder", detector: Any, evaluated: "Evaluated", data: "Coco | None"
) -> None:
    from resnext.detection.detecting import data_of
    from resnext.detection.detecting import predict as predictions
    from resnext.detection.reporting import pictures_of, report_of, write

    shown = pictures_of(data_of(folder.record.evaluation) if data is None else data)
    found = list(predictions(detector, folder.record.categories, shown, least_score=0.3))
    write(report_of(folder, evaluated, found), out)


def _check_new(out: Path | None) -> None:
    if out is not None and out.exists():
        raise UsageError(f"expected a new folder, found {out}; nothing was changed")


def _store(out: Path, folder: "DetectionFolder", data: "Coco", proposals: list[Any]) -> None:
    from resnext.detection.stored import Stored, key_of
    from resnext.runs.pretrained import initial_weights

    ids = tuple(int(i) for i in data.ids)
    digest = initial_weights(folder.weights).sha256
    stored = Stored(out, key_of(ids, digest, folder.record.method.model_dump(mode="json")), ids)
    by_image = {image: (boxes, scores) for image, boxes, scores in proposals}
    for shard, some in stored.shards():
        stored.write(shard, [by_image[i] for i in some])


def _files(pictures: list[Path]) -> list[Path]:
    """The pictures, those of folders in the order of their names."""
    from resnext.data.decode import EXTENSIONS

    found: list[Path] = []
    for path in pictures:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS)
            if not inside:
                raise DataError(f"expected pictures in {path}, found none")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"expected a picture or a folder, found no such thing: {path}")
    return found
