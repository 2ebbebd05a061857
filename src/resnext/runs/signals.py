"""What the system asks of a running process: to save and end, within seconds.

Python runs a signal's handler between two steps of the interpreter, and one backward pass of a
large network on a processor may take longer than a scheduler waits. So a thread listens too, and if
the main thread has not ended by itself in time, the thread saves and ends the process.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from resnext.errors import INTERRUPTED, PreemptedError

GRACE_SECONDS = 4.0
"""For the main thread to reach the end of its step, save, and leave by itself."""

PREEMPTION = (signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))


class Stop:
    """Whether somebody wants this process to end.

    Attributes:
        signal: the first that came; None so far.
        last_resort: saves, in another thread than the main one; whether there was what to save.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.last_resort: Callable[[], bool] = lambda: False

    @property
    def exit_code(self) -> int:
        """What the process should end with."""
        return INTERRUPTED if self.signal == signal.SIGINT else PreemptedError.exit_code

    def check(self, left: str) -> None:
        """End here if somebody wants that.

        Raises:
            PreemptedError: somebody does; `left` says what is saved, or begins anew.
        """
        if self.signal is not None:
            raise PreemptedError(left)


@contextmanager
def stopping(*, ending: bool = False) -> Iterator[Stop]:
    """Take SIGTERM, SIGUSR1 and the first Ctrl-C as wishes; the second Ctrl-C interrupts at once.

    For the main thread only, which is the one that Python gives signals to. With `ending`, an error
    in the context ends the process: until then, while it says why, it does not die of a signal.
    """
    stop = Stop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT and stop.signal is not None:
            raise KeyboardInterrupt
        stop.signal = stop.signal or signal.Signals(number)

    before = {number: signal.signal(number, note) for number in (*PREEMPTION, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    ended = threading.Event()
    threading.Thread(target=_listen, args=(ours, stop, ended), daemon=True).start()
    kept: tuple[signal.Signals, ...] = ()
    try:
        yield stop
    except BaseException:
        kept = PREEMPTION if ending else ()
        raise
    finally:
        ended.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            if number not in kept:
                signal.signal(number, handler)
        theirs.close()  # ends the thread


def _listen(numbers: socket.socket, stop: Stop, ended: threading.Event) -> None:
    with numbers:
        while received := numbers.recv(1):
            if received[0] not in PREEMPTION:
                continue
            if not ended.wait(GRACE_SECONDS):
                stop.signal = stop.signal or signal.Signals(received[0])
                what = "saved" if stop.last_resort() else "nothing could be saved any more"
                sys.stderr.write(f"resnext: asked to end ({stop.signal.name}); {what}\n")
                sys.stderr.flush()
                os._exit(PreemptedError.exit_code)
            return
