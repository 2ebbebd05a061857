"""Several processes over one experiment; a process that is killed in it."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

LINE = (
    "reproduce",
    "residual",
    "--seeds",
    "1",
    "--epochs",
    "1",
    "--device",
    "cpu",
    "--out",
    "made",
)
BARE = ("--only", "resnet50_noshortcut", "--only", "resnext50_32x4d_noshortcut")
RUNS = ["residual/resnet50_noshortcut-seed0", "residual/resnext50_32x4d_noshortcut-seed0"]


def start(folder, *words, terminal=False):
    """The line, or others; with `terminal` in the place of one that a terminal interrupts."""
    return subprocess.Popen(
        [sys.executable, "-m", "resnext", *(words or LINE)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=terminal,
    )


def wait_until(reached, process):
    end = time.monotonic() + 90
    while not reached():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def begun(out):
    return re.findall(r"(\S+): begun", out)


def test_two_processes_share_the_runs_out(tmp_path):
    words = (*LINE, *BARE)
    both = [start(tmp_path, *words), start(tmp_path, *words)]
    outs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    ours = [begun(out) for out, _ in outs]
    assert sorted(ours[0] + ours[1]) == RUNS
    for run in RUNS:
        epochs = (tmp_path / "made" / run / "metrics.jsonl").read_text()
        assert epochs.count("\n") == 1


@pytest.mark.slow
def test_parallel_starts_processes_and_reports_once(tmp_path):
    process = start(tmp_path, *LINE, *BARE, "--parallel", "2")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert sorted(begun(out)) == RUNS
    assert out.count("report  ") == 1
    assert "2 of 4 runs are missing" in out


@pytest.mark.parametrize(
    "sent", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_the_same_line_continues(tmp_path, sent):
    words = [*LINE, "--only", "resnet50_noshortcut"]
    words[words.index("--epochs") + 1] = "4"
    process = start(tmp_path, *words)
    metrics = tmp_path / "made" / "residual" / "resnet50_noshortcut-seed0" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.read_text(), process)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-sent if sent == signal.SIGKILL else 75), err
    done = metrics.read_text().count("\n")
    assert 1 <= done < 4
    again = start(tmp_path, *words)
    out, err = again.communicate(timeout=120)
    assert (again.returncode, err) == (0, "")
    assert re.search(r"begun, 1 of 1, continuing behind epoch [123]", out)
    assert metrics.read_text().count("\n") == 4


def test_one_interrupt_of_the_terminal_is_one_for_each_process(tmp_path):
    words = [*LINE, *BARE, "--parallel", "2"]
    words[words.index("--epochs") + 1] = "1000"
    process = start(tmp_path, *words, terminal=True)
    places = [tmp_path / "made" / run / "run.json" for run in RUNS]
    wait_until(lambda: all(place.exists() for place in places), process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out.count("is saved; the same line continues") == 2
