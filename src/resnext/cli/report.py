"""``resnext report``: a page about runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnext.cli.display import interruptible, loading
from resnext.cli.options import Device
from resnext.errors import ResNextError, UsageError

if TYPE_CHECKING:
    from resnext.data import DataSet
    from resnext.report import Photos
    from resnext.runs import RunFolder


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write into; that of a single run if left out."),
    ] = None,
    mistakes: Annotated[
        int | None,
        typer.Option(min=0, help="Pictures of the worst mistakes on a single run's own page [24]."),
    ] = None,
    device: Device = None,
) -> None:
    """Write a page about runs: curves, errors, network, provenance."""
    if out is None and len(runs) > 1:
        raise UsageError(f"expected --out with {len(runs)} runs, found none")
    if out is not None and mistakes:
        raise UsageError("expected --mistakes for the page in a run's folder, found --out too")
    with interruptible(lambda: "nothing was written"), loading() as doing:
        from resnext.report import write_report
        from resnext.runs import RunFolder
        from resnext.runs.pages import run_report, write_run_report

        folders = [RunFolder.open(run) for run in runs]
        if out is None:
            doing("looking for mistakes")
            shown = None if mistakes == 0 else mistakes_of(folders[0], None, device, mistakes)
            page = write_run_report(folders[0], shown)
        else:
            doing("writing the report")
            page = write_report(run_report(folders), out)[0]
    print(f"report   {page}")


def mistakes_of(
    folder: "RunFolder", data: "DataSet | None", device: str | None, count: int | None = None
) -> "Photos | None":
    """Pictures of the worst mistakes; None, and a line why, where nobody asked and there are none.

    Raises:
        ResNextError: so many were asked for, and cannot be found.
    """
    from resnext.report import Photos
    from resnext.runs.mistakes import worst_mistakes

    if not folder.epochs():
        return None
    try:
        for progress in worst_mistakes(folder, data, device=device, count=count):
            if isinstance(progress, Photos):
                return progress
    except ResNextError as error:
        if count is not None:
            raise
        print(f"resnext: no mistakes are shown: {error}", file=sys.stderr)
    return None
