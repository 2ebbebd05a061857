import subprocess
import sys

import pytest

from resnext.cli import main
from resnext.cli.main import run


def outcome(capsys, *words):
    """The exit code, stdout and stderr of the command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        run(words)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_without_words_it_shows_its_commands(capsys):
    status, out, err = outcome(capsys)
    assert (status, err) == (0, "")
    assert all(command in out for command in ("describe", "solve", "train", "evaluate"))


def test_version(capsys):
    assert outcome(capsys, "--version")[:2] == (0, "0.1.0\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--epoch", "3"], "No such option"),
        (["train", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["evaluate"], "Missing argument 'RUN'; see resnext evaluate --help"),
        (["describe", "ResNeXt-50 (32q4d)"], "32q4d"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_give_one_line_and_exit_code_2(capsys, words, expected):
    status, out, err = outcome(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("resnext: error: ")
    assert expected in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [("--debug", "describe", "?"), ("describe", "?", "--debug")])
def test_debug_anywhere_shows_the_traceback(capsys, words):
    status, _, err = outcome(capsys, *words)
    assert status == 2
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("resnext: error: ")


def test_debug_by_the_environment(capsys, monkeypatch):
    monkeypatch.setenv("RESNEXT_DEBUG", "1")
    assert outcome(capsys, "describe", "?")[2].startswith("Traceback")


def failing(error):
    def command(**_):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyError("x"), 1, "unexpected KeyError: 'x' (run again with --debug for the traceback)"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines (run again"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
    ],
    ids=["KeyError", "RuntimeError", "interrupt"],
)
def test_the_unexpected_is_one_line_too(capsys, monkeypatch, error, status, line):
    monkeypatch.setattr(main, "app", failing(error))
    code, _, err = outcome(capsys, "describe", "resnet50")
    assert code == status
    assert err.startswith(f"resnext: error: {line}")
    assert err.count("\n") == 1


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "resnext.cli.main", "describe", "--all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_help_and_describe_import_nothing_heavy():
    code = (
        "import sys; from resnext.cli.main import run\n"
        "try: run(['describe', 'resnet50'])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    heavy = {"torch", "numpy", "sklearn", "PIL", "pyarrow", "resnext.runs"}
    assert result.stdout.startswith("ResNet-50")
    assert heavy.isdisjoint(result.stderr.split())
