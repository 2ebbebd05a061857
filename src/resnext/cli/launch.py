"""``resnext launch``: any command in several processes, on one machine or on many."""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnext.errors import (
    INTERRUPTED,
    CheckpointError,
    DataError,
    PreemptedError,
    ResourceError,
    UsageError,
)

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

_STATUS = "RESNEXT_STATUS"
"""Names the folder in which processes leave their exit codes."""

_LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"

_FINAL = (
    *(kind.exit_code for kind in (UsageError, DataError, CheckpointError, PreemptedError)),
    INTERRUPTED,
)
"""Exit codes that another try would end with too, or that want none: usage, data, checkpoint,
preempted, interrupted."""


def launch(
    words: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="Such as: train --out runs/x.")
    ],
    processes: Annotated[
        int | None, typer.Option(min=1, help="On this machine; one for each GPU if left out.")
    ] = None,
    nodes: Annotated[str, typer.Option(help="Machines, or the least and the most: 2:4.")] = "1",
    rendezvous: Annotated[
        str | None, typer.Option(help="host:port of one machine, the same on all.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of this machine, where its name leads others nowhere.")
    ] = None,
    job: Annotated[
        str, typer.Option(help="Name of the job, the same on all machines.")
    ] = "resnext",
    restarts: Annotated[
        int, typer.Option(min=0, help="How often to start again when a process is lost.")
    ] = 3,
) -> None:
    """Run a command in several processes that train as one.

    They are started again where one is lost.

    On several machines, give the same line on each.
    """
    if nodes != "1" and rendezvous is None:
        raise UsageError("expected --rendezvous host:port for several machines, found none")
    least, most = _range(nodes)
    with _silent():
        from torch.distributed.launcher.api import LaunchConfig
    count = processes or _gpus()
    with tempfile.TemporaryDirectory(prefix="resnext-launch-") as folder:
        status = Path(folder)
        os.environ.update(_environment(count, status))
        config = LaunchConfig(
            min_nodes=least,
            max_nodes=most,
            nproc_per_node=count,
            run_id=job if rendezvous else uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=rendezvous or "localhost:0",
            rdzv_configs=_who_hosts(rendezvous, address),
            max_restarts=restarts,
            monitor_interval=0.5,
            local_addr=address,
        )
        code = _run(config, words, status)
    raise typer.Exit(code)


@contextmanager
def _silent() -> Iterator[None]:
    """Load torch so that its C++ says nothing in this process, which says in a line what is wrong.

    It reads that when it is loaded; the processes to start are told by `_environment`.
    """
    before = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = before or "FATAL"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LOG_LEVEL]


def _range(nodes: str) -> tuple[int, int]:
    least, _, most = nodes.partition(":")
    if (least.isdecimal() and most.isdecimal()) and int(most) < int(least):
        raise UsageError(f"expected --nodes from the least to the most, found {nodes!r}")
    if not (least.isdecimal() and (most or least).isdecimal() and int(least) > 0):
        raise UsageError(f"expected --nodes as a number or a range such as 2:4, found {nodes!r}")
    return int(least), int(most or least)


def _who_hosts(rendezvous: str | None, address: str | None) -> dict[str, Any]:
    """Torch finds the machine that the others meet at by its name; an address must be said."""
    if rendezvous is None or address is None:
        return {}
    return {"is_host": rendezvous.rpartition(":")[0] == address}


def _environment(count: int, status: Path) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    usual = {
        # Otherwise a process that starts again may find the address of one that is dead
        # (pytorch/pytorch#135712).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(max(1, (cores or 1) // count)),
        # Otherwise the loss of a process is twenty lines of C++ before the one that says which.
        _LOG_LEVEL: "ERROR",
    }
    return {name: os.environ.get(name, value) for name, value in usual.items()} | {
        _STATUS: str(status)
    }


def _run(config: "LaunchConfig", words: list[str], status: Path) -> int:
    """Start the processes and wait for them; the exit code of the first that says why."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    logging.disable(logging.CRITICAL)  # torch tells at length what is said below in a line
    for number in _SIGUSR1:  # torch hands on SIGTERM and SIGINT
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        elastic_launch(config, sys.executable)("-m", "resnext", *words)
    except SignalException as error:
        asked = INTERRUPTED if error.sigval == signal.SIGINT else PreemptedError.exit_code
        return _left(status) or asked
    except ChildFailedError as error:
        if (code := _left(status)) is not None:
            return code
        rank, failure = error.get_first_failure()
        raise ResourceError(
            f"expected all processes to finish, found process {rank} ended with "
            f"{failure.signal_name() if failure.exitcode < 0 else failure.exitcode}, "
            f"after {config.max_restarts} restarts"
        ) from error
    except RendezvousError as error:
        raise ResourceError(
            f"expected the other machines at {config.rdzv_endpoint}, found none: {error}"
        ) from error
    return _left(status) or 0


_SIGUSR1: list[Any] = [signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []


def _gpus() -> int:
    import torch

    found = torch.cuda.device_count()
    if not found:
        raise UsageError("expected --processes on a machine without a GPU, found none")
    return found


def first_to_say() -> bool:
    """Whether no other process of this try on this machine has said what is wrong."""
    return not _started() or _put(".said", "")


def speaks() -> bool:
    """Whether this process says what is wrong with words that several were given."""
    return os.environ.get("RANK", "0") == "0"


def left_with(code: int) -> int:
    """What a process should end with; its exit code proper is left for `launch`.

    Under `launch`, an end that another try would come to as well is a success for torch, which
    would start again otherwise.
    """
    if not _started():
        return code
    _put(".status", str(code))
    return 0 if code in _FINAL else code


def _put(kind: str, text: str) -> bool:
    """Leave a word for the others of this try; whether there was none."""
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    try:
        with Path(os.environ[_STATUS], attempt + kind).open("x") as file:
            file.write(text)
    except OSError:
        return False
    return True


def settled() -> int | None:
    """What a former try ended with that would only happen again; None for a first try."""
    if not _started():
        return None
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])  # of this one others may have ended
    code = _left(Path(os.environ[_STATUS]), before=attempt)
    return code if code in _FINAL else None


def _started() -> bool:
    """Whether this process was started by `launch`."""
    return _STATUS in os.environ and "TORCHELASTIC_RESTART_COUNT" in os.environ


def _left(folder: Path, before: int | None = None) -> int | None:
    """The exit code of the latest try that left one, or of the latest before a try."""
    tries = {int(file.stem): file for file in folder.glob("*.status")}
    done = [number for number in tries if before is None or number < before]
    text = tries[max(done)].read_text() if done else ""
    return int(text) if text else None
