"""Signs of life between processes that train together, and bad news.

A process that waits in an exchange of tensors cannot tell a slow partner from a dead one, and some
exchanges may take long. So threads of their own ask every second, by the store of the first
process, which must not be shared: a client that waits blocks whoever else uses it.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from resnext.errors import (
    CheckpointError,
    DataError,
    ResNextError,
    ResourceError,
    UsageError,
)

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

SILENT_SECONDS = 40.0
"""After which a process without a life sign counts as lost."""

_BEAT_SECONDS = 1.0
_FAILED = "failed"


def first_line(error: BaseException) -> str:
    """What an error says, without what follows."""
    return str(error).strip().partition("\n")[0]


def _cause_of(text: str) -> ResNextError:
    """What another process ended with, with its exit code."""
    code, _, cause = text.partition(" ")
    kinds = {kind.exit_code: kind for kind in (UsageError, DataError, CheckpointError)}
    return kinds.get(int(code), ResourceError)(cause)


def _silent(rank: int) -> ResourceError:
    return ResourceError(f"lost process {rank}: no life sign for {SILENT_SECONDS:.0f} s")


class Heartbeat(threading.Thread):
    """Signs of life, to the store and from the next process in the ring; bad news from anyone."""

    def __init__(self, rank: int, size: int, store: "TCPStore") -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.rank, self._next, self._store = rank, (rank + 1) % size, store
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._prefix = f"resnext/{attempt}/"
        store.set_timeout(timedelta(seconds=SILENT_SECONDS / 2))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._cause: ResNextError | None = None
        self._exchanged = 0

    def run(self) -> None:
        """Until stopped; ends the whole process if another one is lost while this one waits."""
        threading.Thread(target=self._watch, name="heartbeat-watch", daemon=True).start()
        beats, seen, seen_at = 0, "", time.monotonic()
        while not self._ended.wait(_BEAT_SECONDS):
            beats += 1
            try:
                heard = self._exchange(str(beats))
            except RuntimeError:  # the store is gone, and the first process with it
                self._give_up(ResourceError("lost process 0: it no longer answers"))
                return
            if self._cause is not None:
                self._give_up(self._cause)
                return
            self._exchanged += 1
            if heard != seen:
                seen, seen_at = heard, time.monotonic()
            elif time.monotonic() - seen_at > SILENT_SECONDS:
                self._give_up(_silent(self._next))
                return

    def _watch(self) -> None:
        """Give up on a first process that is there and silent: its store has no deadline then.

        Counts its own turns, since a clock goes on while this process is stopped itself.
        """
        before, turns = 0, 0
        while not self._ended.wait(_BEAT_SECONDS):
            turns = turns + 1 if self._exchanged == before else 0
            before = self._exchanged
            if turns * _BEAT_SECONDS > SILENT_SECONDS:
                self._give_up(_silent(0))
                return

    def fail(self, error: BaseException) -> None:
        """Tell the others why this process ends."""
        if self._cause is not None:
            return  # they know
        self._ended.set()
        text = first_line(error) or type(error).__name__
        code = error.exit_code if isinstance(error, ResNextError) else 1
        if not self._lock.acquire(timeout=5 * _BEAT_SECONDS):
            return  # the first process is silent, and nobody can be told
        with suppress(RuntimeError):
            if not self._store.check([self._key(_FAILED)]):
                self._store.set(self._key(_FAILED), f"{code} process {self.rank} stopped: {text}")
                if self.rank == 0:  # the store ends with this process: let the others read it
                    time.sleep(3 * _BEAT_SECONDS)
        self._lock.release()

    def cause(self, wait: float) -> ResNextError | None:
        """Why another process stopped, as far as it is known within so many seconds."""
        end = time.monotonic() + wait
        while self._cause is None and self.is_alive() and time.monotonic() < end:
            time.sleep(0.1)
        return self._cause

    def stop(self) -> None:
        """No more signs: this process is done, and so are the others."""
        self._ended.set()

    def _exchange(self, beat: str) -> str:
        with self._lock:
            self._store.set(self._key(f"alive/{self.rank}"), beat)
            if self._store.check([self._key(_FAILED)]):
                self._cause = _cause_of(self._store.get(self._key(_FAILED)).decode())
            other = self._key(f"alive/{self._next}")
            return self._store.get(other).decode() if self._store.check([other]) else ""

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _give_up(self, cause: ResNextError) -> None:
        """The main thread may hang in an exchange that never ends: it gets a moment to notice."""
        self._cause = cause
        if not self._ended.wait(8.0):
            sys.stderr.write(f"resnext: error: {cause}\n")
            sys.stderr.flush()
            os._exit(cause.exit_code)
