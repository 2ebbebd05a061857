"""One JSON line per request, written by a thread of its own: a full pipe stops no server."""

import json
import queue
import sys
import threading
import time
from typing import IO, Any

_MOST = 10_000


class JsonLines:
    """Writes records to a stream; what comes faster than it is read is dropped, and counted."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def write(self, record: dict[str, Any]) -> None:
        """Take a record; never waits."""
        line = {"time": round(time.time(), 3), **record}
        if self._dropped:
            line["dropped_before"] = self._dropped
        try:
            self._lines.put_nowait(line)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is left, as far as somebody reads it."""
        try:
            self._lines.put(None, timeout=1)
        except queue.Full:
            return
        self._thread.join(2)

    def _write(self) -> None:
        while (record := self._lines.get()) is not None:
            try:
                self._stream.write(json.dumps(record, ensure_ascii=True) + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                continue  # nobody reads any more; the server goes on
