"""Two processes train as one, and end together.

They find each other as under torchrun, whose environment they are given; `test_launch.py` has the
few tests that start it.
"""

import math
import os
import signal
import time
from pathlib import Path

import pytest

from faults.conftest import EACH, TRAIN, contents, differing, lines

MODERN = (
    *("--set", "mixup=0.2", "--set", "cutmix=1.0", "--set", "ema=0.9"),
    *("--set", "label_smoothing=0.1", "--set", "decay_all=false"),
)
ACCUMULATED = (*("--batch-size", "64", "--micro-batch", "16"), *("--set", "learning_rate=0.004"))

# A batch has 32 images, so each process has one part of 16, or in the last batch of an epoch:
CASES = {
    "an empty share": ((), {}),
    "9 images in the last batch": ((), {"count": 41}),
    "a batch of 33": ((), {"count": 33}),
    "modern": (MODERN, {}),
    "sharded": (("--shard",), {}),
    "sharded, unevenly": ((*ACCUMULATED, "--shard", "--batch-size", "48"), {"count": 160}),
    "sharded, accumulated": ((*ACCUMULATED, "--shard"), {"count": 160}),
    "accumulated": (ACCUMULATED, {"count": 160}),
    "accumulated, modern": ((*ACCUMULATED, *MODERN), {"count": 160}),
}

EXACT = {"an empty share", "9 images in the last batch", "a batch of 33", "modern"}
"""Where at most two gradients are added, the order of the sum cannot matter."""

TOLERANCE = 4e-6
"""Otherwise a sum in another order is off by half a unit in the last place, 6e-8, a time, which
training multiplies, and the more the higher the rate: measured at most 4e-7 of the loss over 6
steps at 0.004; 10 times that is allowed."""


def losses(folder):
    metrics = lines(folder / "run" / "metrics.jsonl")
    steps = lines(folder / "run" / "steps.jsonl")
    assert all(math.isfinite(line["loss"]) for line in steps)
    return [line["train_loss"] for line in metrics] + [line["loss"] for line in steps]


SLOW = ("sharded, unevenly", "accumulated, modern")
"""What two others of them show between them."""


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES]
)
def test_two_have_the_losses_of_one(injector, tmp_path, case):
    words, data = CASES[case]
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    alone = injector.run(one, (*TRAIN, *words), data=data)
    assert (alone.status, alone.err) == (0, "")
    together = injector.run_all(two, (*TRAIN, *words), 2, data=data)
    assert [(end.status, end.err) for end in together] == [(0, ""), (0, "")]
    assert together[1].out == ""
    if case in EXACT:
        assert losses(two) == losses(one)
    else:
        assert losses(two) == pytest.approx(losses(one), rel=TOLERANCE)


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_another_number_of_processes_continues_at_the_same_image(
    injector, tmp_path, undisturbed, first, then
):
    killed = injector.run_all(tmp_path, EACH, first, die=3)
    assert killed[0].status == -9
    ends = injector.run_all(tmp_path, EACH, then)
    assert [(end.status, end.err) for end in ends] == [(0, "")] * then
    assert "continuing behind step 2 of 2 in epoch 1" in ends[0].out
    found, expected = contents(tmp_path / "run"), contents(undisturbed[0])
    for log, name in (("epochs", "train_loss"), ("steps", "loss")):
        assert [line[name] for line in found[log]] == [line[name] for line in expected[log]]


@pytest.mark.parametrize(
    ("rank", "step"),
    [(0, 3)] + [pytest.param(r, s, marks=pytest.mark.slow) for r, s in ((0, 1), (1, 2), (1, 4))],
)
def test_killed_at_a_step_it_ends_soon_and_continues_to_the_bit(
    injector, tmp_path, rank, step, together
):
    started = time.monotonic()
    ends = injector.run_all(tmp_path, EACH, 2, die=step, rank=rank)
    assert time.monotonic() - started < 60
    assert ends[rank].status == -9
    other = ends[1 - rank]
    assert (other.status, other.err.count("\n")) == (5, 1)
    assert "lost " in other.err
    assert "gloo/transport" not in other.err
    ends = injector.run_all(tmp_path, EACH, 2)
    assert [(end.status, end.err) for end in ends] == [(0, ""), (0, "")]
    assert differing(contents(tmp_path / "run"), together) == []


