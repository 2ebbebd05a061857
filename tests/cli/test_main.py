import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("group", [(), ("data",), ("benchmark",), ("detect",)], ids=str)
def test_eighty_columns_have_room_for_what_each_command_does(group, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = outcome(capsys, *group, "--help")
    listed = out.partition("Commands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if line.endswith("...")] == []


def test_version(capsys):
    assert outcome(capsys, "--version")[:2] == (0, "0.1.0\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "expected a command, found 'trian'"),
        (["data", "chekc"], "expected a command, found 'chekc'"),
        (["data"], "expected a command, found none; see resnext data --help"),
        (["--foo"], "expected an option of this command, found '--foo'; see resnext --help"),
        (
            ["train", "--epoch", "3"],
            "found '--epoch' (did you mean --epochs?); see resnext train --help",
        ),
        (
            ["train", "--epochs", "ten"],
            "expected a whole number for --epochs, found 'ten'; see resnext train --help",
        ),
        (
            ["train", "--precision", "fp8"],
            "expected fp32 or bf16 or fp16 for --precision, found 'fp8'; see resnext train --help",
        ),
        (
            ["train", "--epochs", "3", "--bad-limit=x"],
            "expected a number of at least 0 for --bad-limit, found 'x'; see resnext train --help",
        ),
        (
            ["describe", "resnet50", "--batch", "0"],
            "expected a whole number of at least 1 for --batch, found '0'",
        ),
        (
            ["solve", "--budget", "money"],
            "expected parameters or multiply-adds for --budget, found 'money'",
        ),
        (
            ["train", "--seed", "1", "--out"],
            "expected a value for --out, found none; see resnext train --help",
        ),
        (
            ["describe", "--json=3"],
            "expected no value for --json, found one; see resnext describe --help",
        ),
        (["evaluate"], "expected the argument RUN|FILE|NAME, found none; see resnext"),
        (
            ["benchmark", "input"],
            "expected the option --data, found none; see resnext benchmark input --help",
        ),
        (["recipes", "a", "b c"], "expected no more words, found 'b c'; see resnext recipes"),
        (["describe", "ResNeXt-50 (32q4d)"], "32q4d"),
        (["describe"], "expected a network's name or --all, found neither; say for example: "),
        (["explore", "--out", "/"], "expected a new file for --out, found /; move it or choose"),
        (["explore", "--out", "/no/x.html"], "expected --out in a folder that exists, found none"),
        (["describe", "resnet50", "--svg", "/"], "expected a new file for --svg, found /; move"),
        (["describe", "resnet50", "--all"], "expected --all by itself, found resnet50 with it"),
        (
            ["describe", "--all", "--classes", "5", "--resolution", "10"],
            "expected --all by itself, found --resolution, --classes with it; leave out --all",
        ),
        (["describe", "--all", "--layers", "--batch", "32"], "found --batch, --layers with it"),
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
        (OSError(5, "unplugged"), 1, "unexpected OSError: [Errno 5] unplugged (run again"),
    ],
    ids=["KeyError", "RuntimeError", "OSError"],
)
def test_the_unexpected_is_one_line_too(capsys, monkeypatch, error, status, line):
    monkeypatch.setattr(main, "app", failing(error))
    code, _, err = outcome(capsys, "describe", "resnet50")
    assert code == status
    assert err.startswith(f"resnext: error: {line}")
    assert err.count("\n") == 1


def test_an_interrupt_is_no_error_and_promises_nothing(capsys, monkeypatch):
    monkeypatch.setattr(main, "app", failing(KeyboardInterrupt()))
    code, _, err = outcome(capsys, "describe", "resnet50")
    assert (code, err) == (130, "resnext: interrupted\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (">&-", "it is closed"),
        pytest.param(
            ">/dev/full",
            "No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here"),
        ),
    ],
)
@pytest.mark.parametrize("words", ["describe --all", "--help"])
def test_output_that_cannot_be_written_is_one_line_and_exit_code_5(
    words, where, reason, unbuffered
):
    command = f"'{sys.executable}' -m resnext.cli.main {words} {where}"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    result = subprocess.run(
        ["sh", "-c", command], stderr=subprocess.PIPE, text=True, env=environment
    )
    expected = f"resnext: error: cannot write standard output: {reason}\n"
    assert (result.returncode, result.stderr) == (5, expected)


def test_a_closed_stderr_changes_nothing():
    command = f"'{sys.executable}' -m resnext.cli.main"
    for words, status in (("describe resnet50", 0), ("describe '?'", 2)):
        result = subprocess.run(
            ["sh", "-c", f"{command} {words} 2>&-"], stdout=subprocess.PIPE, text=True
        )
        assert result.returncode == status
        assert "error" not in result.stdout


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


def test_describe_draws_a_network_into_a_file(capsys, tmp_path):
    file = tmp_path / "x50.svg"
    words = ("describe", "ResNeXt-50 (32x4d)", "--resolution", "160", "--svg", str(file))
    status, out, _ = outcome(capsys, *words)
    assert status == 0
    assert "1×1" in out
    drawn = file.read_text(encoding="utf-8")
    assert "160×160" in drawn
    assert "<style>" in drawn, "colours of its own, as no page gives it any"
    status, _, err = outcome(capsys, *words)
    assert status == 2
    assert f"expected a new file for --svg, found {file}" in err
    assert file.read_text(encoding="utf-8") == drawn
