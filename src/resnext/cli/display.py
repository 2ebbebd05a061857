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
    from resnext.experiments.sharing import Begun, Event
    from resnext.metrics import Counts
    from resnext.runs import EpochRecord, Evaluation, Reread
    from resnext.runs.running import Progress as Record
    from resnext.training.loop import Step

LINE_SECONDS = 60.0
"""Between two lines inside an epoch where there is no terminal."""

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
    with _bar(console) as bar:
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

    def _epoch(self, record: "EpochRecord") -> None:
        self._print(_row(self._columns, _cells(record, self._epochs, self._classes)))
        self._bar.update(self._task, completed=record.epoch)
        if self._started is None or self._estimated:
            return
        self._estimated = True
        taken = (time.monotonic() - self._started) / (record.epoch - self._before)
        if (left := taken * (self._epochs - record.epoch)) > 60:
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
    with _bar(Console(stderr=True), shown=shown) as bar:
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
        f"  {counts.samples / record.seconds:.0f} img/s",
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
        "img/s": f"{record.images_per_second:.0f}",
        "s": f"{record.seconds:.1f}",
    }


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
def _bar(console: Console, *, shown: bool = True) -> Iterator[Progress]:
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
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as progress:
        yield progress


def work_off(events: "Iterable[Event]") -> None:
    """Pull an experiment's runs to their end: a line for each, over a bar that tells of one."""
    console = Console(highlight=False, soft_wrap=True)
    with _bar(console) as bar:
        screen = _Runs(console, bar)
        for event in events:
            screen.show(event)


class _Runs:
    """A line for every run that is over, and a bar for the one that goes on."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._task = bar.add_task("", total=1.0, texts=("starting",))
        self._name = ""
        self._epochs = 1
        self._started = self._said = time.monotonic()

    def show(self, event: "Event") -> None:
        """Whatever there is to see of one event."""
        from resnext.evaluation.scores import Part
        from resnext.experiments.measuring import Tick
        from resnext.experiments.sharing import Begun, Ended, Left
        from resnext.runs import BadImage, Notice
        from resnext.training.loop import Step

        match event:
            case Begun():
                self._begin(event)
            case Ended():
                took = f" in {time.monotonic() - self._started:.0f} s" if event.now else " before"
                self._print(f"{event.job.name}: done{took}")
            case Left():
                self._print(f"{event.job.name}: left, {event.why}")
            case Notice():
                self._print(f"{self._name}: {event.text}")
            case BadImage():
                self._print(f"{self._name}: bad image, replaced: {event.reason}")
            case Tick():
                self._move(event.done / event.of, event.text)
            case Step():
                if event.counts is not None:
                    done = (event.epoch - 1 + event.step / event.steps) / self._epochs
                    self._move(done, step_texts(event, event.counts, self._epochs)[0])
            case Part():
                self._bar.update(self._task, texts=(f"{self._name}: scoring", self._name))
            case _:
                pass

    def _begin(self, begun: "Begun") -> None:
        self._started, self._name = time.monotonic(), begun.job.name
        self._epochs = max(1, begun.state.of)
        at = f", continuing behind epoch {begun.state.done}" if begun.state.kind == "half" else ""
        self._print(f"{self._name}: begun, {begun.number} of {begun.of}{at}")
        self._move(0.0, "starting")

    def _move(self, done: float, text: str) -> None:
        texts = (f"{self._name}: {text}", self._name, "")
        self._bar.update(self._task, completed=done, texts=texts)
        if not self._console.is_terminal and time.monotonic() - self._said > LINE_SECONDS:
            self._print(f"{self._name}: {text}")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)
        sys.stdout.flush()
        self._said = time.monotonic()
