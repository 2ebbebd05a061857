"""Connections with deadlines: uvicorn has none for a head that never ends.

Thirty sockets with unfinished heads keep uvicorn's own limit of concurrency busy for ever.
"""

import asyncio
import json
import time

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

_AFTER = 5.0
"""Seconds that a connection outlives its request's own deadline, for the answer to leave."""


class Limits:
    """Of all connections of a server."""

    def __init__(self, *, connections: int, header: float, request: float) -> None:
        self.connections, self.header, self.request = connections, header, request


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 whose connections end if a head, or a whole exchange, takes too long."""

    limits = Limits(connections=1000, header=10.0, request=60.0)
    _timer: asyncio.TimerHandle | None = None
    _heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse what is too much; otherwise the head has to come in time."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            most = self.limits.connections
            self._refuse(503, f"busy: expected at most {most} connections", retry_after=1)
            return
        self._arm(self.limits.header, head=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """No timer outlives its connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A head that is complete has a request's time from now on."""
        before = self.cycle
        self._heard = True
        super().data_received(data)
        if self.cycle is not before and self.cycle is not None:
            self._arm(self.limits.request + _AFTER, head=False)

    def on_response_complete(self) -> None:
        """The next head has to come in time, if the connection is kept."""
        self._disarm()
        self._heard = False
        before = self.cycle
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.cycle is not before:  # it was waiting already
            self._arm(self.limits.request + _AFTER, head=False)
        else:
            self._arm(self.limits.header + self.timeout_keep_alive, head=True)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so as JSON, unless an answer has begun."""
        self._refuse(400, f"expected an HTTP/1.1 request, found something else: {msg}")

    def _arm(self, seconds: float, *, head: bool) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._late, head, time.monotonic())

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self, head: bool, since: float) -> None:  # noqa: FBT001 - a timer's argument
        if not head:
            self.transport.abort()
            return
        if not self._heard:
            self.transport.close()
            return
        seconds = time.monotonic() - since
        self._refuse(408, f"expected the head of a request within {seconds:.0f} s")

    def _refuse(self, status: int, message: str, retry_after: int | None = None) -> None:
        if self.transport.is_closing():
            return
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps({"error": message}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        reason = STATUS_PHRASES[status]
        response = h11.Response(status_code=status, headers=headers, reason=reason)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
