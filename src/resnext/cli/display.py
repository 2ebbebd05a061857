"""Training and evaluation while they run: a live bar on a terminal, plain lines elsewhere.

Nothing here loads torch before it is needed, so that the wait for it can be shown too.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from resnext.errors import INTERRUPTED

if TYPE_CHECKING:
    from resnext.evaluation.scores import Part
    from resnext.metrics import Counts
    from resnext.runs import EpochRecord, Evaluation, Reread
    from resnext.runs.running import Progress as Record
    from resnext.training.loop import Step

LINE_SECONDS = 60.0
"""Between two lines inside an epoch where there is no terminal."""

ESTIMATE_SECONDS = 1800.0
"""Of which the time left is told; a step of a large network on a processor takes a minute."""

_WIDTHS = {
    "epoch": 9,
    "rate": 8,
    "loss": 7,
    "train err": 9,
    "val err": 7,
    "val top-5": 9,
    "img/s": 7,
    "s": 6,
}
_DISPENSABLE = ("s", "img/s", "val top-5", "rate", "loss", "train err")
"""What a narrow terminal does without, in this order."""


def follow(
    records: Iterable["Record"], epochs: int, classes: int, console: Console | None = None
) -> None:
    """Pull a training to its end and show it: errors in percent, losses in nats."""
    console = console or Console(highlight=False, soft_wrap=True)
    with progress_bar(console) as bar:
        screen = _Screen(console, bar, epochs, classes)
        for record in records:
            screen.show(record)


class _Screen:
    """A table that grows by a row an epoch, over a bar that tells of the running one."""

    def __init__(self, console: Console, bar: Progress, epochs: int, classes: int) -> None:
        self._console, self._bar = console, bar
        self._epochs, self._classes = epochs, classes
        self._columns = _fitting(console.width) if console.is_terminal else tuple(_WIDTHS)
        self._task = bar.add_task("", total=float(epochs), texts=("starting",))
        self._started: float | None = None
        self._before = 0
        self._estimated = console.is_terminal  # the bar does it there
        self._said = time.monotonic()
        self._print(_row(self._columns, dict(zip(self._columns, self._columns, strict=True))))

    def show(self, record: "Record") -> None:
        """Whatever there is to see of one record."""
        from resnext.evaluation.scores import Part
        from resnext.runs import BadImage, EpochRecord, Notice
        from resnext.training.loop import Step

        if isinstance(record, Step):
            self._step(record)
        elif isinstance(record, EpochRecord):
            self._epoch(record)
        elif isinstance(record, BadImage):
            self._print(f"bad image, replaced: {record.reason}", style="yellow")
        elif isinstance(record, Notice):
            self._print(record.text, style="yellow")
        elif isinstance(record, Part):
            texts = (f"validating {record.step}/{record.steps}", "validating")
            self._bar.update(self._task, texts=texts)

    def _step(self, step: "Step") -> None:
        if self._started is None:  # without what came before this epoch
            self._started, self._before = time.monotonic() - step.seconds, step.epoch - 1
        if step.counts is None:
            return
        texts = step_texts(step, step.counts, self._epochs)
        done = step.epoch - 1 + step.step / step.steps
        self._bar.update(self._task, completed=done, texts=texts, refresh=True)
        if not self._console.is_terminal and time.monotonic() - self._said > LINE_SECONDS:
            self._print(texts[0])
            self._estimate(done)

    def _epoch(self, record: "EpochRecord") -> None:
        self._print(_row(self._columns, _cells(record, self._epochs, self._classes)))
        self._bar.update(self._task, completed=record.epoch)
        self._estimate(record.epoch)

    def _estimate(self, done: float) -> None:
        """Say once how long it will take, where no bar does."""
        if self._started is None or self._estimated:
            return
        self._estimated = True
        taken = (time.monotonic() - self._started) / (done - self._before)
        if (left := taken * (self._epochs - done)) > 60:
            self._print(f"about {_duration(left)} left")

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, markup=False, style=style)
        self._said = time.monotonic()


def wait(
    records: Iterable["Part | Evaluation | Reread"], *, shown: bool = True
) -> "list[Evaluation | Reread]":
    """Pull evaluations to their end, with a bar on stderr so that stdout holds results alone."""
    from resnext.evaluation.scores import Part

    results = []
    with progress_bar(Console(stderr=True), shown=shown) as bar:
        task = bar.add_task("", total=None, texts=("scoring",))
        for record in records:
            if isinstance(record, Part):
                bar.update(task, completed=record.step, total=record.steps)
            else:
                results.append(record)
                bar.update(task, completed=0, total=None)
    return results


@contextmanager
def loading(*, stderr: bool = False, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that torch is being loaded; yields a function to say what follows it."""
    console = Console(stderr=stderr)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("loading torch …") as status:
        yield lambda doing: status.update(Text(f"{doing} …"))


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """Make Ctrl-C one line that says what there is now, and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"resnext: interrupted; {kept()}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def top5(error: float, classes: int) -> str:
    """A top-5 error in percent; of five classes or fewer it is always zero and says nothing."""
    from resnext.metrics import TOP

    return f"{error:.2f}" if classes > TOP else "–"


def step_texts(record: "Step", counts: "Counts", epochs: int) -> list[str]:
    """Where the running epoch stands, from all that is known to nothing at all."""
    parts = (
        f"epoch {record.epoch}/{epochs}",
        f" step {record.step}/{record.steps}",
        f"  loss {counts.loss:.3f}",
        f"  err {counts.top1_error:.1f} %",
        f"  {_rate(counts.samples / record.seconds)} img/s",
        f"  rate {record.learning_rate:.2g}",
        f"  top-5 {counts.top5_error:.1f} %",
        f"  data wait {record.waited / record.seconds:.0%}",
        f"  {memory_peak() / 2**30:.1f} GiB",
    )
    return ["".join(parts[:count]) for count in range(len(parts), 0, -1)]


def memory_peak() -> int:
    """Bytes that this process has held at most: of the GPU if it uses one, else of the machine."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _fitting(width: int) -> tuple[str, ...]:
    """The columns of the table that a terminal has room for."""
    columns = list(_WIDTHS)
    for name in _DISPENSABLE:
        if sum(_WIDTHS[column] + 1 for column in columns) - 1 <= width:
            break
        columns.remove(name)
    return tuple(columns)


