"""A program that runs the command line with a fault in it, without a change to the product.

It loads torch once and forks a child for each request, a line of JSON on stdin:

{"words": ["train", ...], "folder": "where to run", "kind": "kill", "at": 12}

`kill` ends the child by SIGKILL at its `at`-th operation on a file below the folder, a write half
done; `full` fails that one and all later ones that need room with ENOSPC; `once` fails that one
alone. Without a kind nothing is wrong. The answer is a line of JSON too: the exit status, stderr,
and the operations that were counted. Nothing is flushed to the real disk, since a process that is
killed loses nothing that was written.
"""

import builtins
import errno
import io
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

FREEING = ("unlink", "rmdir", "truncate")


class Disk:
    """Counts what is done to files below a folder, and fails at one of them."""

    def __init__(self, folder, kind, at):
        self.folder, self.kind, self.at = os.path.realpath(folder), kind, at
        self.done = []

    def below(self, path, dir_fd=None):
        """Whether a path, or the file of a descriptor, lies below the folder."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")  # noqa: PTH115 - the patched module itself
        base = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()  # noqa: PTH109, PTH115
        return os.path.join(base, os.fspath(path)).startswith(self.folder + os.sep)  # noqa: PTH118

    def operate(self, name, before=lambda: None):
        """Count one operation; `before` is the half of it that is done when it fails."""
        self.done.append(name)
        number = len(self.done)
        reached = number >= self.at if self.kind == "full" else number == self.at
        if not self.kind or not reached or (self.kind == "full" and name in FREEING):
            return
        before()
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def install(self):
        """Put itself between Python and the system."""
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate"):
            self._wrap(name)
        self._wrap("pwrite", data=1)
        self._wrap("open", only=lambda flags: flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
        original = io.open

        def opened(file, mode="r", *rest, **named):
            if not set(mode) & set("wax+") or not self.below(file):
                return original(file, mode, *rest, **named)
            self.operate("open")
            return Writing(original(file, mode, *rest, **named), self)

        io.open = builtins.open = opened

    def _wrap(self, name, data=None, only=lambda _: True):
        original = getattr(os, name)

        def wrapped(path, *rest, **named):
            wanted = name != "open" or only(rest[0])
            if wanted and self.below(path, named.get("dir_fd")):
                half = rest[0][: len(rest[0]) // 2] if data else None
                label = "truncate" if name == "ftruncate" else name
                self.operate(label, lambda: data and original(path, half, *rest[1:]))
            return None if name == "fsync" else original(path, *rest, **named)

        setattr(os, name, wrapped)


class Writing:
    """A file open for writing."""

    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def write(self, data):
        self._disk.operate("write", lambda: self._half(data))
        return self._file.write(data)

    def _half(self, data):
        self._file.write(data[: len(data) // 2])
        self._file.flush()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def sides():
    """48 pictures to train on and 20 to validate on, as the unit tests have them."""
    from resnext.data import DataSet
    from unit.runs.conftest import part

    return DataSet(name="digits", location="digits", train=part(48, 0), validation=part(20, 1))


def with_inf(data, images):
    """The data set with pixels that are no finite numbers in some images of the first pass."""
    from resnext.data.loader import Batches

    original = Batches.__iter__

    def broken(self):
        for batch in original(self):
            hit = np.isin(batch.indices.numpy(), images)
            if (
                hit.any()
                and self.allowed is not None
                and getattr(self.maker, "seed", 0) is not None
            ):
                batch.images[torch.from_numpy(hit)] = float("inf")
            yield batch

    Batches.__iter__ = broken
    return data


def slow_forward(seconds, at):
    """Let the `at`-th call of the network take so long."""
    from resnext.model import network

    forward = network.ResNeXt.forward
    calls = iter(range(1, at + 1))

    def slowed(self, x):
        if next(calls, 0) == at:
            sys.stdout.write("slow\n")
            sys.stdout.flush()
            time.sleep(seconds)
        return forward(self, x)

    network.ResNeXt.forward = slowed


def prepare(request):
    """Small data, frequent lines in the log, and whatever else the request wants."""
    from resnext.runs import planning, running

    data = sides()
    planning.open_data = lambda _: data
    running.LOG_UPDATES = 2
    if "inf" in request:
        with_inf(data, request["inf"])
    if "slow" in request:
        slow_forward(*request["slow"])
    if "room" in request:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["room"],) * 2)


def child(request, notes):
    """Run the command line, with its output and what was counted in files."""
    os.chdir(request["folder"])
    sys.argv = ["resnext", *request["words"]]
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(notes / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(file, number)
    disk = Disk(request["folder"], request.get("kind"), request.get("at", 0))
    code = 1
    try:
        prepare(request)
        disk.install()
        from resnext.cli.main import run

        run(request["words"])
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with os.fdopen(os.open(notes / "done", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), "w") as file:
            json.dump(disk.done, file)
        os._exit(code)


def main():
    """Answer requests until there are none."""
    import torch._dynamo  # loaded once, for all children

    import resnext.cli.main
    import resnext.runs.running  # noqa: F401
    from resnext.model.network import build

    build("ResNeXt-11 (2x2d, CIFAR)", form="grouped", seed=0)
    torch.set_num_threads(1)
    notes = Path(sys.argv[1])
    for line in sys.stdin:
        (notes / "done").unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            child(json.loads(line), notes)
        _, status = os.waitpid(pid, 0)
        done = notes / "done"
        answer = {
            "status": os.waitstatus_to_exitcode(status),
            "out": (notes / "out").read_text(),
            "err": (notes / "err").read_text(),
            "done": json.loads(done.read_text()) if done.exists() else None,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
