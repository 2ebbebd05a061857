"""What is said of work that did not come to its end, and how to go on with it."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from resnext.errors import INTERRUPTED, PreemptedError, ResNextError

if TYPE_CHECKING:
    from resnext.runs import Stop


def continue_with(command: str, folder: Path) -> str:
    """The line that goes on with a run, in as many processes as it has now."""
    launched = "launch ... " if "WORLD_SIZE" in os.environ else ""
    return f"continue with: resnext {launched}{command} --resume {shlex.quote(str(folder))}"


@contextmanager
def resumable(
    stop: "Stop", how: str, kept: Callable[[ResNextError], str] | None = None, *, shown: bool = True
) -> Iterator[None]:
    """A stop that was asked for ends with its exit code and `how`; an error says what is `kept`.

    Raises:
        typer.Exit: it was asked to end, and has saved.
        ResNextError: as it came, if it says itself how to go on or nothing is kept.
    """
    try:
        yield
    except PreemptedError as error:
        if shown:
            why = "interrupted" if stop.exit_code == INTERRUPTED else "asked to end"
            print(f"resnext: {why}; {error}; {how}", file=sys.stderr)
        raise typer.Exit(stop.exit_code) from None
    except ResNextError as error:
        if kept is None or getattr(error, "__notes__", None):
            raise
        raise type(error)(f"{error}; {kept(error)}") from error
