"""The `resnext` command: its subcommands, and how an error becomes one line and an exit code."""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, cast

import typer

from resnext import __version__
from resnext.cli.benchmark import benchmark_app
from resnext.cli.data import data_app
from resnext.cli.describe import describe
from resnext.cli.doctor import doctor
from resnext.cli.evaluate import evaluate
from resnext.cli.solve import solve
from resnext.cli.train import train
from resnext.errors import ResNextError

INTERRUPTED = 130
BROKEN_PIPE = 141
"""128 and the number of the signal, as shells count it."""

# click.ClickException; newer versions of typer carry their own copy of click.
_ParserError = cast("type[Exception]", typer.BadParameter.__mro__[2])

app = typer.Typer(
    help="ResNeXt: describe, train and evaluate networks of aggregated transformations.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
for _command in (describe, solve, train, evaluate, doctor):
    app.command()(_command)
app.add_typer(data_app, name="data")
app.add_typer(benchmark_app, name="benchmark")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; goes anywhere.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    del debug, version  # taken out of the words by `run`, and answered by its callback


def run(words: Sequence[str] | None = None) -> None:
    """Run the command line and end the process; the console script's entry.

    `--debug` may stand anywhere; RESNEXT_DEBUG=1 means the same.
    """
    given = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in given or os.environ.get("RESNEXT_DEBUG") == "1"
    # Before torch is loaded: waiting threads sleep soon instead of spinning. An epoch of digits on
    # two free cores takes 1.9 s instead of 1.7, but beside other programs 4 s instead of 80.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without × still shows the rest
    command = [word for word in given if word != "--debug"] or ["--help"]
    status = _status(command, debug=debug)
    sys.exit(_flushed(status))


def _status(words: list[str], *, debug: bool) -> int:
    """The exit code of the command, its error printed."""
    try:
        return app(args=words, prog_name="resnext", standalone_mode=False) or 0
    except ResNextError as error:
        return _fail(str(error), error.exit_code, debug=debug)
    except _ParserError as error:
        return _fail(_usage(error), ResNextError.exit_code, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted; nothing was written", INTERRUPTED, debug=debug)
    except SystemExit:
        return BROKEN_PIPE  # the only reason for which the parser ends the process itself
    except Exception as error:  # noqa: BLE001 - the last resort is a line, not a traceback
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        hint = "" if debug else " (run again with --debug for the traceback)"
        return _fail(f"unexpected {what}{hint}", 1, debug=debug)


def _fail(message: str, status: int, *, debug: bool) -> int:
    """Say what went wrong on one line of stderr, behind the traceback if asked for."""
    if debug:
        traceback.print_exc()
    print("resnext: error:", " ".join(message.split()), file=sys.stderr)
    return status


def _usage(error: BaseException) -> str:
    """A parser's complaint, with where to read more."""
    message = getattr(error, "format_message", lambda: str(error))()
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "resnext"
    return f"{message.rstrip('.')}; see {command} --help"


def _flushed(status: int) -> int:
    """Write out what is still held, which fails if the reader has left."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What is held would fail once more at exit, with a message; it goes nowhere instead.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


if __name__ == "__main__":
    run()
