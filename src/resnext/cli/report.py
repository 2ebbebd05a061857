"""``resnext report``: a page about runs."""

from pathlib import Path
from typing import Annotated

import typer

from resnext.cli.display import interruptible, loading
from resnext.errors import UsageError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write into; that of a single run if left out."),
    ] = None,
) -> None:
    """Write a page with curves, errors, network and provenance of runs; it works offline."""
    if out is None and len(runs) > 1:
        raise UsageError(f"expected --out with {len(runs)} runs, found none")
    with interruptible(lambda: "nothing was written"), loading() as doing:
        from resnext.report import write_report
        from resnext.runs import RunFolder
        from resnext.runs.pages import run_report, write_run_report

        folders = [RunFolder.open(run) for run in runs]
        doing("writing the report")
        page = (
            write_run_report(folders[0])
            if out is None
            else write_report(run_report(folders), out)[0]
        )
    print(f"report   {page}")
