"""``resnext evaluate``: the scores of weights, alone, side by side, or as an ensemble."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnext.cli.display import interruptible, loading, top5, wait
from resnext.cli.options import AsJson, Device, Workers, require_beside
from resnext.cli.places import check_new_file
from resnext.errors import UsageError

if TYPE_CHECKING:
    from resnext.runs import Evaluation, Reread
    from resnext.training.distributed import World

_PROTOCOLS = "center-224, center-320, center-299, ten-crop-224, dense-SCALE, dense-multiscale"


def evaluate(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|FILE|NAME",
            help="Run folders, files of weights or of scores, networks, torchvision:NAME, "
            "timm:NAME.",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Images to score on; a run's own if left out.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help=f"{_PROTOCOLS}; as the profile prepares them if left out."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Preprocessing, instead of each network's own.")
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="File for a network by name; once for each, in their order."),
    ] = None,
    classes: Annotated[
        Literal["1k", "5k"] | None,
        typer.Option(help="Choose among all 5000 classes, or the first 1000."),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(help="Names of a network's outputs, where the images are of some of them."),
    ] = None,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average them all, too.")] = False,
    shares: Annotated[
        str | None, typer.Option(help="What they count for in the ensemble, such as 2,1,1.")
    ] = None,
    average: Annotated[
        Literal["probabilities", "logits"] | None,
        typer.Option(help="What an ensemble averages [probabilities]."),
    ] = None,
    save_scores: Annotated[
        Path | None, typer.Option(help="Write the scores of every image to a .safetensors file.")
    ] = None,
    scores_type: Annotated[
        Literal["float32", "float16"], typer.Option(help="Of the numbers in that file.")
    ] = "float32",
    engine: Annotated[
        Literal["auto", "native", "simplejpeg", "pillow"] | None,
        typer.Option(
            help="What decodes images; pillow does as torchvision, others are faster [auto]."
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(help="Of convolutions and products [fp32]."),
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the network, for many images.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at once, in each process.")
    ] = None,
    device: Device = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Score weights on images.

    Errors with intervals, by class, and how far to trust the probabilities.
    """
    require_beside("--shares", shares, "--ensemble", ensemble)
    require_beside("--average", average, "--ensemble", ensemble)
    _check_file(save_scores, len(given), ensemble=ensemble)
    asked = {
        "--data": data,
        "--protocol": protocol,
        "--profile": profile,
        "--class-names": class_names,
        "--engine": engine,
        "--precision": precision,
        "--compile": compile_ or None,
        "--batch-size": batch_size,
        "--device": device,
        "--workers": workers,
    }
    with interruptible(lambda: _untouched(given)):
        with loading(stderr=True):
            from resnext.data.class_list import read_names
            from resnext.evaluation.protocols import SINGLE, Protocol
            from resnext.runs import Mix, Settings, compare
            from resnext.training.distributed import joined
            from resnext.training.speed import Speed

        settings = Settings(
            protocol=SINGLE if protocol is None else Protocol.parse(protocol),
            ways=classes,
            batch_size=batch_size,
            workers=workers,
            engine=engine or "auto",
            speed=Speed(precision=precision or "fp32", compilation="default" if compile_ else None),
            keep=save_scores is not None,
            class_names=None if class_names is None else read_names(class_names),
        )
        mix = (
            Mix(weights=_numbers(shares), average=average or "probabilities") if ensemble else None
        )
        with joined() as world:
            results = wait(
                compare(
                    given,
                    data,
                    settings,
                    weights=weights or (),
                    profile_name=profile,
                    mix=mix,
                    device=device,
                    asked={name: value for name, value in asked.items() if value is not None},
                    world=world,
                ),
                shown=world.first,
            )
            if save_scores is not None:
                _save(save_scores, results[-1], scores_type, world)
    if world.first:
        _print(results, as_json=as_json)


def _untouched(given: list[str]) -> str:
    return f"{given[0]} is as it was" if len(given) == 1 else "all are as they were"


def _check_file(path: Path | None, count: int, *, ensemble: bool) -> None:
    """Refuse what could not be written, before hours of scoring."""
    if path is None:
        return
    if count > 1 and not ensemble:
        raise UsageError(
            f"expected one network to save the scores of, or --ensemble, found {count}"
        )
    if path.suffix != ".safetensors":
        raise UsageError(f"expected the name of a new .safetensors file, found {path}")
    check_new_file(path, "--save-scores")