@pytest.fixture(scope="module")
def together(injector, tmp_path_factory):
    """What two processes leave that nothing disturbs."""
    folder = tmp_path_factory.mktemp("together")
    ends = injector.run_all(folder, EACH, 2)
    assert [(end.status, end.err) for end in ends] == [(0, ""), (0, "")]
    return contents(folder / "run")


def test_what_the_first_cannot_save_ends_all_with_the_cause(injector, tmp_path):
    started = time.monotonic()
    ends = injector.run_all(tmp_path, EACH, 2, refuse=2, rank=0)
    assert time.monotonic() - started < 60
    assert [end.status for end in ends] == [5, 5]
    assert "cannot write run/checkpoints/step-00000002: Permission denied" in ends[0].err
    assert ends[0].err.count("\n") == 1
    assert ends[1].err == ""  # the first has said it


def test_a_programming_error_in_one_ends_the_other(injector, tmp_path):
    ends = injector.run_all(tmp_path, EACH, 2, raises=2, rank=1)
    assert [end.status for end in ends] == [5, 1]
    assert "process 1 stopped: a mistake" in ends[0].err
    assert "unexpected TypeError: a mistake" in ends[1].err


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_one_of_them_is_asked_to_end_and_all_do(injector, tmp_path, together, rank):
    pids = injector.ask(tmp_path, TRAIN, ranks=2, slow=(1.0, 2), rank=rank)
    injector.wait_for("slow", rank=rank)
    os.kill(pids[rank], signal.SIGTERM)
    ends = injector.answers()
    assert [end.status for end in ends] == [75, 75]
    assert ends[0].err.count("\n") == 1
    assert ends[1].err == ""
    ends = injector.run_all(tmp_path, TRAIN, 2)
    assert [(end.status, end.err) for end in ends] == [(0, ""), (0, "")]
    assert set(differing(contents(tmp_path / "run"), together)) <= {"files"}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_stopped_is_missed_by_name(injector, tmp_path, rank):
    pids = injector.ask(tmp_path, EACH, ranks=2, slow=(3.0, 2), rank=rank)
    injector.wait_for("slow", rank=rank)
    started = time.monotonic()
    os.kill(pids[rank], signal.SIGSTOP)
    try:
        end = started + 70
        stat = Path(f"/proc/{pids[1 - rank]}/stat")  # gone once the injector has waited for it
        while time.monotonic() < end and stat.exists() and stat.read_text().split()[2] != "Z":
            time.sleep(0.5)
        assert time.monotonic() - started < 60
    finally:
        os.kill(pids[rank], signal.SIGKILL)
    ends = injector.answers()
    assert ends[1 - rank].status == 5
    assert f"lost process {rank}: no life sign for 40 s" in ends[1 - rank].err
    assert ends[1 - rank].err.count("\n") == 1


def test_words_that_fit_nothing_are_one_line(injector, tmp_path):
    for words, status in (((*TRAIN, "--epochs", "0"), 2), ((*TRAIN, "--nonsense"), 2)):
        ends = injector.run_all(tmp_path, words, 2)
        assert [end.status for end in ends] == [status, status]
        assert sum(end.err.count("\n") for end in ends) == 1
        assert not (tmp_path / "run").exists()


def test_without_a_name_the_run_could_not_be_found_again(injector, tmp_path):
    words = [word for word in TRAIN if word not in ("--out", "run")]
    ends = injector.run_all(tmp_path, words, 2)
    assert [end.status for end in ends] == [2, 2]
    assert "expected --out with several processes" in ends[0].err
    assert list(tmp_path.iterdir()) == []
