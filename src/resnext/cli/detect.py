"""``resnext detect train``, and the group of the other commands for detectors."""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnext.cli.detect_display import follow_detector
from resnext.cli.detect_options import Annotations, Data, Images, Width, check_set
from resnext.cli.detect_use import evaluate, predict, propose
from resnext.cli.display import interruptible, loading
from resnext.cli.options import Device, require_beside
from resnext.cli.resuming import continue_with, resumable
from resnext.errors import UsageError

if TYPE_CHECKING:
    from resnext.detection.folder import DetectionFolder
    from resnext.detection.planning import DetectionPlan
    from resnext.detection.splits import Sets
    from resnext.training.distributed import World

detect_app = typer.Typer(
    help="Find objects on pictures: Faster R-CNN on any network.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


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
        typer.Option(help="Method and schedule [small]."),
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
    seed: Annotated[int | None, typer.Option(help="Of weights, order and sampling [0].")] = None,
    device: Device = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that load pictures; 0 loads them here.")
    ] = 0,
    precision: Width = None,
    save_seconds: Annotated[float, typer.Option(min=0, help="Between two checkpoints.")] = 600,
) -> None:
    """Train a detector.

    The same line again continues what it began.
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
    from resnext.detection.folder import DetectionFolder, differences
    from resnext.detection.planning import kind_of, plan_detection

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
    world.require_alike(plan.record(), differences, kind_of)
    return plan, world.from_first(lambda: plan.create_or_continue(out, sys.argv))


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

    check_set(data, split, annotations, images)
    require_beside("--eval-split", eval_split, "--data", data)
    require_beside("--eval-annotations", eval_annotations, "--annotations", annotations)
    require_beside("--eval-images", eval_images, "--eval-annotations", eval_annotations)
    if data is not None:
        return open_sets(data, train=split, evaluation=eval_split)
    if annotations is None or images is None:
        raise UsageError("expected --data, or --annotations with --images, found neither")
    trained = read_coco(annotations, images)
    if eval_annotations is None:
        return Sets(train=trained, evaluation=trained)
    return Sets(train=trained, evaluation=read_coco(eval_annotations, eval_images or images))


def _train(
    plan: "DetectionPlan", folder: "DetectionFolder", world: "World", save_seconds: float
) -> None:
    from resnext.detection.running import train_detector
    from resnext.runs import stopping

    with stopping(ending=True) as stop:
        records = train_detector(plan, folder, world=world, stop=stop, save_seconds=save_seconds)
        how = continue_with("detect train", folder.path)
        with resumable(stop, how, lambda _: _kept(folder), shown=world.first):
            follow_detector(records, shown=world.first)


def _kept(folder: "DetectionFolder") -> str:
    saved = folder.checkpoints()
    if not saved:
        return f"nothing was saved yet in {folder.path}"
    how = continue_with("detect train", folder.path)
    return f"{folder.path} keeps all up to {saved[0].name}; {how}"


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
    print(f"cost     {_cost(plan)}")
    print(f"run      {folder.path}, seed {record.seed} on {plan.device}", flush=True)


def _cost(plan: "DetectionPlan") -> str:
    """Multiply-adds of testing a picture of three to four."""
    from resnext.detection.cost import detection_cost, usual_size

    height, width = usual_size(plan.study.method)
    classes = len(plan.sets.evaluation.categories)
    found = detection_cost(plan.spec, plan.study.method, classes, (height, width))
    return (
        f"{found.total / 1e9:.3g} G multiply-adds a picture of {height} x {width}: features "
        f"{found.features / 1e9:.3g}, proposals {found.proposing / 1e9:.3g}, {found.proposals} "
        f"regions of {found.region / 1e9:.3g}"
    )


def _values(record: Any) -> str:
    """Every field, so that nothing is assumed."""
    fields = record.model_dump(mode="json")
    return ", ".join(f"{name} {json.dumps(value).strip(chr(34))}" for name, value in fields.items())


for _command in (evaluate, propose, predict):  # behind train, as --help lists them
    detect_app.command()(_command)
