"""A detector's training and scoring while they run: a live bar on a terminal, lines elsewhere."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from resnext.cli.display import LINE_SECONDS, progress_bar

if TYPE_CHECKING:
    from resnext.detection.running import DetectionStep

ROWS = 10
"""Lines of the table that a phase gets, whatever its length."""


def follow_detector(
    records: Iterable[Any], *, shown: bool = True, console: Console | None = None
) -> None:
    """Pull a training to its end and show it."""
    console = console or Console(highlight=False, soft_wrap=True)
    with progress_bar(console, shown=shown) as bar:
        screen = _Screen(console, bar, shown=shown)
        for record in records:
            screen.show(record)


class _Screen:
    """A row of losses now and then, over a bar that tells of the phase."""

    def __init__(self, console: Console, bar: Progress, *, shown: bool) -> None:
        self._console, self._bar, self._shown = console, bar, shown
        self._task = bar.add_task("", total=None, texts=("starting",))
        self._phase: str | None = None
        self._said = time.monotonic()

    def show(self, record: Any) -> None:
        """Whatever there is to see of one record."""
        from resnext.detection.running import DetectionStep, Done
        from resnext.runs import Notice

        if isinstance(record, DetectionStep):
            self._step(record)
        elif isinstance(record, Notice):
            self._print(record.text, style="yellow")
        elif isinstance(record, Done):
            texts = (f"{record.what} {record.done}/{record.total}", record.what)
            self._bar.update(self._task, completed=record.done, total=record.total, texts=texts)
            if not self._console.is_terminal and time.monotonic() - self._said > LINE_SECONDS:
                self._print(texts[0])

    def _step(self, step: "DetectionStep") -> None:
        if step.phase != self._phase:
            self._phase = step.phase
            names = " ".join(f"{_short(name):>10}" for name in step.losses)
            self._print(f"{'phase':>6} {'step':>14} {'rate':>8} {names} {'s/step':>7}")
        texts = (
            (
                f"{step.phase} {step.step}/{step.steps}  loss {sum(step.losses.values()):.3f}  "
                f"data wait {step.waited / step.seconds:.0%}"
            ),
            f"{step.phase} {step.step}/{step.steps}",
        )
        self._bar.update(self._task, completed=step.step, total=step.steps, texts=texts)
        every = max(1, step.steps // ROWS)
        late = not self._console.is_terminal and time.monotonic() - self._said > LINE_SECONDS
        if step.step % every == 0 or step.step == step.steps or late:
            self._print(_row(step))

    def _print(self, text: str, style: str | None = None) -> None:
        if self._shown:
            self._console.print(text, markup=False, style=style)
        self._said = time.monotonic()


def _short(name: str) -> str:
    """A loss's name, as long as a column is wide."""
    short = {"loss_rpn_box_reg": "rpn box", "loss_box_reg": "box", "loss_classifier": "class"}
    return short.get(name, name.removeprefix("loss_"))[:10]


def _row(step: "DetectionStep") -> str:
    losses = " ".join(f"{loss:>10.4f}" for loss in step.losses.values())
    where = f"{step.step}/{step.steps}"
    each = step.seconds / max(1, step.step)
    return f"{step.phase:>6} {where:>14} {step.learning_rate:>8.2g} {losses} {each:>7.2f}"


def counted(records: Iterable[Any]) -> Any:
    """Pull to the end, with a bar on stderr; returns the last record."""
    from resnext.detection.running import Done

    last: Any = None
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, texts=("starting",))
        for record in records:
            if isinstance(record, Done):
                texts = (f"{record.what} {record.done}/{record.total}",)
                bar.update(task, completed=record.done, total=record.total, texts=texts)
            else:
                last = record
    return last
