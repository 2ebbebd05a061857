"""``resnext launch``: any command in several processes, on one machine or on many."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from resnext.errors import PreemptedError, UsageError

_STATUS = "RESNEXT_STATUS"
"""Names the file in which a machine's first process leaves its exit code: torchrun's is 1."""

_FINAL = (2, 3, 4, 75, 130)
"""Exit codes that another try would end with too, or that want none: usage, data, checkpoint,
preempted, interrupted."""


def launch(
    words: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="Such as: train --out runs/x.")
    ],
    processes: Annotated[
        int | None, typer.Option(min=1, help="On this machine; one for each GPU if left out.")
    ] = None,
    nodes: Annotated[str, typer.Option(help="Machines, or the least and the most: 2:4.")] = "1",
    rendezvous: Annotated[
        str | None, typer.Option(help="host:port of one machine, the same on all.")
    ] = None,
    job: Annotated[
        str, typer.Option(help="Name of the job, the same on all machines.")
    ] = "resnext",
    restarts: Annotated[
        int, typer.Option(min=0, help="How often to start again when a process is lost.")
    ] = 3,
) -> None:
    """Run a command in several processes that train as one; started again where one is lost.

    On several machines, give the same line on each.
    """
    if nodes != "1" and rendezvous is None:
        raise UsageError("expected --rendezvous host:port for several machines, found none")
    count = processes or _gpus()
    where = ["--standalone"] if nodes == "1" else _meeting(nodes, str(rendezvous), job)
    command = [sys.executable, "-m", "torch.distributed.run", *where, f"--nproc-per-node={count}"]
    command += [f"--max-restarts={restarts}", "--monitor-interval=1", "-m", "resnext", *words]
    with tempfile.TemporaryDirectory(prefix="resnext-launch-") as folder:
        status = Path(folder) / "status"
        raise typer.Exit(_run(command, _environment(count, status), status))


def _meeting(nodes: str, rendezvous: str, job: str) -> list[str]:
    return [
        f"--nnodes={nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={rendezvous}",
        f"--rdzv-id={job}",
    ]


def _environment(count: int, status: Path) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    settings = {
        # Otherwise a process that starts again may find the address of one that is dead
        # (pytorch/pytorch#135712).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(max(1, (cores or 1) // count)),
        # Otherwise the loss of a process is twenty lines of C++ before the one that says which.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        _STATUS: str(status),
    }
    return settings | os.environ | {_STATUS: str(status)}


def _run(command: list[str], environment: dict[str, str], status: Path) -> int:
    """The exit code of the first process where it left one that is no success, else torchrun's."""
    for number in _SIGUSR1:  # torchrun would die of it, where a scheduler sends it to everybody
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen(command, env=environment)
    asked = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del number, frame
        if not asked:  # the second would have it leave the processes alone
            child.send_signal(signal.SIGTERM)  # the only signal that torchrun hands on
        asked = True

    for number in (signal.SIGTERM, signal.SIGINT, *_SIGUSR1):
        signal.signal(number, forward)
    code = child.wait()
    return _left(status) or (PreemptedError.exit_code if asked else code)


def _left(status: Path) -> int | None:
    text = status.read_text() if status.exists() else ""
    return int(text) if text else None


_SIGUSR1: list[Any] = [signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []


def _gpus() -> int:
    import torch

    found = torch.cuda.device_count()
    if not found:
        raise UsageError("expected --processes on a machine without a GPU, found none")
    return found


def note_status(code: int) -> int:
    """Leave the exit code for `launch`; what this process should end with itself.

    An end that another try would come to as well is a success for torchrun, which would start again
    and print a page otherwise.
    """
    if _STATUS not in os.environ:
        return code
    if os.environ.get("LOCAL_RANK", "0") == "0":
        Path(os.environ[_STATUS]).write_text(str(code))
    return 0 if code in _FINAL else code


def settled() -> int | None:
    """What a former try ended with that would only happen again; else that is forgotten."""
    if _STATUS not in os.environ:
        return None
    file = Path(os.environ[_STATUS])
    left = _left(file)
    if left in _FINAL:
        return left
    if os.environ.get("LOCAL_RANK", "0") == "0":
        file.unlink(missing_ok=True)
    return None


def spoken_for() -> bool:
    """Whether another process of several that run the same words says what is wrong with them."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"
