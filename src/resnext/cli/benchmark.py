"""``resnext benchmark``: ours beside the peers, on this machine."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from resnext.cli.benchmark_export import benchmark_export
from resnext.cli.benchmark_inference import benchmark_inference
from resnext.cli.benchmark_kernels import benchmark_kernels
from resnext.cli.benchmark_serving import benchmark_serving
from resnext.cli.benchmark_tables import benchmark_tables
from resnext.cli.benchmark_training import benchmark_training
from resnext.cli.measured import append, facts
from resnext.cli.options import AsJson, SaveRows

if TYPE_CHECKING:
    from resnext.benchmark.input import Row

benchmark_app = typer.Typer(
    help="Measure on this machine, ours beside the peers.", no_args_is_help=True
)
benchmark_app.command("kernels")(benchmark_kernels)
benchmark_app.command("training")(benchmark_training)
benchmark_app.command("inference")(benchmark_inference)
benchmark_app.command("export")(benchmark_export)
benchmark_app.command("serving")(benchmark_serving)
benchmark_app.command("tables")(benchmark_tables)


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

    known = facts() | {
        "native": native.describe().split(", ")[-1],
        "images": len(source),
        "side": side,
        "per_slice": images,
    }
    records = [known | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        append(save, records)


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
    """Images per second of an evaluation, beside a bare loop."""
    from dataclasses import asdict

    from resnext.benchmark.evaluation import benchmark_evaluation as measure

    rows = measure(network, side=side, batch_size=batch_size, slices=slices, device=device)
    records = [facts() | {"device": device} | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        for number, row in enumerate(rows):
            _print(row, first=not number)
    if save is not None:
        append(save, records)


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
    """What makes a detector faster, in seconds a picture."""
    from dataclasses import asdict

    from resnext.benchmark.detection import benchmark_detection as measure

    rows = measure(network, height=height, width=width, slices=slices, threads=threads)
    records = [facts() | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        for row in rows:
            seconds = f"{1 / row.images_per_second:.3g} s"
            print(f"  {row.method:<44} {seconds:>10} {row.ratio:>6.2f}   {row.group}")
    if save is not None:
        append(save, records)


def _print(row: "Row", *, first: bool) -> None:
    if first:
        unit = "images/s per core" if row.threads == 1 else "images/s"
        print(f"\n{row.group:<46} {unit:>17} {'ratio':>6}")
    rate, ratio = f"{row.images_per_second:.0f}", f"{row.ratio:.2f}"
    print(f"  {row.method:<44} {rate:>17} {ratio:>6}", flush=True)
