"""``resnext benchmark export``: the files that a network is exported to, side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnext.cli.measured import append, counts_of, facts, libraries, load
from resnext.cli.options import AsJson, OneWeights, SaveRows

if TYPE_CHECKING:
    from resnext.benchmark import exports


def benchmark_export(
    given: Annotated[
        str, typer.Argument(metavar="RUN|ARTIFACT|NAME", help="A network with weights.")
    ],
    data: Annotated[str, typer.Option(help="Images to calibrate by and to score on.")],
    weights: OneWeights = None,
    batches: Annotated[str, typer.Option(help="Images at once, by commas.")] = "1,16",
    slices: Annotated[int, typer.Option(min=3, help="Slices; the median counts.")] = 9,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 1,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Size, time and accuracy of each exported file.

    Beside these, how far its scores are from those in float64.
    """
    from dataclasses import asdict

    from resnext.benchmark.exports import benchmark_exports
    from resnext.deploy import artifact_of

    artifact = artifact_of(given, weights)
    rows = []
    counts = counts_of(batches)
    for found in benchmark_exports(artifact, data, batches=counts, slices=slices, threads=threads):
        if not isinstance(found, str):
            rows.append(found)
        elif not as_json:
            print(f"writing {found}", flush=True)
    known = facts() | {
        "network": artifact.network,
        "data": Path(data).name,
        "side": artifact.profile.resolution,
        "threads": threads,
        "load": load(),
        "libraries": libraries(),
    }
    records = [known | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        print_exports(rows, counts)
    if save is not None:
        append(save, records)


def print_exports(rows: "list[exports.Row]", batches: tuple[int, ...]) -> None:
    """The table of exported files."""
    times = " ".join(f"{f'ms, {batch}':>8}" for batch in batches)
    print(f"\n{'file':<15} {'kB':>9} {times} {'difference':>11} {'same':>8} {'accuracy':>9}")
    for row in rows:
        title = f"{row.kind} {row.precision}"
        if row.seconds is None or row.bytes is None or row.agreement is None:
            print(f"{title:<15} {row.refused}")
            continue
        times = " ".join(f"{1000 * row.seconds[batch]:>8.2f}" for batch in batches)
        accuracy = "–" if row.accuracy is None else f"{row.accuracy:.2f} %"
        print(
            f"{title:<15} {row.bytes / 1000:>9.1f} {times} {row.difference:>11.1e} "
            f"{100 * row.agreement:>6.2f} % {accuracy:>9}"
        )
