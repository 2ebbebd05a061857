"""``resnext benchmark serving``: a server over loopback, beside its engine alone."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from resnext.cli.measured import append, facts, load
from resnext.cli.options import AsJson, OneWeights, SaveRows, require_beside

if TYPE_CHECKING:
    from resnext.benchmark import serving


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
    """Pictures per second of a server, beside its engine alone."""
    require_beside("--weights", weights, "a network by name", given)
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
    known = facts() | {
        "network": artifact.network,
        **{name: value for name, value in asdict(setting).items() if name != "slices"},
        "load": load(),
    }
    records = []
    for found in serving.benchmark_serving(artifact, setting):
        if isinstance(found, serving.Row):
            records.append(known | asdict(found))
            if not as_json:
                print_serving(found)
        elif not as_json:
            print(found, flush=True)
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        append(save, records)


def print_serving(row: "serving.Row") -> None:
    """A line, and for a server what its clients saw."""
    rates = f"{row.images_per_second:>9.2f} {row.least:>8.2f} {row.most:>8.2f} {row.ratio:>6.2f}"
    print(f"  {row.method:<34} {rates}", flush=True)
    if row.answers:
        times = f"{row.p50_ms:.0f} ms in the middle, 99 % within {row.p99_ms:.0f} ms"
        print(f"  {row.answers} answers, {row.wrong} wrong, {row.lost} lost; {times}")
