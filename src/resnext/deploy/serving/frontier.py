"""What all requests pass: a deadline, headers that protect pages, a count and a line of log."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnext.deploy.serving.logs import JsonLines
from resnext.deploy.serving.service import Service

_LINGER_SECONDS = 1.0
_LINGER_BYTES = 16 * 2**20
"""So long, and so much, is read of a body that was refused, so that the refusal is read first."""

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Frontier:
    """An ASGI application around another."""

    def __init__(
        self, app: ASGIApp, service: Service, log: JsonLines, routes: Sequence[str]
    ) -> None:
        self._app, self._service, self._log = app, service, log
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's life."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        seconds = self._service.settings.request_seconds
        scope.setdefault("state", {})
        started = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            await exchange.fail(503, f"expected an answer within {seconds:g} s, found none yet", 5)
        except Exception as error:  # noqa: BLE001 - told by the application, raised to be logged
            self._log.write({"event": "fault", "error": f"{type(error).__name__}: {error}"})
        finally:
            self._count(scope, exchange, time.perf_counter() - started)

    def _count(self, scope: Scope, exchange: "_Exchange", seconds: float) -> None:
        path = str(scope["path"])
        route = path if path in self._routes else "other"
        metrics = self._service.metrics
        metrics.requests.labels(route, str(exchange.status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        client = scope.get("client")
        self._log.write(
            {
                "event": "request",
                "client": client[0] if client else None,
                "method": scope["method"],
                "path": path[:200],
                "status": exchange.status,
                "seconds": round(seconds, 6),
                "bytes": exchange.received,
                "pictures": scope["state"].get("pictures"),
                **({"refused": exchange.said[:500]} if exchange.said else {}),
            }
        )


class _Exchange:
    """Both directions of a request, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.status = 0
        self.received = 0
        self.said = ""
        told = {name for name, _ in scope["headers"]}
        self._whole = not told & {b"content-length", b"transfer-encoding"}

    async def receive(self) -> Message:
        message = await self._receive()
        self.received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._whole = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *_HEADERS]
            if self.status >= 400 and not self._whole:
                message["headers"].append((b"connection", b"close"))
        elif self.status >= 400:
            self.said = self.said or _reason(message.get("body", b""))
            if not self._whole and not message.get("more_body", False):
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        """A connection that is closed on unread bytes is reset, and its answer may be lost."""
        before = self.received
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self._whole and self.received - before < _LINGER_BYTES:
                    await self.receive()
        except TimeoutError:
            return

    async def fail(self, status: int, message: str, retry_after: int | None = None) -> None:
        """An answer in place of the application's, if that has not begun."""
        if self.status:
            return
        body = json.dumps({"error": message}).encode()
        headers: list[Any] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""
