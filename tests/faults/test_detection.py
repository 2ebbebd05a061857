"""A detector that is killed in either of its steps continues to the bit; two processes are one."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch

from resnext.cli.main import run as command
from resnext.training.checkpoint import load_weights
from unit.detection.scenes import write_scenes

FEW = ("shorter=[64]", "longer=96", "after=[40, 30]", "rois=8", "warmup=2", "at_once=1")
PAPER = (*FEW, "crop_side=7", "anchors=[[16, 32]]", "rpn_width=16")

KILLED = """
import os, signal, sys
from resnext.cli.main import run
from resnext.detection.trainer import DetectionTrainer
original = DetectionTrainer._losses
def dying(self, items):
    if self.before + self.done == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, items)
DetectionTrainer._losses = dying
run(sys.argv[2:])
"""


@pytest.fixture
def data(tmp_path):
    write_scenes(tmp_path / "data", "train2017", 6)
    write_scenes(tmp_path / "data", "val2017", 3, first=31)
    return tmp_path


def words(data, out, profile, *more):
    settings = PAPER if profile == "paper" else FEW
    chosen = [word for setting in settings for word in ("--set", setting)]
    return [
        *("detect", "train", "--data", str(data / "data"), "--profile", profile, "--steps", "4"),
        *("--batch-size", "2", "--device", "cpu", "--out", str(data / out), *chosen, *more),
    ]


def run(*command):
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=200
    )


def here(*given):
    """The command in this process."""
    with pytest.raises(SystemExit) as ended:
        command(list(given))
    assert ended.value.code == 0


def undisturbed(data, profile):
    here(*words(data, "whole", profile))
    return load_weights(data / "whole" / "weights.safetensors")


def test_killed_in_both_steps_of_the_papers_profile(data, capsys):
    wanted = undisturbed(data, "paper")
    line = words(data, "killed", "paper", "--save-seconds", "0")
    for update in (2, 6):
        assert run("-c", KILLED, str(update), *line).returncode == -9
    here(*line)
    assert "continuing behind step 2 of 4 (fast)" in capsys.readouterr().out
    found = load_weights(data / "killed" / "weights.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    steps = [(data / out / "steps.jsonl").read_text() for out in ("whole", "killed")]
    plain = [re.sub(r'"(seconds|data_wait)":[0-9.e-]+', "", text) for text in steps]
    assert plain[0] == plain[1]


def test_two_processes_are_one(data):
    wanted = undisturbed(data, "small")
    done = run("-m", "resnext", "launch", "--processes", "2", *words(data, "two", "small"))
    assert done.returncode == 0, done.stderr
    found = load_weights(data / "two" / "weights.safetensors")
    for name, tensor in wanted.items():
        # a sum of two has no order
        assert torch.equal(found[name], tensor), name
    losses = []
    for out in ("whole", "two"):
        text = (data / out / "steps.jsonl").read_text()
        losses.append([float(x) for x in re.findall(r'"loss_[a-z_]+":([0-9.e-]+)', text)])
    assert losses[0] == losses[1]
    assert json.loads((data / "two" / "detection.json").read_text())["processes"] == 2


def test_a_scheduler_may_ask_all_processes_to_end(data):
    """Workers too: the run is saved all the same, and continues."""
    line = words(data, "asked", "small", "--workers", "2")
    line[line.index("--steps") + 1] = "500"
    asked = subprocess.Popen(
        [sys.executable, "-m", "resnext", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for text in asked.stdout:
        if " 50/500" in text:
            break
    os.killpg(asked.pid, signal.SIGTERM)
    _, err = asked.communicate(timeout=60)
    assert asked.returncode == 75
    assert err.startswith("resnext: asked to end; all up to step ")
    assert err.count("\n") == 1
    assert len(list((data / "asked" / "checkpoints").glob("step-*"))) == 1
