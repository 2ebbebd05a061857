"""`resnext launch`: real torchrun, real processes, some of which are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.conftest import EACH, TRAIN, contents, differing

HERE = Path(__file__).parent
LAUNCH = (sys.executable, "-m", "resnext", "launch", "--processes", "2")


@pytest.fixture(scope="session")
def environment():
    """Of the launched."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE / "site"), str(HERE.parent)]),
        "OMP_NUM_THREADS": "1",
        "RESNEXT_FAULTS": "{}",
    }


def start(environment, folder, options, words, **faults):
    return subprocess.Popen(
        [*LAUNCH, *options, *words],
        cwd=folder,
        env=environment | {"RESNEXT_FAULTS": json.dumps(faults)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launched(environment, folder, options, words, **faults):
    process = start(environment, folder, options, words, **faults)
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def together(injector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    ends = injector.run_all(folder, EACH, 2)
    assert [(end.status, end.err) for end in ends] == [(0, ""), (0, "")]
    return contents(folder / "run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("--epochs", "0"), "expected at least 1 epoch", marks=pytest.mark.slow),
        (("--nonsense",), "expected an option"),
    ],
    ids=["value", "option"],
)
def test_what_is_wrong_is_said_once_and_not_tried_again(environment, tmp_path, words, message):
    status, out, err = launched(environment, tmp_path, (), (*TRAIN, *words))
    assert (status, out) == (2, "")
    assert err.startswith(f"resnext: error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("rank", "step"),
    [(1, 3)] + [pytest.param(r, s, marks=pytest.mark.slow) for r in (0, 1) for s in (1, 2, 4)],
)
def test_a_worker_that_is_killed_is_started_again(environment, tmp_path, together, rank, step):
    status, _, err = launched(environment, tmp_path, (), EACH, die=step, rank=rank)
    assert status == 0, err
    assert differing(contents(tmp_path / "run"), together) == []


@pytest.mark.slow
def test_killed_for_good_all_end_soon(environment, tmp_path):
    started = time.monotonic()
    options = ("--restarts", "0")
    status, _, err = launched(environment, tmp_path, options, EACH, die=2, rank=1)
    assert time.monotonic() - started < 60
    assert status == 5
    assert "resnext: error: lost another process" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
def test_a_launcher_that_is_asked_to_end_saves_first(environment, tmp_path, together, number):
    process = start(environment, tmp_path, (), TRAIN, slow=(3.0, 1))
    for line in process.stdout:
        if line == "slow\n":
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "all up to step 1 of epoch 1 is saved" in err
    status, _, err = launched(environment, tmp_path, (), TRAIN)
    assert (status, err) == (0, "")
    assert set(differing(contents(tmp_path / "run"), together)) <= {"files"}


@pytest.mark.slow
def test_the_launcher_and_all_are_killed(environment, tmp_path, together):
    process = start(environment, tmp_path, (), EACH, slow=(60.0, 6))
    for line in process.stdout:
        if line == "slow\n":
            break
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    workers = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", *children], capture_output=True, text=True, check=True
    ).stdout.split()
    for pid in [process.pid, *map(int, children), *map(int, workers)]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    status, _, err = launched(environment, tmp_path, (), EACH)
    assert (status, err) == (0, "")
    assert differing(contents(tmp_path / "run"), together) == []
