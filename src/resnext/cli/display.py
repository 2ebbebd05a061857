"""Training and evaluation while they run: a live bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from resnext.evaluation.scores import Part
from resnext.runs import BadImage, EpochRecord, Evaluation
from resnext.training.loop import Step

_COLUMNS = ("epoch", "rate", "loss", "train err", "val err", "val top-5", "img/s", "s")
_LINE = "{:>9} {:>8} {:>7} {:>9} {:>7} {:>9} {:>7} {:>6}"


def follow(records: Iterable[Step | Part | BadImage | EpochRecord], epochs: int) -> None:
    """Pull a training to its end and show it: errors in percent, losses in nats."""
    console = Console(highlight=False, soft_wrap=True)
    print(_LINE.format(*_COLUMNS), flush=True)
    with _bar(console) as bar:
        task = bar.add_task("starting", total=float(epochs))
        for record in records:
            if isinstance(record, EpochRecord):
                bar.console.print(epoch_line(record, epochs), markup=False)
                bar.update(task, completed=record.epoch)
            elif isinstance(record, BadImage):
                bar.console.print(
                    f"bad image, replaced: {record.reason}", markup=False, style="yellow"
                )
            elif isinstance(record, Step):
                done = record.epoch - 1 + record.step / record.steps
                bar.update(task, completed=done, description=step_text(record, epochs))
            else:
                bar.update(task, description=f"validating {record.step}/{record.steps}")


def wait(records: Iterable[Part | Evaluation]) -> Evaluation:
    """Pull an evaluation to its end, with a bar on stderr so that stdout holds the result alone."""
    with _bar(Console(stderr=True)) as bar:
        task = bar.add_task("scoring", total=None)
        for record in records:
            if isinstance(record, Evaluation):
                return record
            bar.update(task, completed=record.step, total=record.steps)
    raise AssertionError("an evaluation ends with its result")


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """One finished epoch as a row of the table."""
    return _LINE.format(
        f"{record.epoch}/{epochs}",
        f"{record.learning_rate:.2g}",
        f"{record.train_loss:.4f}",
        f"{record.train_error:.2f}",
        f"{record.validation_error:.2f}",
        f"{record.validation_top5_error:.2f}",
        f"{record.images_per_second:.0f}",
        f"{record.seconds:.1f}",
    )


def step_text(record: Step, epochs: int) -> str:
    """Where the running epoch stands."""
    counts = record.counts
    return (
        f"epoch {record.epoch}/{epochs} step {record.step}/{record.steps}  "
        f"loss {counts.loss:.3f}  err {counts.top1_error:.1f} %  "
        f"rate {record.learning_rate:.2g}  {counts.samples / record.seconds:.0f} img/s"
    )


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    """A bar that is there while something runs, on terminals only."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress
