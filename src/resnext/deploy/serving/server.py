"""A process that serves: it says where, answers, and ends what it has begun."""

import contextlib
import math
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

import uvicorn

from resnext.deploy.serving.app import make_app
from resnext.deploy.serving.logs import JsonLines
from resnext.deploy.serving.protocol import DeadlineProtocol, Limits
from resnext.deploy.serving.service import Service
from resnext.deploy.serving.settings import Settings
from resnext.errors import ResourceError

with contextlib.suppress(ImportError):
    import resource


def listen(settings: Settings) -> socket.socket:
    """A socket at the address, so that one that is taken is told before anything is loaded.

    Raises:
        ResourceError: the address is taken, or not this machine's.
    """
    try:
        return socket.create_server(
            (settings.host, settings.port), family=_family(settings.host), backlog=2048
        )
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while ")[0]
        raise ResourceError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}; choose another --port"
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def serving(service: Service, listening: socket.socket) -> Iterator[str]:
    """Yields the address when all is ready; pulled again, it answers until it is asked to end.

    SIGTERM and Ctrl-C let it finish what it has begun; the second one ends it at once.
    """
    _many_files(service.settings.connections + 100)
    log = JsonLines()
    server = server_of(service, log)
    host, port = listening.getsockname()[:2]
    try:
        with server.capture_signals():
            yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            server.run(sockets=[listening])
    finally:
        log.close()


def server_of(service: Service, log: JsonLines) -> uvicorn.Server:
    """What runs on a socket, in the thread that calls its `run`."""
    settings = service.settings
    limits = Limits(
        connections=settings.connections,
        header=settings.header_seconds,
        request=settings.request_seconds,
    )
    config = uvicorn.Config(
        make_app(service, log),
        http=type("LimitedProtocol", (DeadlineProtocol,), {"limits": limits}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
    )
    return _Server(config, service)


class _Server(uvicorn.Server):
    """Signals are wishes to end; the process ends by itself, with 0."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take both signals until the server has ended."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first time end gently, the second time at once."""
        del sig, frame
        self._service.ready = False
        self.force_exit = self.should_exit
        self.should_exit = True


def _many_files(wanted: int) -> None:
    """A connection is an open file, of which systems often allow few to begin with."""
    with contextlib.suppress(NameError, ValueError, OSError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
