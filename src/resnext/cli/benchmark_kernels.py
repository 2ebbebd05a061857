"""``resnext benchmark kernels``: our grouped 3x3 beside cuDNN's, each with its least time."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnext.cli.measured import append, facts, gpu_facts
from resnext.cli.options import AsJson, SaveRows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resnext.benchmark.kernels import Row
    from resnext.benchmark.roofline import Ceiling, Conv3x3


def benchmark_kernels(
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="Whose convolutions; may be given again.", show_default="ResNeXt-50 (32x4d)"
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images.")] = 256,
    resolution: Annotated[int, typer.Option(min=8, help="Side of the images in pixels.")] = 224,
    precision: Annotated[Literal["bf16", "fp16"], typer.Option(help="Of the maps.")] = "bf16",
    repeats: Annotated[int, typer.Option(min=3, help="Of each; the median counts.")] = 50,
    tune: Annotated[
        bool, typer.Option("--tune", help="Try other launches of our kernels too.")
    ] = False,
    write_table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write what was fastest into this table of choices, for this GPU."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print shapes and floors; needs no GPU.")
    ] = False,
    as_json: AsJson = False,
    save: SaveRows = None,
) -> None:
    """Microseconds of the grouped 3x3, in three directions.

    Ours, cuDNN's, merged groups.
    """
    import resnext
    from resnext.benchmark import kernels
    from resnext.benchmark.roofline import ASSUMED, grouped_convs, measured_ceiling
    from resnext.errors import UsageError

    specs = [resnext.spec(name) for name in network or ["ResNeXt-50 (32x4d)"]]
    convs = grouped_convs(specs, batch, resolution)
    if not convs:
        raise UsageError("expected a network with grouped convolutions, found none in it")
    if dry_run:
        _print_floors(convs, ASSUMED, as_json=as_json)
        return
    if write_table is not None:
        _readable(write_table)
    device = kernels.require_gpu()
    ceiling = measured_ceiling(device)
    setting = kernels.Setting(device=device, precision=precision, repeats=repeats, tune=tune)
    found = kernels.benchmark_kernels(convs, ceiling, setting)
    rows = list(found) if as_json else _shown(found)
    known = facts() | gpu_facts()
    known |= {
        "networks": [resnext.name(spec) for spec in specs],
        "resolution": resolution,
        "precision": precision,
        "bandwidth": ceiling.bandwidth,
        "multiply_adds_per_second": ceiling.rate,
    }
    records = [known | row.record() for row in rows]
    if as_json:
        print(json.dumps(records, indent=2))
    if save is not None:
        append(save, records)
    if write_table is not None:
        _write_table(write_table, known, rows)


def _shown(found: "Iterable[Row]") -> "list[Row]":
    """Print rows as they come."""
    rows: list[Row] = []
    for row in found:
        rows.append(row)
        _print_row(row, first=len(rows) == 1 or _place(rows[-2]) != _place(row))
    _print_summary(rows)
    return rows


def _place(row: "Row") -> tuple[Any, ...]:
    return row.conv, row.direction


def _print_floors(convs: "list[Conv3x3]", ceiling: "Ceiling", *, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "conv": str(conv),
                        "count": conv.count,
                        "bytes": conv.bytes,
                        "multiply_adds": conv.multiply_adds,
                        "floor_microseconds": 1e6 * conv.floor(ceiling),
                    }
                    for conv in convs
                ],
                indent=2,
            )
        )
        return
    print(f"floors {ceiling.basis}; the same in each direction")
    print(f"\n{'grouped 3x3':<40} {'count':>5} {'MB':>7} {'G mult-adds':>12} {'floor us':>9}")
    for conv in convs:
        numbers = (conv.bytes / 1e6, conv.multiply_adds / 1e9, 1e6 * conv.floor(ceiling))
        megabytes, adds, floor = (f"{number:.1f}" for number in numbers)
        print(f"  {conv!s:<38} {conv.count:>5} {megabytes:>7} {adds:>12} {floor:>9}")


def _print_row(row: "Row", *, first: bool) -> None:
    if first:
        print(f"\n{row.conv}: {row.direction}, floor {row.floor:.1f} us")
    if row.wrong:
        print(f"  {row.method:<20} not timed: error {row.error:.1e} is beyond rounding")
        return
    launch = "" if row.launch is None else f"  {_short(row)}"
    times = f"{row.median:>9.1f} us {row.ratio:>6.2f} x floor"
    print(f"  {row.method:<20} {times}{launch}", flush=True)


def _short(row: "Row") -> str:
    from dataclasses import asdict

    assert row.launch is not None
    return " ".join(f"{name}={value}" for name, value in asdict(row.launch).items())


def _print_summary(rows: "list[Row]") -> None:
    from resnext.benchmark.kernels import summary

    found = summary(rows)
    if found is None:
        print("\nno kernel of ours was timed")
        return
    print(
        f"\nours reach {found.efficiency:.2f} of the floor (geometric mean), cuDNN's as they are "
        f"{found.framework_efficiency:.2f}; ours are ahead of cuDNN's best in {found.ahead} of "
        f"{found.compared}"
    )


def _readable(path: Path) -> dict[str, Any]:
    """The table that is to be changed; a new one where there is none.

    Raises:
        UsageError: the file is something else.
    """
    from resnext.errors import UsageError
    from resnext.kernels.choices import TABLE

    source = path if path.exists() else TABLE
    try:
        table = json.loads(source.read_text())
        table["devices"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"expected a table of choices in {path}, found another file") from error
    return dict(table)


def _write_table(path: Path, known: dict[str, Any], rows: "list[Row]") -> None:
    from resnext.benchmark.kernels import fastest
    from resnext.errors import ResourceError
    from resnext.kernels.choices import with_device

    choices = fastest(rows)
    table = with_device(_readable(path), known["gpu"], known, choices)
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error
    print(f"{len(choices)} choices for {known['gpu']} written to {path}")
