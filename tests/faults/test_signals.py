"""A process that is asked to end does so in seconds, with all saved, and goes on from there."""

import json
import os
import signal
import time

import pytest

from faults.conftest import TRAIN, contents, differing

SECONDS = 10
"""From the signal to the end: 4 for the step to end by itself, and some to save."""

# Calls of the network: 1 and 2 are the first step, 3 is the second, 4 and 5 validate, then again.


def told(injector, folder, slow, *signals, words=TRAIN):
    """The end of a run that gets signals in a slow call of the network, and its seconds."""
    (pid,) = injector.ask(folder, words, slow=slow)
    injector.wait_for("slow")
    sent = time.monotonic()
    for number in signals:
        os.kill(pid, number)
        time.sleep(0.2)
    (ended,) = injector.answers()
    return ended, time.monotonic() - sent


def goes_on(injector, folder, undisturbed, saved):
    names = sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())
    assert names[-1:] == [f"step-{saved:08d}"]
    again = injector.run(folder, TRAIN)
    assert (again.status, again.err) == (0, "")
    assert f"continuing behind step {saved - 2 * (saved > 2)} of 2" in again.out
    found, expected = contents(folder / "run"), contents(undisturbed[0])
    # the folders of older checkpoints depend on when it was saved
    assert set(differing(found, expected)) <= {"files"}
    assert not list((folder / "run").rglob("*.tmp"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
def test_in_the_middle_of_a_step_it_saves_behind_it(injector, tmp_path, undisturbed, number):
    ended, seconds = told(injector, tmp_path, (1.0, 2), number)
    assert (ended.status, ended.err.count("\n")) == (75, 1)
    assert ended.err.startswith("resnext: asked to end; all up to step 1 of epoch 1 is saved")
    assert ended.err.endswith("continue with: resnext train --resume run\n")
    assert seconds < SECONDS
    goes_on(injector, tmp_path, undisturbed, saved=1)


@pytest.mark.parametrize(
    ("call", "saved"),
    [(3, 1), pytest.param(7, 3, marks=pytest.mark.slow)],
    ids=["step 2", "step 4"],
)
def test_in_a_step_of_20_seconds_what_is_before_it_is_saved(
    injector, tmp_path, undisturbed, call, saved
):
    ended, seconds = told(injector, tmp_path, (20.0, call), signal.SIGTERM)
    assert (ended.status, ended.err) == (75, "resnext: asked to end (SIGTERM); saved\n")
    assert seconds < SECONDS
    goes_on(injector, tmp_path, undisturbed, saved)


def test_in_a_validation_of_20_seconds_the_epochs_training_is_saved(
    injector, tmp_path, undisturbed
):
    ended, seconds = told(injector, tmp_path, (20.0, 4), signal.SIGUSR1)
    assert (ended.status, ended.err) == (75, "resnext: asked to end (SIGUSR1); saved\n")
    assert seconds < SECONDS
    goes_on(injector, tmp_path, undisturbed, saved=2)


def test_in_a_validation_that_moves_on_it_ends_by_itself(injector, tmp_path, undisturbed):
    ended, seconds = told(injector, tmp_path, (1.0, 4), signal.SIGTERM)
    assert ended.status == 75
    assert "all of the epoch's training is saved" in ended.err
    assert seconds < SECONDS
    goes_on(injector, tmp_path, undisturbed, saved=2)


@pytest.mark.parametrize(
    "seconds_of_step",
    [1.0, pytest.param(20.0, marks=pytest.mark.slow)],
    ids=["quick", "slow"],
)
def test_asked_three_times_it_saves_once(injector, tmp_path, undisturbed, seconds_of_step):
    asked = (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM)
    ended, seconds = told(injector, tmp_path, (seconds_of_step, 6), *asked)
    assert ended.status == 75
    assert ended.err.count("\n") == 1
    assert seconds < SECONDS
    goes_on(injector, tmp_path, undisturbed, saved=3 if seconds_of_step == 1.0 else 2)


def test_ctrl_c_saves_behind_the_step(injector, tmp_path, undisturbed):
    ended, _ = told(injector, tmp_path, (1.0, 2), signal.SIGINT)
    assert ended.status == 130
    assert ended.err.startswith("resnext: interrupted; all up to step 1 of epoch 1 is saved")
    goes_on(injector, tmp_path, undisturbed, saved=1)


def test_the_second_ctrl_c_does_not_wait(injector, tmp_path):
    ended, seconds = told(injector, tmp_path, (20.0, 3), signal.SIGINT, signal.SIGINT)
    assert (ended.status, ended.err.count("\n")) == (130, 1)
    assert ended.err.startswith("resnext: interrupted; nothing was saved yet in run")
    assert seconds < SECONDS


def test_asked_at_the_step_of_a_line_the_line_is_there(injector, tmp_path, undisturbed):
    told(injector, tmp_path, (1.0, 3), signal.SIGTERM)
    steps = (tmp_path / "run" / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["updates"] for line in steps] == [2]
    goes_on(injector, tmp_path, undisturbed, saved=2)
