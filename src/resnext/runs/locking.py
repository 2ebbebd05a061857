"""Being the only process at something, by a lock that the system frees however a process ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnext.errors import InUseError, ResourceError


@contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """Hold the lock `file`, which is made where it is missing; `what` names it in messages.

    Where the system cannot lock (some network file systems), the name of the writer stays, and
    whoever finds it decides.

    Raises:
        InUseError: another process holds it; the message names its machine and number.
        ResourceError: the file cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ResourceError(f"cannot write {file}: {error.strerror or error}") from error
    try:
        if not _lock(descriptor):
            owner = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise InUseError(f"expected {what}, found it in use by {owner or 'another process'}")
        _sign(descriptor, file)
        yield
    finally:
        os.close(descriptor)


def _sign(descriptor: int, file: Path) -> None:
    """Write into the lock whose it is."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except OSError as error:
        raise ResourceError(f"cannot write {file}: {error.strerror or error}") from error


def _lock(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks
        raise ResourceError(f"cannot lock: {error.strerror or error}") from error
    return True
