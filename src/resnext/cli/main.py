"""The `resnext` command: its subcommands, and how an error becomes one line and an exit code."""

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import typer

from resnext import __version__
from resnext.cli.benchmark import benchmark_app
from resnext.cli.compare import compare
from resnext.cli.data import data_app
from resnext.cli.describe import describe
from resnext.cli.detect import detect_app
from resnext.cli.doctor import doctor
from resnext.cli.evaluate import evaluate
from resnext.cli.explore import explore
from resnext.cli.export import export
from resnext.cli.launch import first_to_say, launch, left_with, settled, speaks
from resnext.cli.predict import predict
from resnext.cli.recipes import recipes
from resnext.cli.report import report
from resnext.cli.reproduce import reproduce
from resnext.cli.serve import serve
from resnext.cli.solve import solve
from resnext.cli.train import train
from resnext.errors import INTERRUPTED, ResNextError, ResourceError

BROKEN_PIPE = 141
"""128 and the number of the signal, as shells count it."""

# What the parser says, in its several versions, and what is said instead.
_NEAR = r"(?:Possible options: |Did you mean:? )'?(.*?)'?[?).]*$"
_WORDINGS = (
    (r"No such command '(.*?)'", r"expected a command, found '\1'"),
    (r"No such option:? '?([^' ]*[^'. ])", r"expected an option of this command, found '\1'"),
    (r"Option '(.*)' requires", r"expected a value for \1, found none"),
    (r"Option '(.*)' does not take", r"expected no value for \1, found one"),
    (r"Missing (argument|option) '(.*?)'", r"expected the \1 \2, found none"),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", r"expected no more words, found '\1'"),
    (r"Usage: ", "expected a command, found none"),
)

# click.ClickException; newer versions of typer carry their own copy of click.
_ParserError = cast("type[Exception]", typer.BadParameter.__mro__[2])

app = typer.Typer(
    help="ResNeXt: describe, train and evaluate networks of aggregated transformations.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
for _command in (
    describe,
    solve,
    explore,
    recipes,
    train,
    evaluate,
    predict,
    serve,
    export,
    reproduce,
    report,
    compare,
    doctor,
):
    app.command()(_command)
app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(
    launch
)
app.add_typer(data_app, name="data")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(detect_app, name="detect")


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
    if sys.stderr is None:  # closed by the caller: no other file may get its number
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - till the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without × still shows the rest
    command = [word for word in given if word != "--debug"] or ["--help"]
    if sys.stdout is None:
        sys.exit(_no_output(OSError("it is closed"), debug=debug))
    status = settled()
    if status is None:
        status = _flushed(_status(command, debug=debug), debug=debug)
    sys.exit(left_with(status))


def _status(words: list[str], *, debug: bool) -> int:
    """The exit code of the command, its error printed."""
    try:
        return app(args=words, prog_name="resnext", standalone_mode=False) or 0
    except ResNextError as error:
        told = bool(getattr(error, "__notes__", ()))
        return error.exit_code if told else _fail(str(error), error.exit_code, debug=debug)
    except _ParserError as error:
        if not speaks():
            return ResNextError.exit_code
        return _fail(_usage(error, words), ResNextError.exit_code, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        print("resnext: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit:
        return BROKEN_PIPE  # the only reason for which the parser ends the process itself
    except Exception as error:  # noqa: BLE001 - the last resort is a line, not a traceback
        # An error of a file has a name, unless writing failed; then the output may be at fault.
        unnamed = isinstance(error, OSError) and error.filename is None
        if unnamed and (problem := _output_problem(probe="\n")):
            return _no_output(problem, debug=debug)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        hint = "" if debug else " (run again with --debug for the traceback)"
        return _fail(f"unexpected {what}{hint}", 1, debug=debug)


def _fail(message: str, status: int, *, debug: bool) -> int:
    """Say what went wrong on one line of stderr, behind the traceback if asked for.

    Of several processes that end with one error, one says it.
    """
    if not first_to_say():
        return status
    if debug:
        traceback.print_exc()
    print("resnext: error:", " ".join(message.split()), file=sys.stderr)
    return status


def _usage(error: BaseException, words: list[str]) -> str:
    """A parser's complaint in our words, with where to read more."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else _command_path(words)
    message = _bad_value(error, words) or _reworded(
        getattr(error, "format_message", lambda: str(error))()
    )
    return f"{message}; see {command} --help"


def _command_path(words: list[str]) -> str:
    """The command that the words start with."""
    command: Any = typer.main.get_command(app)
    path = ["resnext"]
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        path.append(word)
    return " ".join(path)


def _reworded(message: str) -> str:
    """What was expected and what was found; a message that is not known stays as it is."""
    near = re.search(_NEAR, message)
    hint = f" (did you mean {near[1]}?)" if near else ""
    for pattern, wording in _WORDINGS:
        if found := re.match(pattern, message):
            return found.expand(wording) + hint
    return message.rstrip(".")


def _bad_value(error: BaseException, words: list[str]) -> str | None:
    """What a parameter takes and what it was given; None for other complaints."""
    parameter, context = getattr(error, "param", None), getattr(error, "ctx", None)
    if parameter is None or context is None:
        return None
    given = _given(words, parameter.opts)
    kind = _kind(context.command.callback, parameter.name)
    if given is None or kind is None:
        return None
    return f"expected {kind} for {parameter.opts[0]}, found {given!r}"


def _given(words: list[str], options: Sequence[str]) -> str | None:
    """The last value given to an option."""
    found = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name in options:
            found = value if equals else following
    return found


def _kind(callback: Callable[..., Any], parameter: str) -> str | None:
    """What a command's parameter takes, in words."""
    annotated, option = get_args(inspect.signature(callback).parameters[parameter].annotation)
    kinds = get_args(annotated) or (annotated,)
    words = [word for kind in (annotated, *kinds) for word in _words(kind)]
    if words:
        return " or ".join(words)
    if not {int, float} & set(kinds):
        return None
    least = "" if option.min is None else f" of at least {option.min}"
    return ("a whole number" if int in kinds else "a number") + least


def _words(kind: Any) -> tuple[str, ...]:
    """What a parameter of fixed words takes."""
    return get_args(kind) if get_origin(kind) is Literal else ()


def _output_problem(probe: str = "") -> OSError | None:
    """Why nothing can be written out; a stream that holds nothing back needs a probe to tell."""
    try:
        sys.stdout.write(probe)
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def _flushed(status: int, *, debug: bool) -> int:
    """Write out what is still held, which fails if the reader has left or the disk is full."""
    problem = _output_problem()
    if problem is None:
        return status
    # What is held would fail once more at exit, with a message; it goes nowhere instead.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status or _no_output(problem, debug=debug)


def _no_output(problem: OSError, *, debug: bool) -> int:
    if isinstance(problem, BrokenPipeError):
        return BROKEN_PIPE  # the reader has seen enough
    reason = problem.strerror or str(problem)
    return _fail(f"cannot write standard output: {reason}", ResourceError.exit_code, debug=debug)


if __name__ == "__main__":
    run()
