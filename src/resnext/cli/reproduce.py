"""``resnext reproduce``: a table or figure of the paper, from the plan to the report."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Column
from rich.table import Table as Grid

from resnext.cli.display import interruptible, loading
from resnext.cli.options import Device, Workers
from resnext.cli.reproduce_display import work_off
from resnext.cli.resuming import resumable
from resnext.errors import INTERRUPTED, UsageError

if TYPE_CHECKING:
    from resnext.data import DataSet
    from resnext.detection.splits import Sets
    from resnext.experiments.design import Experiment, Scale
    from resnext.experiments.study import Study
    from resnext.report import Table


def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="ID", help="Such as table3, fig7, forms; see --list.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Images; more than once where rows need several sets. Demo: digits."),
    ] = None,
    scale: Annotated[
        Literal["paper", "short", "demo"],
        typer.Option(help="The paper's recipe; its networks, sooner; its design at small size."),
    ] = "demo",
    only: Annotated[
        list[str] | None, typer.Option(metavar="ROW", help="Run this row; more than once for more.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs of each row; demo 3, CIFAR at paper's scale 10.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Instead of the scale's; not at the paper's scale.")
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, help="Processes on this machine; with GPUs, one for each.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and end.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of runs and reports; runs/reproduce-SCALE-DATA.")
    ] = None,
    device: Device = None,
    workers: Workers = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW=FILE", help="Table 8: of a backbone, instead of training it."),
    ] = None,
    any_commit: Annotated[
        bool, typer.Option("--any-commit", help="Take runs of other commits, and show which.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Show all experiments and how far they are.")
    ] = False,
) -> None:
    """Make a table or figure of the paper again: plan, runs, report.

    The same line continues what was interrupted, skips what is done, and in several processes at
    once shares out what is left.
    """
    with interruptible(lambda: "what was finished is kept; the same line continues"):
        with loading():
            from resnext.experiments.registry import EXPERIMENTS, chosen, experiment
            from resnext.experiments.study import Choices, Study

        place = out or _usual_place(scale, data or [])
        if list_:
            _print_list(place)
            return
        if name is None:
            known = ", ".join(one.id for one in EXPERIMENTS)
            raise UsageError(f"expected one of {known}; found none")
        wanted = chosen(experiment(name).at(scale), only or [])
        whole = experiment(name).at(scale)
        sets, objects = _opened(data, scale, whole)
        choices = Choices(
            data=sets,
            objects=objects,
            weights=_weights(weights or [], whole),
            scale=scale,
            seeds=seeds,
            epochs=epochs,
            device=device,
            workers=workers,
            any_commit=any_commit,
        )
        study = Study(experiment=wanted, choices=choices, out=place)
        _announce(study)
        if dry_run:
            return
        if not wanted.computed:
            if parallel > 1:
                _in_parallel(parallel)
            else:
                _run(study)
        _tell(Study(experiment=whole, choices=choices, out=place))


def _usual_place(scale: str, data: list[str]) -> Path:
    """One for each scale and each set of images but the digits, so that they never meet."""
    names = [Path(one).absolute().stem for one in data if one != "digits"]
    return Path("runs") / "-".join(["reproduce", scale, *names])


def _opened(
    data: list[str] | None, scale: "Scale", wanted: "Experiment"
) -> "tuple[tuple[DataSet, ...], Sets | None]":
    """The images with classes, and those with objects where they are wanted."""
    from resnext.data import open_data
    from resnext.detection.splits import is_coco
    from resnext.experiments.detection import open_objects

    if wanted.computed:
        return (), None
    usual = ["digits"] if scale == "demo" and not wanted.objects else []
    objects = [Path(one) for one in data or [] if wanted.objects and is_coco(Path(one))]
    if len(objects) > 1:
        raise UsageError(f"expected one folder of COCO, found {', '.join(map(str, objects))}")
    rest = [one for one in data or usual if Path(one) not in objects]
    found = open_objects(objects[0], scale) if objects else None
    return tuple(open_data(one) for one in rest), found


def _weights(texts: list[str], wanted: "Experiment") -> dict[str, Path]:
    """Files by row.

    Raises:
        UsageError: the experiment takes none, has no such row, or a file is not there.
    """
    rows = [row.id for row in wanted.rows] if wanted.objects else []
    found: dict[str, Path] = {}
    for text in texts:
        row, equals, file = text.partition("=")
        if not equals or row not in rows:
            none = f"which {wanted.id} does not take at this scale"
            takes = f"one of {', '.join(rows)}" if rows else none
            raise UsageError(f"expected --weights ROW=FILE, {takes}; found {text!r}")
        if not Path(file).exists():
            raise UsageError(f"expected weights for {row}, found no file {file}")
        found[row] = Path(file)
    return found


def _print_list(place: Path) -> None:
    from resnext.experiments.overview import overview

    _print_grid(("ID", "what", "runs", "done", "begun", "paper's data"), overview(place))


def _announce(study: "Study") -> None:
    """The plan."""
    from resnext.experiments.planning import planned

    experiment, choices = study.experiment, study.choices
    print(f"{experiment.id}: {experiment.title}")
    if experiment.computed:
        return
    from resnext.experiments.writing import SCALES

    print(f"scale {choices.scale}: {SCALES[choices.scale]}")
    plan = planned(study)
    _print_grid(("run", "network", "seeds", "state", "time", "disk"), plan.rows)
    for note in plan.notes:
        print(note)
    sys.stdout.flush()


def _run(study: "Study") -> None:
    from resnext.experiments.sharing import carry_out
    from resnext.runs import stopping

    with stopping() as stop, resumable(stop, "the same line continues"):
        work_off(carry_out(study, stop))


def _in_parallel(count: int) -> None:
    """The same line in several processes, each of which takes what is free."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = [*sys.argv[1:], "--parallel", "1"]
    children: list[subprocess.Popen[str]] = []
    try:
        for number in range(count):
            own = {"OMP_NUM_THREADS": str(max(1, (cores or 1) // count))}
            if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ:
                own["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
            child = subprocess.Popen(
                [sys.executable, "-m", "resnext", *words],
                env=own | {k: v for k, v in os.environ.items() if k not in own} | {_CHILD: "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                process_group=0,  # or a terminal's Ctrl-C would reach it twice, once through us
            )
            children.append(child)
        codes = list(_followed(children))
    except BaseException:
        for child in children:
            child.terminate()
        raise
    failed = [code for code in codes if code]
    if failed:
        raise typer.Exit(min(failed, key=lambda code: (code in (75, INTERRUPTED), code)))


_OF_TERMINALS = {getattr(signal, name, signal.SIGTERM) for name in ("SIGHUP", "SIGQUIT")}
"""What ends a terminal's processes, among which the started ones are not."""

_CHILD = "RESNEXT_REPRODUCE_CHILD"
"""Set in processes that another one started, and reports for."""


def _followed(children: "list[subprocess.Popen[str]]") -> Iterator[int]:
    """What the processes print, each line with the process's number; then their exit codes."""
    from resnext.runs.signals import PREEMPTION

    def forward(number: int, frame: object) -> None:
        del frame
        for child in children:
            child.send_signal(signal.SIGTERM if number in _OF_TERMINALS else number)

    numbers = {signal.SIGINT, *PREEMPTION}
    # those that are ignored are so because somebody wants it to go on
    numbers |= {n for n in _OF_TERMINALS if signal.getsignal(n) == signal.SIG_DFL}
    before = {number: signal.signal(number, forward) for number in numbers}
    threads = [
        threading.Thread(target=_pass_on, args=(place, child.stdout), daemon=True)
        for place, child in enumerate(children, start=1)
    ]
    try:
        for thread in threads:
            thread.start()
        yield from [child.wait() for child in children]
        for thread in threads:
            thread.join()
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


def _pass_on(number: int, stream: "IO[str] | None") -> None:
    for line in stream or ():
        print(f"[{number}] {line}", end="", flush=True)


def _tell(study: "Study") -> None:
    """Write the report and show its tables."""
    if _CHILD in os.environ:
        return
    from resnext.experiments.findings import findings
    from resnext.experiments.writing import report, write
    from resnext.report import Table

    made = report(findings(study))
    print()
    for sentence in made.summary:
        print(sentence)
    for part in made.parts:
        if isinstance(part, Table):
            _print_table(part)
    print(f"report  {write(made, study.out / study.experiment.id)}")


def _print_table(table: "Table") -> None:
    from resnext.report.text import cell, heading

    print(f"\n{table.title}")
    heads = tuple(heading(column) for column in table.columns)
    rows = [
        tuple(cell(v, c) for v, c in zip(row, table.columns, strict=True)) for row in table.rows
    ]
    _print_grid(heads, rows)
    for note in table.notes:
        print(f"  {note}")


def _print_grid(heads: tuple[str, ...], rows: "list[tuple[str, ...]]") -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        # what finds no room goes on below: half a name, or half a number, would say something else
        folded = (Column(head, overflow="fold") for head in heads)
        grid = Grid(*folded, box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for row in rows:
            grid.add_row(*row)
        console.print(grid)
        return
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(row) + " |")
