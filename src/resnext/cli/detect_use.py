"""``resnext detect evaluate``, ``propose`` and ``predict``: a finished detector at work."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnext.cli.detect_display import counted
from resnext.cli.detect_options import Annotations, BatchSize, Data, Images, Width, check_set
from resnext.cli.display import interruptible, loading
from resnext.cli.options import Device
from resnext.cli.places import check_new_file, check_new_folder, free_name
from resnext.cli.predict import refuse_unusable, say_unusable
from resnext.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from resnext.deploy.predict import Unusable
    from resnext.detection.coco import Coco
    from resnext.detection.detecting import Evaluated, Found
    from resnext.detection.folder import DetectionFolder

    _OnPicture = tuple[Path, Tensor, tuple[Found, ...]]


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
    """Score a detector as COCO does.

    On its own pictures, or on others of the same classes.
    """
    check_set(data, split, annotations, images)
    if results is not None and (save is not None or report is not None):
        raise UsageError(
            "expected neither --save nor --report beside --results, which detects nothing; found "
            f"{'--report' if save is None else '--save'}"
        )
    check_new_file(save, "--save")
    with interruptible(lambda: f"{run} is as it was"), loading(stderr=True):
        from resnext.detection.detecting import evaluate_detector, load_detector
        from resnext.detection.folder import DetectionFolder
        from resnext.files import ensure_folder
        from resnext.runs.planning import resolve_device

        found = _scored_set(data, split, annotations, images)
        place = resolve_device(device)
        folder = DetectionFolder.open(run)
        if report is not None:
            ensure_folder(report)
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
        _print_evaluated(evaluated, as_json=as_json)
        if save is not None:
            _write_json(save, list(evaluated.results))
        if report is not None:
            _, detector = load_detector(run, place)
            page = _write_report(report, folder, detector, evaluated, found)
            if not as_json:
                print(f"report        {page}")


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
    check_set(data, split, annotations, images)
    check_new_folder(out, "--out")
    with loading(stderr=True):
        from resnext.detection.detecting import (
            data_of,
            load_detector,
            proposal_recall,
            proposals_on,
        )
        from resnext.detection.running import Done
        from resnext.files import ensure_folder
        from resnext.runs.planning import resolve_device

    with interruptible(lambda: f"{run} is as it was"):
        folder, detector = load_detector(run, resolve_device(device))
        given = _scored_set(data, split, annotations, images)
        found = data_of(folder.record.evaluation) if given is None else given
        if out is not None:
            ensure_folder(out)
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
    check_new_folder(out, "--out")
    with loading(stderr=True):
        from resnext.deploy.predict import Unusable, named, pictures_of
        from resnext.detection.detecting import load_detector
        from resnext.detection.detecting import predict as predictions
        from resnext.detection.drawing import drawn
        from resnext.files import ensure_folder, write_bytes
        from resnext.runs.planning import resolve_device

    with interruptible(lambda: "what was drawn is whole"):
        files = named(pictures_of(pictures))
        folder, detector = load_detector(run, resolve_device(device))
        if out is not None:
            ensure_folder(out)
        found_on = partial(
            predictions,
            detector,
            folder.record.categories,
            least_score=least_score,
            batch_size=batch_size,
            precision=precision or folder.record.precision,
        )
        written: list[dict[str, Any]] = []
        taken: set[str] = set()
        for (name, _), answer in zip(files, _answers(found_on, files, batch_size), strict=True):
            if isinstance(answer, Unusable):
                say_unusable(answer)
                continue
            file, image, objects = answer
            line = {"file": name, "objects": [found.to_dict() for found in objects]}
            print(json.dumps(line, ensure_ascii=False), flush=True)
            written.append(line)
            if out is not None:
                write_bytes(out / f"{free_name(file.stem, taken)}.jpg", drawn(image, objects))
        if out is not None:
            _write_json(out / "predictions.json", written)
    refuse_unusable(len(files) - len(written), len(files))


def _answers(
    found_on: "Callable[[Sequence[Path]], Iterable[_OnPicture]]",
    files: Sequence[tuple[str, Path]],
    batch_size: int,
) -> "Iterator[_OnPicture | Unusable]":
    """One for each file, in their order; those beside a picture of no use are done one by one."""
    from resnext.deploy.predict import Unusable

    for start in range(0, len(files), batch_size):
        some = files[start : start + batch_size]
        try:
            answers = list(found_on([file for _, file in some]))
        except DataError as error:
            if len(some) > 1:
                yield from _answers(found_on, some, 1)
                continue
            (name, file), *_ = some
            # a detector knows the pictures of a batch by their numbers
            reason = str(error).removeprefix(f"{file}: ").removeprefix("image 0: ")
            yield Unusable(name=name, reason=f"{name}: {reason}")
        else:
            yield from answers


def _scored_set(
    data: Path | None, split: str | None, annotations: Path | None, images: Path | None
) -> "Coco | None":
    from resnext.detection.coco import read_coco
    from resnext.detection.splits import open_sets

    if data is not None:
        return open_sets(data, evaluation=split, training=False).evaluation
    if annotations is not None and images is not None:
        return read_coco(annotations, images)
    return None


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
    for note in record["notes"]:
        print(f"{'note':<13} {note}")
    print(
        f"{'images':<13} {record['images']:,}, {record['detections']:,} detections, "
        f"{record['backend']}"
    )


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f} %"


def _write_json(path: Path, value: Any) -> None:
    from resnext.files import write_bytes

    write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def _write_report(
    out: Path, folder: "DetectionFolder", detector: Any, evaluated: "Evaluated", data: "Coco | None"
) -> Path:
    """The page, with pictures and what was found on them."""
    from resnext.detection.detecting import data_of
    from resnext.detection.reporting import report_on
    from resnext.report import write_report

    pictures = data_of(folder.record.evaluation) if data is None else data
    return write_report(report_on(folder, detector, evaluated, pictures), out)[0]


def _store(out: Path, folder: "DetectionFolder", data: "Coco", proposals: list[Any]) -> None:
    from resnext.detection.stored import Stored, key_of
    from resnext.runs.pretrained import initial_weights

    ids = tuple(int(i) for i in data.ids)
    digest = initial_weights(folder.weights).sha256
    stored = Stored(out, key_of(ids, digest, folder.record.method.model_dump(mode="json")), ids)
    by_image = {image: (boxes, scores) for image, boxes, scores in proposals}
    for shard, some in stored.shards():
        stored.write(shard, [by_image[i] for i in some])
