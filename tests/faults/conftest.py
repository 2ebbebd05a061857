import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

TRAIN = (
    *("train", "--network", "ResNeXt-11 (2x2d, CIFAR)", "--recipe", "small", "--epochs", "2"),
    *("--device", "cpu", "--seed", "3", "--out", "run"),
)
EACH = (*TRAIN, "--save-seconds", "0")
"""Two epochs of two steps, saved after every one of them."""

CLOCK = ("seconds", "waited", "images_per_second", "data_wait")


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    done: list | None
    """The operations that were counted; None where the process was killed."""


class Injector:
    """Commands with and without faults, in children of one process that has torch loaded."""

    def __init__(self, notes):
        environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
        environment["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as `resnext launch` has it
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, TESTS / "faults" / "injector.py", notes]
        self.notes, self._pending = notes, False
        self._process = subprocess.Popen(command, env=environment, **pipes)

    def ask(self, folder, words, **fault):
        """Begin a command; the numbers of its processes. `answers` waits for their end."""
        if self._pending:
            self.answers()  # of a test that failed before it asked
        request = {"folder": str(folder), "words": [str(word) for word in words], **fault}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        self._pending = True
        return self._read()

    def answers(self):
        self._pending = False
        return [Ended(**one) for one in self._read()]

    def _read(self):
        line = self._process.stdout.readline()
        assert line, f"the injector itself ended with {self._process.wait(timeout=10)}"
        return json.loads(line)

    def run(self, folder, words, **fault):
        """The end of one process."""
        self.ask(folder, words, **fault)
        (ended,) = self.answers()
        return ended

    def run_all(self, folder, words, ranks, **fault):
        """The ends of several that train together."""
        self.ask(folder, words, ranks=ranks, **fault)
        return self.answers()

    def wait_for(self, text, rank=0, seconds=60):
        """Until a process has printed so."""
        file, end = self.notes / f"out{rank}", time.monotonic() + seconds
        while not (file.exists() and text in file.read_text()):
            assert time.monotonic() < end, f"no {text!r} in {seconds} s"
            time.sleep(0.02)

    def close(self):
        self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def injector(tmp_path_factory):
    made = Injector(tmp_path_factory.mktemp("injector"))
    yield made
    made.close()


def lines(file, without=CLOCK):
    """A log without what the clock says."""
    found = file.read_text().splitlines() if file.exists() else []
    records = [json.loads(line) for line in found]
    return [{k: v for k, v in record.items() if k not in without} for record in records]


def contents(run):
    """What a finished run left behind, apart from what the clock says."""
    newest = sorted((run / "checkpoints").glob("step-????????"))[-1]
    state = json.loads((newest / "state.json").read_text())
    return {
        "weights": (run / "weights.safetensors").read_bytes(),
        "weights' sum": (run / "weights.safetensors.sha256").read_text(),
        "newest": newest.name,
        "checkpoint": [
            (newest / name).read_bytes() for name in ("weights.safetensors", "training.safetensors")
        ],
        "state": {name: value for name, value in state.items() if name not in CLOCK},
        "epochs": lines(run / "metrics.jsonl"),
        "steps": lines(run / "steps.jsonl"),
        "files": sorted(
            str(path.relative_to(run)) for path in run.rglob("*") if ".damaged" not in str(path)
        ),
    }


def differing(one, other):
    """Names of what differs: a diff of bytes helps nobody."""
    return [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]


def tree(folder):
    """All that lies in a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A folder with a finished run of one's own."""
    shutil.copytree(undisturbed[0], tmp_path / "run")
    return tmp_path


@pytest.fixture(scope="session")
def _cut(injector, tmp_path_factory, undisturbed):
    folder = tmp_path_factory.mktemp("cut")
    third = [at for at, name in enumerate(undisturbed[1], start=1) if name == "rename"][2]
    assert injector.run(folder, EACH, kind="kill", at=third + 7).status == -9
    return folder


@pytest.fixture
def cut(_cut, tmp_path):
    """A folder with a run of one's own that was killed behind its third step."""
    shutil.copytree(_cut / "run", tmp_path / "run")
    return tmp_path


@pytest.fixture(scope="session")
def undisturbed(injector, tmp_path_factory):
    """The run that every other one must end like, and the operations it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = injector.run(folder, EACH)
    assert (ended.status, ended.err) == (0, "")
    return folder / "run", ended.done
