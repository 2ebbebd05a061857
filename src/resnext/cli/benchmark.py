"""``resnext benchmark``: ours beside the peers, on this machine."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from resnext.benchmark.input import Row

benchmark_app = typer.Typer(
    help="Measure on this machine, ours beside the peers.", no_args_is_help=True
)


@benchmark_app.callback()
def _group() -> None:
    """Keep the name of the only command."""


@benchmark_app.command("input")
def benchmark_input(
    data: Annotated[str, typer.Option(help="A folder, tar or parquet file of photos.")],
    side: Annotated[int, typer.Option(min=16, help="Side of the crops in pixels.")] = 224,
    images: Annotated[int, typer.Option(min=1, help="Images per slice.")] = 64,
    slices: Annotated[int, typer.Option(min=3, help="Slices; the median counts.")] = 12,
    threads: Annotated[int, typer.Option(min=2, help="Compared with one.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Append JSON lines, with machine and versions, to a file.")
    ] = None,
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
    facts = _facts() | {"images": len(source), "side": side, "per_slice": images}
    records = [facts | asdict(row) for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        _append(save, records)


def _print(row: "Row", *, first: bool) -> None:
    if first:
        unit = "images/s per core" if row.threads == 1 else "images/s"
        print(f"\n{row.group:<46} {unit:>17} {'ratio':>6}")
    rate, ratio = f"{row.images_per_second:.0f}", f"{row.ratio:.2f}"
    print(f"  {row.method:<44} {rate:>17} {ratio:>6}", flush=True)


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
    from resnext.data import native
    from resnext.runs.provenance import machine, source_commit, versions

    return {
        "machine": machine(),
        "commit": source_commit(),
        "versions": versions(),
        "native": native.describe().split(", ")[-1],
    }
