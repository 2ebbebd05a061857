"""``resnext data``: look at a data set, index it, cut ImageNet-5K out of ImageNet-22K."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from resnext.cli.options import AsJson
from resnext.errors import DataError, UsageError

if TYPE_CHECKING:
    from resnext.data.checking import CheckReport
    from resnext.data.store import Table

_LINE_SECONDS = 10.0
"""How often a line says how far it is, where no bar can be drawn."""

data_app = typer.Typer(
    name="data",
    help="Check, index and cut out data sets.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@data_app.command()
def check(
    path: Annotated[str, typer.Argument(help="A folder, a .parquet or .tar file, or digits.")],
    threads: Annotated[
        int | None, typer.Option(min=1, help="Images looked at at once.", show_default="all cores")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decode every image; report what is broken, odd or there twice. Exit code 3 if any is bad."""
    from resnext.data import checking

    with _listing_problems():
        parts = _opened(path)
    findings: list[checking.Finding] = []
    report: CheckReport | None = None
    with _progress("checking", "images") as advance:
        location = Path(path).expanduser()
        for step in checking.check(parts, location=location, threads=threads):
            if isinstance(step, checking.Checked):
                advance(step.images, step.total)
            elif isinstance(step, checking.CheckReport):
                report = step
            else:
                findings.append(step)
                if not as_json:
                    print(f"{step.kind:<11} {step.where}: {step.detail}")
    assert report is not None
    if as_json:
        print(json.dumps(_record(path, report, findings), indent=2, ensure_ascii=False))
    else:
        _print_report(report)
    if report.bad:
        first = next(finding for finding in findings if finding.kind in checking.BAD)
        raise DataError(
            f"{path}: expected images that can be read, found {report.bad} that cannot,"
            f" the first: {first.where}: {first.detail}"
        )


@data_app.command()
def index(
    path: Annotated[Path, typer.Argument(help="A folder of class folders, or of .tar files.")],
    rescan: Annotated[bool, typer.Option(help="Trust nothing that is known of it.")] = False,
    as_json: AsJson = False,
) -> None:
    """List a data set's images, so that runs open it at once."""
    from resnext.data.indexing import NeedsNoIndexError, index_parts
    from resnext.data.store import Table

    records: list[dict[str, Any]] = []
    started = time.perf_counter()
    try:
        with _listing_problems(), _progress("indexing", "folders") as advance:
            for step in index_parts(path, rescan=rescan):
                if isinstance(step, Table):
                    records.append(_index_record(step, time.perf_counter() - started))
                    started = time.perf_counter()
                else:
                    advance(step.folders, step.total)
    except NeedsNoIndexError as error:
        print("[]" if as_json else error)
        return
    if as_json:
        print(json.dumps(records, indent=2, ensure_ascii=False))
        return
    for record in records:
        print(f"{record['location']}: {record['images']:,} images in {record['seconds']:.2f} s")
        print(f"index  {record['index']}")


@data_app.command("subset-5k")
def subset_5k(
    path: Annotated[str, typer.Argument(help="ImageNet-22K: a folder or .tar file(s).")],
    imagenet1k: Annotated[
        Path, typer.Option(help="ImageNet-1K's classes: its folder, or a text file of wnids.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write, such as imagenet5k.json.")],
    others: Annotated[
        Path | None, typer.Option("--list", help="Take these classes instead of the largest.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="The images to score on: ImageNet-1K's val.")
    ] = None,
    classes: Annotated[int, typer.Option(min=2, help="How many in all, without --list.")] = 5000,
) -> None:
    """Choose ImageNet-1K's classes and the 4000 largest others.

    It is that of Sec. 5.2, to be opened as a data set: resnext train --data imagenet5k.json
    """
    from resnext.data import class_list, open_source

    if out.suffix != ".json":
        raise UsageError(f"expected a name that ends in .json, found {out.name}")
    leading = class_list.read_names(imagenet1k)
    if classes == class_list.IMAGENET_5K and len(leading) != 1000:
        raise DataError(
            f"{imagenet1k}: expected the 1000 classes of ImageNet-1K, found {len(leading)};"
            " --classes chooses another size"
        )
    counts = class_list.counts_of(open_source(path))
    given = None if others is None else class_list.read_names(others)
    try:
        names = class_list.choose(counts, leading, total=classes, others=given)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    chosen = class_list.ClassList(
        classes=names,
        counts=tuple(counts[name] for name in names),
        leading=len(leading),
        data=str(Path(path).expanduser().absolute()),
        validation=None if validation is None else str(Path(validation).expanduser().absolute()),
    )
    class_list.write(out, chosen)
    print(f"{out}: {len(names):,} classes, {sum(chosen.counts):,} images")
    print(f"first   {len(leading):,} classes of {imagenet1k}")
    rest = chosen.counts[chosen.leading :]
    print(f"others  {len(rest):,} classes of {min(rest, default=0):,} to {max(rest, default=0):,}")
    print(f"sha256  {chosen.sha256}")


def _opened(path: str) -> dict[str, Any]:
    from resnext.data.opening import open_parts

    return dict(open_parts(path))


@contextmanager
def _listing_problems() -> Iterator[None]:
    """Print each line of what is wrong with an archive, before the error that counts them."""
    from resnext.data.shards import BadArchiveError

    try:
        yield
    except BadArchiveError as error:
        for problem in error.problems:
            print(f"{'refused':<11} {problem}")
        raise


def _index_record(table: "Table", seconds: float) -> dict[str, Any]:
    return {
        "location": table.meta["location"],
        "images": len(table.arrays["sizes"]),
        "classes": len(table.meta["classes"] or ()),
        "bytes": int(table.arrays["sizes"].clip(0).sum()),
        "fingerprint": table.meta["fingerprint"],
        "index": str(table.path),
        "seconds": seconds,
    }


def _record(path: str, report: "CheckReport", findings: list[Any]) -> dict[str, Any]:
    return {
        "location": path,
        "bad": report.bad,
        "damage_checked": report.damage_checked,
        "parts": {
            name: {"images": part.images, "classes": part.classes}
            for name, part in report.parts.items()
        },
        "counts": report.findings,
        "findings": [
            {"kind": one.kind, "where": one.where, "detail": one.detail} for one in findings
        ],
    }


def _print_report(report: "CheckReport") -> None:
    for name, part in report.parts.items():
        by_size = sorted(part.classes, key=lambda label: (part.classes[label], label))
        smallest, largest = by_size[0], by_size[-1]
        print(
            f"{name:<11} {part.images:,} images in {len(part.classes):,} classes"
            f" of {part.classes[smallest]:,} ({smallest}) to {part.classes[largest]:,} ({largest})"
        )
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.findings.items()))
    print(f"{'found':<11} {counts or 'nothing odd'}")
    if not report.damage_checked:
        print(f"{'note':<11} damage inside JPEG files is not looked for without the native loader")


@contextmanager
def _progress(what: str, unit: str) -> Iterator[Any]:
    """A bar on stderr, or a line there every few seconds: yields a function of (done, total)."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    started = last = time.monotonic()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            nonlocal last
            bar.update(task, completed=done, total=total, description=f"{what} {done:,} {unit}")
            now = time.monotonic()
            if not console.is_terminal and now - last >= _LINE_SECONDS:
                last = now
                rate = done / (now - started)
                print(f"{what} {done:,}/{total:,} {unit}, {rate:.0f}/s", file=console.file)

        yield advance