def _row(columns: Iterable[str], cells: dict[str, str]) -> str:
    return " ".join(f"{cells[name]:>{_WIDTHS[name]}}" for name in columns)


def _cells(record: "EpochRecord", epochs: int, classes: int) -> dict[str, str]:
    """One finished epoch as a row of the table."""
    return {
        "epoch": f"{record.epoch}/{epochs}",
        "rate": f"{record.learning_rate:.2g}",
        "loss": "–" if record.train_loss is None else f"{record.train_loss:.4f}",
        "train err": f"{record.train_error:.2f}",
        "val err": f"{record.validation_error:.2f}",
        "val top-5": top5(record.validation_top5_error, classes),
        "img/s": _rate(record.images_per_second),
        "s": f"{record.seconds:.1f}",
    }


def _rate(images: float) -> str:
    """Images per second; of a large network on a processor fewer than one."""
    return f"{images:.0f}" if images >= 10 else f"{images:.1f}"


def _duration(seconds: float) -> str:
    """In the unit in which two digits say enough."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} min"


class _Words:
    """The longest of some texts that its place has room for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def _fitting(self, width: int) -> str:
        return next((text for text in self._texts if len(text) <= width), "")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        del console
        return Measurement(1, max(1, len(self._fitting(options.max_width))))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        yield Text(self._fitting(options.max_width), no_wrap=True)


class _WordsColumn(ProgressColumn):
    """What is going on, in the words of a task's `texts`."""

    def render(self, task: Task) -> _Words:
        """The words of a task."""
        return _Words(task.fields["texts"])


@contextmanager
def progress_bar(console: Console, *, shown: bool = True) -> Iterator[Progress]:
    """A bar that is there while something runs, on terminals only.

    Where there is little room the words and the bar shrink; percentage and time left stay whole.
    """
    columns = (
        _WordsColumn(),
        BarColumn(bar_width=20),
        TaskProgressColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
        speed_estimate_period=ESTIMATE_SECONDS,
    ) as progress:
        yield progress
