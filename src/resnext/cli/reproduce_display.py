"""An experiment's runs while they are worked off."""

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from resnext.cli.display import LINE_SECONDS, progress_bar, step_texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resnext.experiments.sharing import Begun, Event


def work_off(events: "Iterable[Event]") -> None:
    """Pull an experiment's runs to their end: a line for each, over a bar that tells of one."""
    console = Console(highlight=False, soft_wrap=True)
    with progress_bar(console) as shown:
        screen = _Runs(console, shown)
        for event in events:
            screen.show(event)


class _Runs:
    """A line for every run that is over, and a bar for the one that goes on."""

    def __init__(self, console: Console, shown: Progress) -> None:
        self._console, self._bar = console, shown
        self._task = shown.add_task("", total=1.0, texts=("starting",))
        self._name = ""
        self._epochs = 1
        self._started = self._said = time.monotonic()

    def show(self, event: "Event") -> None:
        """Whatever there is to see of one event."""
        from resnext.experiments.measuring import Tick
        from resnext.experiments.sharing import Begun, Ended, Left
        from resnext.training.loop import Step

        if isinstance(event, Begun):
            self._begin(event)
        elif isinstance(event, Ended):
            took = f" in {time.monotonic() - self._started:.0f} s" if event.now else " before"
            self._print(f"{event.job.name}: done{took}")
        elif isinstance(event, Left):
            self._print(f"{event.job.name}: left, {event.why}")
        elif isinstance(event, Tick):
            self._move(event.done / event.of, event.text)
        elif isinstance(event, Step) and event.counts is not None:
            done = (event.epoch - 1 + event.step / event.steps) / self._epochs
            self._move(done, step_texts(event, event.counts, self._epochs)[0])
        else:
            self._mention(event)

    def _mention(self, event: "Event") -> None:
        """What a run itself has to say."""
        from resnext.runs import BadImage, Notice

        if isinstance(event, Notice):
            self._print(f"{self._name}: {event.text}")
        elif isinstance(event, BadImage):
            self._print(f"{self._name}: bad image, replaced: {event.reason}")

    def _begin(self, begun: "Begun") -> None:
        self._started, self._name = time.monotonic(), begun.job.name
        self._epochs = max(1, begun.state.of)
        half = begun.state.kind == "half"
        behind = f" behind epoch {begun.state.done}" if begun.job.plan else ""
        at = f", continuing{behind}" if half else ""
        self._print(f"{self._name}: begun, {begun.number} of {begun.of}{at}")
        self._move(0.0, "starting")

    def _move(self, done: float, text: str) -> None:
        texts = (f"{self._name}: {text}", self._name, "")
        self._bar.update(self._task, completed=done, texts=texts)
        if not self._console.is_terminal and time.monotonic() - self._said > LINE_SECONDS:
            self._print(f"{self._name}: {done:.0%}, {text}")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)
        sys.stdout.flush()
        self._said = time.monotonic()
