"""Two processes that do not see the same: told by both, before anything is trained."""

import os
import shutil
import subprocess
import sys

import pytest

from faults.injector import free_port
from unit.data.pictures import write_folder

SEEN = {"a": 12, "b": 12}
TRAIN = ("train", "--data", "pictures", "--epochs", "1", "--out", "run", "--device", "cpu")


def start(folder, rank, port):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return subprocess.Popen(
        [sys.executable, "-m", "resnext", *TRAIN],
        cwd=folder,
        env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(folders):
    port = free_port()
    both = [start(folder, rank, port) for rank, folder in enumerate(folders)]
    outs = [process.communicate(timeout=120) for process in both]
    return [(process.returncode, err) for process, (_, err) in zip(both, outs, strict=True)]


@pytest.fixture
def folders(tmp_path):
    """Of two machines that have the same pictures."""
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        write_folder(place / "pictures", SEEN)
    return places


def test_a_machine_without_the_pictures_is_named(folders):
    shutil.rmtree(folders[1] / "pictures")
    (first, told), (second, silent) = ends(folders)
    assert (first, second) == (3, 3)
    assert told.startswith("resnext: error: ")
    assert "pictures" in told
    assert (told.count("\n"), silent) == (1, "")
    assert not (folders[0] / "run").exists()


def test_a_machine_with_other_pictures_is_named(folders):
    (folders[1] / "pictures" / "a" / "3.png").rename(folders[1] / "pictures" / "b" / "x.png")
    (first, told), (second, silent) = ends(folders)
    assert (first, second) == (3, 3), told
    assert "expected the same in all processes, found " in told
    assert "; images " in told
    assert told.endswith(" in process 1\n")
    assert (told.count("\n"), silent) == (1, "")
    assert not (folders[0] / "run").exists()
