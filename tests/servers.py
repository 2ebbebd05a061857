"""Servers for tests: in a thread with any engine, or as users start them; and their clients."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture_bytes(seed=0, side=32, kind="PNG"):
    """A picture of noise, encoded."""
    pixels = np.random.default_rng(seed).integers(256, size=(side, side, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@dataclass
class Answer:
    """Of a server."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """One that runs."""

    port: int
    process: subprocess.Popen | None = None
    host: str = "127.0.0.1"

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def ask(self, method, path, body=None, headers=None, timeout=30):
        started = time.perf_counter()
        connection = HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            seconds = time.perf_counter() - started
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, content, seconds)
        finally:
            connection.close()

    def get(self, path, **rest):
        return self.ask("GET", path, **rest)

    def predict(self, body, query="", kind="image/png", **rest):
        return self.ask("POST", f"/predict{query}", body, {"content-type": kind}, **rest)

    def form(self, parts, query="", **rest):
        """Files as (name, content)."""
        kind, body = form_of(parts)
        return self.predict(body, query, kind, **rest)

    def connect(self, timeout=30):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def raw(self, data, timeout=30):
        """What comes back for these bytes, until the server closes."""
        with self.connect(timeout) as connection:
            connection.sendall(data)
            return read_all(connection)


def form_of(parts, boundary="b0undary"):
    body = b""
    for name, content in parts:
        body += f"--{boundary}\r\nContent-Disposition: form-data; ".encode()
        body += b'name="file"; filename="' + name.encode() + b'"\r\n\r\n' + content + b"\r\n"
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def read_all(connection):
    """An answer until the other side closes."""
    found = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            break
        if not chunk:
            break
        found += chunk
    return parsed(found)


def read_one(connection):
    """One answer on a connection that may stay open; None if there is none."""
    found = b""
    while True:
        answer = parsed(found) if b"\r\n\r\n" in found else None
        if answer and len(answer.body) >= int(answer.headers["content-length"]):
            return answer
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            return answer
        if not chunk:
            return answer
        found += chunk


def parsed(data):
    if not data:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, body)


@contextmanager
def in_thread(artifact, engine, **settings):
    """A server in a thread of this process; `service` is at hand."""
    from resnext.deploy.serving.logs import JsonLines
    from resnext.deploy.serving.server import listen, server_of
    from resnext.deploy.serving.service import Service
    from resnext.deploy.serving.settings import Settings

    chosen = Settings(given="in memory", port=0, **settings)
    service = Service(artifact, engine, chosen)
    listening = listen(chosen)
    written = io.StringIO()
    log = JsonLines(written)
    running = server_of(service, log)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    server = Server(listening.getsockname()[1])
    server.service, server.log = service, written
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server
    finally:
        running.handle_exit(signal.SIGTERM, None)
        thread.join(30)
        log.close()
        assert not thread.is_alive()


@contextmanager
def served(*words, ended_by=signal.SIGTERM, status=0):
    """A server as users start it; it has to end well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "resnext", "serve", *map(str, words), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    errors = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr))
    reader.start()
    line = process.stdout.readline()
    if not line.startswith("serving"):
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()
        raise AssertionError("".join(errors))
    server = Server(int(line.rsplit(":", 1)[1].split()[0]), process)
    server.log = errors
    try:
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(ended_by)
        try:
            found = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            found = process.wait()
        reader.join(10)
        process.stdout.close()
        process.stderr.close()
    assert found == status, "".join(errors)[-3000:]


def memory_of(process):
    """Resident bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
