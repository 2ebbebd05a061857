"""``resnext benchmark``: ours beside the peers, on this machine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnext.cli.options import AsJson, OneWeights, SaveRows

if TYPE_CHECKING:
    import torch

    from resnext.benchmark import inference, serving, training
    from resnext.benchmark.input import Row

benchmark_app = typer.Typer(
    help="Measure on this machine, ours beside the peers.", no_args_is_help=True
)


@benchmark_app.command("input")
def benchmark_input(
    data: Annotated[str, typer.Option(help="A folder, tar or parquet file of photos.")],
    side: Annotated[int, typer.Option(min=16, help="Side of the crops in pixels.")] = 224,
    images: Annotated[int, typer.Option(min=1, help="Images per slice.")] = 64,
    slices: Annotated[int, typer.Option(min=3, help="Slices; the median counts.")] = 12,
    threads: Annotated[int, typer.Option(min=2, help="Compared with one.")] = 2,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Images per second per core of the input pipelines."""
    from dataclasses import asdict

    from resnext.benchmark.input import benchmark_input as measure
    from resnext.data import open_evaluation

    source = open_evaluation(data)
    rows = []
    for row in measure(source, side=side, images=images, slices=slices, threads=threads):
        rows.append(row)
        if not as_json:
            _print(row, first=len(rows) == 1 or rows[-2].group != row.group)
    from resnext.data import native

    facts = _facts() | {
        "native": native.describe().split(", ")[-1],
        "images": len(source),
        "side": side,
        "per_slice": images,
    }
    records = [facts | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        _append(save, records)


@benchmark_app.command("training")
def benchmark_training(
    network: Annotated[str, typer.Option(help="Name.")] = "ResNeXt-50 (32x4d)",
    batch: Annotated[int, typer.Option(min=2, help="Images of a step.")] = 16,
    resolution: Annotated[int, typer.Option(min=8, help="Side of the images in pixels.")] = 128,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1, ...", show_default="a GPU if there is one"),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    modes: Annotated[
        str, typer.Option(help="Out of eager, channels-last, compiled, by commas.")
    ] = "eager,channels-last,compiled",
    parts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images normalised at once, in two rows of ours.",
            show_default="half a batch",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Slices of steps; the median counts.")] = 9,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a processor.", show_default="one per core")
    ] = None,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Images per second of training steps, beside torchvision's and timm's.

    So few and small images by default that all of it, compilation included, takes minutes on two
    free cores; 32 images of 224 pixels take six times as long a step.
    """
    from dataclasses import asdict

    import torch

    import resnext
    from resnext.benchmark import training
    from resnext.runs.planning import resolve_device

    setting = training.Setting(
        network=resnext.spec(network),
        batch=batch,
        resolution=resolution,
        device=resolve_device(device),
        precision=_one_of(precision, ("fp32", "bf16"), "precision"),
        threads=threads or torch.get_num_threads(),
    )
    chosen = [_one_of(mode.strip(), training.MODES, "mode") for mode in modes.split(",")]
    rows = []
    for found in training.benchmark_training(setting, modes=chosen, parts=parts, slices=steps):
        if isinstance(found, training.Row):
            rows.append(found)
        elif not as_json:
            _print_ready(found)
    if not as_json:
        _print_steps(rows)
    facts = _facts() | {
        "network": resnext.name(setting.network),
        "batch": batch,
        "resolution": resolution,
        "device": _device_name(setting.device),
        "precision": precision,
        "threads": setting.threads,
    }
    records = [facts | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        _append(save, records)


@benchmark_app.command("evaluation")
def benchmark_evaluation(
    network: Annotated[str, typer.Option(help="In any notation.")] = "resnext50_32x4d",
    side: Annotated[int, typer.Option(min=16, help="Side of the images in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
    slices: Annotated[int, typer.Option(min=3, help="Slices; the median counts.")] = 9,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Images per second of an evaluation, beside a bare loop over the same network."""
    from dataclasses import asdict

    from resnext.benchmark.evaluation import benchmark_evaluation as measure

    rows = measure(network, side=side, batch_size=batch_size, slices=slices, device=device)
    records = [_facts() | {"device": device} | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        for number, row in enumerate(rows):
            _print(row, first=not number)
    if save is not None:
        _append(save, records)


@benchmark_app.command("inference")
def benchmark_inference(
    given: Annotated[
        str | None,
        typer.Argument(metavar="RUN|ARTIFACT|NAME", help="Weights; random ones if left out."),
    ] = None,
    weights: OneWeights = None,
    network: Annotated[str, typer.Option(help="Name, of random weights.")] = "ResNeXt-50 (32x4d)",
    batches: Annotated[str, typer.Option(help="Images at once, by commas.")] = "1,16",
    slices: Annotated[int, typer.Option(min=3, help="Slices; the median counts.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 1,
    compile_: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Compile too, which takes minutes.")
    ] = True,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Images per second of engines, ours beside the libraries driven directly and the peers."""
    from dataclasses import asdict

    import resnext
    from resnext.benchmark import inference
    from resnext.deploy import artifact_of

    artifact = None if given is None else artifact_of(given, weights)
    setting = inference.Setting(
        network=resnext.spec(network) if artifact is None else artifact.spec,
        batches=_counts(batches),
        slices=slices,
        threads=threads,
        compiled=compile_,
    )
    rows = []
    for found in inference.benchmark_inference(setting, artifact):
        if isinstance(found, inference.Row):
            rows.append(found)
            if not as_json:
                print_inference(found, first=len(rows) == 1 or rows[-2].batch != found.batch)
        elif not as_json:
            note = f" ({found.note})" if found.note else ""
            print(f"ready after {found.seconds:5.1f} s: {found.method}{note}", flush=True)
    facts = _facts() | {
        "network": resnext.name(setting.network),
        "threads": threads,
        "load": _load(),
        "libraries": _libraries(),
    }
    records = [facts | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        _append(save, records)


@benchmark_app.command("serving")
def benchmark_serving(
    given: Annotated[
        str | None,
        typer.Argument(metavar="RUN|ARTIFACT|NAME", help="Weights; random ones if left out."),
    ] = None,
    weights: OneWeights = None,
    network: Annotated[str, typer.Option(help="Name, of random weights.")] = "ResNeXt-50 (32x4d)",
    engine: Annotated[str, typer.Option(help="Of both, by name.")] = "torch",
    precision: Annotated[str, typer.Option(help="Of the arithmetic.")] = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 16,
    clients: Annotated[
        int | None,
        typer.Option(min=1, help="At the same time.", show_default="two batches"),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of a slice.")] = 10.0,
    slices: Annotated[int, typer.Option(min=1, help="Slices; the median counts.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor, for the engine.")] = 1,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Pictures per second of a server over loopback, beside its engine alone."""
    from dataclasses import asdict

    from resnext.benchmark import serving
    from resnext.deploy import artifact_of, artifact_of_model
    from resnext.model.network import build

    model = build(network, seed=0) if given is None else None
    artifact = artifact_of_model(model) if model else artifact_of(given or "", weights)
    setting = serving.Setting(
        engine=engine,
        precision=precision,
        batch=batch,
        clients=clients or 2 * batch,
        seconds=seconds,
        slices=slices,
        threads=threads,
    )
    facts = _facts() | {
        "network": artifact.network,
        **{name: value for name, value in asdict(setting).items() if name != "slices"},
        "load": _load(),
    }
    records = []
    for found in serving.benchmark_serving(artifact, setting):
        if isinstance(found, serving.Row):
            records.append(facts | asdict(found))
            if not as_json:
                print_serving(found)
        elif not as_json:
            print(found, flush=True)
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        _append(save, records)


@benchmark_app.command("detection")
def benchmark_detection(
    network: Annotated[str, typer.Option(help="The backbone.")] = "ResNeXt-50 (32x4d)",
    height: Annotated[int, typer.Option(min=64, help="Of the picture, in pixels.")] = 600,
    width: Annotated[int, typer.Option(min=64, help="Of the picture, in pixels.")] = 800,
    slices: Annotated[int, typer.Option(min=1, help="Slices; the median counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of a processor.")] = 2,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """What makes a detector faster: seconds a picture, beside the plain network."""
    from dataclasses import asdict

    from resnext.benchmark.detection import benchmark_detection as measure

    rows = measure(network, height=height, width=width, slices=slices, threads=threads)
    records = [_facts() | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        for row in rows:
            seconds = f"{1 / row.images_per_second:.3g} s"
            print(f"  {row.method:<44} {seconds:>10} {row.ratio:>6.2f}   {row.group}")
    if save is not None:
        _append(save, records)


def _counts(text: str) -> tuple[int, ...]:
    from resnext.errors import UsageError

    found = text.split(",")
    if not all(part.strip().isdigit() and int(part) for part in found):
        raise UsageError(f"expected --batches as whole numbers such as 1,16, found {text!r}")
    return tuple(int(part) for part in found)


def _load() -> float:
    """Processes that wanted a processor, on average of a minute: what else the machine did."""
    import os

    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else float("nan")


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("onnx", "onnxruntime", "openvino")}


def _one_of(text: str, known: Sequence[str], what: str) -> Any:
    from resnext.errors import UsageError

    if text not in known:
        raise UsageError(f"expected {what} out of {', '.join(known)}, found {text!r}")
    return text


def _device_name(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _print_ready(ready: "training.Ready") -> None:
    text = f"{ready.mode}: {ready.method}"
    print(f"ready after {ready.seconds:5.1f} s: {text}", flush=True)


def _print_steps(rows: "list[training.Row]") -> None:
    print(f"\n{'step':<58} {'images/s':>8} {'from':>7} {'to':>7} {'ratio':>6}")
    for row in rows:
        numbers = (row.images_per_second, row.least, row.most)
        rate, least, most = (f"{number:.2f}" for number in numbers)
        text = f"{row.mode}: {row.method}"
        print(f"  {text:<56} {rate:>8} {least:>7} {most:>7} {row.ratio:>6.2f}")


def _print(row: "Row", *, first: bool) -> None:
    if first:
        unit = "images/s per core" if row.threads == 1 else "images/s"
        print(f"\n{row.group:<46} {unit:>17} {'ratio':>6}")
    rate, ratio = f"{row.images_per_second:.0f}", f"{row.ratio:.2f}"
    print(f"  {row.method:<44} {rate:>17} {ratio:>6}", flush=True)


def print_inference(row: "inference.Row", *, first: bool) -> None:
    """A line of the table of engines."""
    if first:
        head = f"{'images/s':>9} {'from':>8} {'to':>8} {'ratio':>6} {'difference':>11} {'same':>7}"
        print(f"\n{f'{row.batch} at once':<36} {head}")
    title = f"{row.method} {row.precision}"
    print(
        f"  {title:<34} {row.images_per_second:>9.2f} {row.least:>8.2f} {row.most:>8.2f} "
        f"{row.ratio:>6.2f} {row.difference:>11.1e} {100 * row.agreement:>5.0f} %",
        flush=True,
    )


def print_serving(row: "serving.Row") -> None:
    """A line, and for a server what its clients saw."""
    rates = f"{row.images_per_second:>9.2f} {row.least:>8.2f} {row.most:>8.2f} {row.ratio:>6.2f}"
    print(f"  {row.method:<34} {rates}", flush=True)
    if row.answers:
        times = f"{row.p50_ms:.0f} ms in the middle, 99 % within {row.p99_ms:.0f} ms"
        print(f"  {row.answers} answers, {row.wrong} wrong, {row.lost} lost; {times}")


def _append(path: Path, records: list[dict[str, Any]]) -> None:
    from resnext.errors import ResourceError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def _facts() -> dict[str, Any]:
    """Machine, versions and commit, as every result needs them."""
    from resnext.runs.provenance import machine, source_commit, versions

    return {"machine": machine(), "commit": source_commit(), "versions": versions()}
