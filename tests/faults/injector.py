"""A program that runs the command line with a fault in it, without a change to the product.

It loads torch once and forks a child for each request, a line of JSON on stdin:

{"words": ["train", ...], "folder": "where to run", "kind": "kill", "at": 12}

`kill` ends the child by SIGKILL at its `at`-th operation on a file below the folder, a write half
done; `full` fails that one and all later ones that need room with ENOSPC; `once` fails that one
alone. Without a kind nothing is wrong there; `FAULTS` are other things to go wrong, in the process
`rank` of `ranks`. The answers are lines of JSON too: first the numbers of the processes, then, of
each, the exit status, what it printed, and the operations that were counted. Nothing is flushed to
the real disk, since a process that is killed loses nothing that was written.
"""

import builtins
import ctypes
import errno
import io
import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import torch

from resnext.errors import ResourceError

NOT_HERE = 99
"""The exit status where this machine does not allow the fault."""

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 0x20, 0x1000, 0x4000, 0x40000

FREEING = ("unlink", "rmdir", "truncate")


class Disk:
    """Counts what is done to files below a folder, and fails at one of them."""

    def __init__(self, folder, kind, at):
        self.folder, self.kind, self.at = os.path.realpath(folder), kind, at
        self.done = []

    def below(self, path, dir_fd=None):
        """Whether a path, or the file of a descriptor, lies below the folder."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        base = Path.cwd() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        return str(base / path).startswith(self.folder + os.sep)

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

    def _wrap(self, name, data=None, only=bool):
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


def sides(count=48, seed=0):
    """Pictures to train on and 20 to validate on, as the unit tests have them."""
    from resnext.data import DataSet
    from unit.runs.conftest import part

    train, validation = part(count, seed), part(20, 1)
    return DataSet(name="digits", location="digits", train=train, validation=validation)


def read_only(path):
    """Mount a folder read-only, for this process alone; its owner may be root."""
    libc = ctypes.CDLL(None, use_errno=True)
    whose = 0 if os.geteuid() == 0 else _NEWUSER
    bind = (os.fsencode(path),) * 2
    done = (
        libc.unshare(_NEWNS | whose),
        libc.mount(None, b"/", None, _PRIVATE | _REC, None),
        libc.mount(*bind, None, _BIND, None),
        libc.mount(*bind, None, _BIND | _REMOUNT | _RDONLY, None),
    )
    if any(done):
        os._exit(NOT_HERE)


def with_inf(number):
    """Pixels that are no finite numbers in one batch of training, counted over the process."""
    from resnext.data.loader import Batches

    original = Batches.__iter__
    numbers = iter(range(1, 10**6))

    def broken(self):
        for batch in original(self):
            if self.reuse and next(numbers) == number:  # of training alone
                batch.images[0] = float("inf")
            yield batch

    Batches.__iter__ = broken


def slow_forward(seconds, at):
    """Let the `at`-th call of the network take so long, and say so."""
    from resnext.model import network

    forward = network.ResNeXt.forward
    calls = iter(range(1, at + 1))

    def slowed(self, x):
        if next(calls, 0) == at:
            os.write(1, b"slow\n")
            end = time.monotonic() + seconds
            while time.monotonic() < end:  # a signal must not end it, as it would not end a kernel
                torch.ones(2000, 2000).sum()
                time.sleep(0.01)
        return forward(self, x)

    network.ResNeXt.forward = slowed


def die_at(step):
    """Have the process killed in the middle of a step, before its exchange of gradients."""
    from resnext.training.trainer import Trainer

    original = Trainer._backward

    def dying(self, *given):
        if self.position.updates + 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *given)

    Trainer._backward = dying


def refuse_to_save(at):
    """Let the `at`-th checkpoint fail, as without permission."""
    from resnext.runs import keeping

    original = keeping.save_checkpoint
    calls = iter(range(1, at + 1))

    def refused(path, checkpoint):
        if next(calls, 0) == at:
            raise ResourceError(f"cannot write {path}: Permission denied")
        original(path, checkpoint)

    keeping.save_checkpoint = refused


def raise_at(step):
    """A mistake in the code, at a step."""
    from resnext.training.trainer import Trainer

    original = Trainer._backward

    def mistaken(self, *given):
        if self.position.updates + 1 == step:
            raise TypeError("a mistake")
        return original(self, *given)

    Trainer._backward = mistaken


FAULTS = {
    "raises": raise_at,
    "inf": with_inf,
    "slow": lambda given: slow_forward(*given),
    "die": die_at,
    "refuse": refuse_to_save,
    "read_only": read_only,
}


def prepare(request, rank):
    """Small data, frequent lines in the log, and the faults of this process."""
    from resnext.runs import planning, running

    data = sides(**request.get("data", {}))
    planning.open_data = lambda _: data
    running.LOG_UPDATES = 2
    if "room" in request:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["room"],) * 2)
    for name in FAULTS.keys() & request.keys():
        if rank == request.get("rank", 0):
            FAULTS[name](request[name])


def child(request, notes, rank):
    """Run the command line, with its output and what was counted in files."""
    os.chdir(request["folder"])
    os.environ |= request.get("environment", {})
    if request.get("ranks"):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    sys.argv = ["resnext", *request["words"]]
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(notes / f"{name}{rank}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(file, number)
    disk = Disk(request["folder"], request.get("kind"), request.get("at", 0))
    code = 1
    try:
        prepare(request, rank)
        disk.install()
        from resnext.cli.main import run

        run(request["words"])
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        done = os.open(notes / f"done{rank}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        with os.fdopen(done, "w") as file:
            json.dump(disk.done, file)
        os._exit(code)


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


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
        request = json.loads(line)
        ranks = request.get("ranks", 1)
        if ranks > 1:
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
            request["environment"] = meeting | {"WORLD_SIZE": str(ranks)}
        for left in notes.iterdir():
            left.unlink()
        pids = []
        for rank in range(ranks):
            pids.append(os.fork())
            if pids[-1] == 0:
                child(request, notes, rank)
        answer(pids)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        answers = [
            {
                "status": status,
                "out": (notes / f"out{rank}").read_text(),
                "err": (notes / f"err{rank}").read_text(),
                "done": _counted(notes / f"done{rank}"),
            }
            for rank, status in enumerate(statuses)
        ]
        answer(answers)


def answer(value):
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _counted(done):
    return json.loads(done.read_text()) if done.exists() else None


if __name__ == "__main__":
    main()