def _numbers(shares: str | None) -> tuple[float, ...] | None:
    try:
        return None if shares is None else tuple(map(float, shares.split(",")))
    except ValueError:
        raise UsageError(f"expected --shares as numbers such as 2,1,1, found {shares!r}") from None


def _save(
    path: Path,
    result: "Evaluation | Reread",
    width: Literal["float32", "float16"],
    world: "World",
) -> None:
    from resnext.evaluation.score_files import save_scores

    scored = result.scored
    assert scored is not None
    world.from_first(lambda: save_scores(path, scored, width))


def _print(results: "list[Evaluation | Reread]", *, as_json: bool) -> None:
    records = [result.to_dict() for result in results]
    if as_json:
        found = records[0] if len(records) == 1 else records
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif len(records) == 1:
        _print_one(records[0])
    else:
        _print_several(records)


def _print_one(record: dict[str, Any]) -> None:
    own = record.get("own_data")
    whose = {
        True: ": the run's own validation images",
        False: ": other images than the run's",
        None: "",
    }[own]
    rows = {
        "run": record["run"],
        "network": record["network"],
        **_errors(record),
        **{
            f"of {other['classes']}, {other['average']}": _short(other)
            for other in record["others"]
        },
        "calibration": f"{record['calibration_error']:.2f} % expected error, "
        f"{record['calibration_bins']} bins",
        "worst": _worst(record["class_errors"]),
        "mistaken": _mistaken(record["confusion"]),
        "samples": _samples(record),
        **_not_finite(record),
        "protocol": f"{record['protocol']}, profile {record['profile']}, {record['precision']}, "
        f"{record['engine']}, "
        f"average of {record['average']}",
        "data": f"{record['location']}{whose}",
        "fingerprint": record["fingerprint"],
    }
    width = max(12, *(len(name) for name in rows))
    for name, value in rows.items():
        print(f"{name:<{width}} {value}")


def _errors(record: dict[str, Any]) -> dict[str, str]:
    low, high = record["top1_interval"]
    classes = record["classes"]
    second = top5(record["top5_error"], classes)
    if second == "–":
        second = f"– (of {classes})"
    else:
        second += (
            f" %, 95 % from {record['top5_interval'][0]:.2f} to {record['top5_interval'][1]:.2f}"
        )
    return {
        "top-1 error": f"{record['top1_error']:.2f} %, 95 % from {low:.2f} to {high:.2f}",
        "top-5 error": second,
    }


def _short(reading: dict[str, Any]) -> str:
    second = top5(reading["top5_error"], reading["classes"])
    unit = "" if second == "–" else " %"
    return f"top-1 {reading['top1_error']:.2f} %, top-5 {second}{unit}"


def _worst(errors: dict[str, float]) -> str:
    """The three classes of the largest errors."""
    ordered = sorted(errors.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {error:.1f} %" for name, error in ordered)


def _mistaken(confusion: list[tuple[str, str, int]]) -> str:
    """The three most frequent mistakes."""
    found = [f"{true} for {predicted} {images}×" for true, predicted, images in confusion[:3]]
    return ", ".join(found) or "nothing"


def _not_finite(record: dict[str, Any]) -> dict[str, str]:
    """A warning, where there is something to warn of."""
    images = record["not_finite"]
    if not images:
        return {}
    return {"warning": f"the scores of {images:,} images are no numbers; are the weights whole?"}


def _samples(record: dict[str, Any]) -> str:
    rate = record.get("images_per_second")
    return f"{record['samples']:,}" + (f", {rate:.1f} images/s" if rate else "")


def _print_several(records: list[dict[str, Any]]) -> None:
    """One line for each, and below what they have in common."""
    head = ("top-1", "95 %", "top-5", "images/s", "profile", "network")
    rows = [head, *(_cells(record) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)).rstrip())
    for name, value in ((row["network"], _not_finite(row)) for row in records):
        for word, text in value.items():
            print(f"{word:<12} {name}: {text}")
    for name in ("protocol", "location", "fingerprint"):
        print(f"{name:<12} {'; '.join(dict.fromkeys(str(record[name]) for record in records))}")


def _cells(record: dict[str, Any]) -> tuple[str, ...]:
    low, high = record["top1_interval"]
    rate = record.get("images_per_second")
    return (
        f"{record['top1_error']:.2f}",
        f"{low:.2f} to {high:.2f}",
        top5(record["top5_error"], record["classes"]),
        f"{rate:.1f}" if rate else "",
        record["profile"],
        record["network"],
    )
