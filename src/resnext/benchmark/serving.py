"""Pictures per second of a server, beside its engine alone at the same batch.

The server is a process of its own, as users start it; clients ask over loopback, each on one
connection, one picture after another, and read every answer. Slices of both alternate, so that a
ratio is the median over slices; while one is measured the other waits. Client, server and decoding
share the processor with the engine.
"""

import asyncio
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resnext.deploy import Artifact, save
from resnext.deploy.engines import Engine, open_engine
from resnext.deploy.predict import decode_picture, prepare
from resnext.errors import ResourceError

_PICTURES = 64
"""Different ones; an answer of another picture would be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is run.

    Attributes:
        engine: of both, by name.
        precision: of the arithmetic.
        batch: pictures that the engine is given at once.
        clients: that ask at the same time.
        seconds: of a slice.
        slices: of each; the median counts.
        threads: of the processor, for the engine.
    """

    engine: str = "torch"
    precision: str = "fp32"
    batch: int = 16
    clients: int = 32
    seconds: float = 10.0
    slices: int = 5
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One of the two; times are from sending to the last byte of the answer."""

    method: str
    images_per_second: float
    least: float
    most: float
    ratio: float
    slices: int
    answers: int = 0
    wrong: int = 0
    lost: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(slots=True)
class _Load:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0


def benchmark_serving(artifact: Artifact, setting: Setting) -> Iterator[str | Row]:
    """Says what it does, then a row for the engine alone and one for the server.

    Raises:
        ResourceError: the server does not start.
        UsageError: there is no such engine.
    """
    torch.set_num_threads(setting.threads)
    pictures = _pictures(artifact, setting.seed)
    engine = open_engine(artifact, setting.engine, setting.precision)
    images = torch.stack(
        [prepare(artifact, decode_picture(each, "picture"), "picture") for each in pictures]
    )
    parts = range(0, len(images), setting.batch)
    known = torch.cat([engine(images[i : i + setting.batch]) for i in parts]).argmax(1)
    names = [artifact.classes[int(number)] for number in known]
    batch = images[: setting.batch].contiguous()
    with tempfile.TemporaryDirectory() as place:
        folder = save(artifact, Path(place) / "artifact").folder
        yield "starting the server"
        with _server(Path(str(folder)), setting) as port:
            load = _Load()
            _served(port, pictures, names, setting, _Load())  # both are warm then
            _alone(engine, batch, setting.seconds / 2)
            alone, served = [], []
            for number in range(setting.slices):
                yield f"slice {number + 1} of {setting.slices}"
                alone.append(_alone(engine, batch, setting.seconds))
                served.append(_served(port, pictures, names, setting, load))
    yield _row(f"engine alone, {setting.batch} at once", alone, alone)
    ordered = sorted(load.seconds)
    yield replace(
        _row(f"served, {setting.clients} clients", served, alone),
        answers=len(ordered),
        wrong=load.wrong,
        lost=load.lost,
        p50_ms=1000 * statistics.median(ordered),
        p99_ms=1000 * ordered[int(0.99 * (len(ordered) - 1))],
    )


def _row(method: str, rates: list[float], peer: list[float]) -> Row:
    ratios = [rate / other for rate, other in zip(rates, peer, strict=True)]
    return Row(
        method=method,
        images_per_second=statistics.median(rates),
        least=min(rates),
        most=max(rates),
        ratio=statistics.median(ratios),
        slices=len(rates),
    )


def _pictures(artifact: Artifact, seed: int) -> list[bytes]:
    """JPEGs of the network's usual side: soft noise, which decodes as photos do."""
    side = artifact.spec.resolution
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(_PICTURES):
        coarse = draws.integers(256, size=(max(2, side // 8), max(2, side // 8), 3))
        image = Image.fromarray(coarse.astype(np.uint8)).resize((side, side))
        file = io.BytesIO()
        image.save(file, "PNG" if side < 64 else "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def _alone(engine: Engine, batch: torch.Tensor, seconds: float) -> float:
    """Images per second."""
    started = time.perf_counter()
    for done in count(1):
        engine(batch)
        taken = time.perf_counter() - started
        if taken >= seconds:
            return done * len(batch) / taken
    raise AssertionError


@contextmanager
def _server(folder: Path, setting: Setting) -> Iterator[int]:
    """A process that serves the artifact; its port."""
    words = {
        "engine": setting.engine,
        "precision": setting.precision,
        "batch": setting.batch,
        "queue": 4 * setting.clients + setting.batch,
        "port": 0,
    }
    options = [text for name, value in words.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [sys.executable, "-m", "resnext", "serve", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(setting.threads)},
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("serving"):
            raise ResourceError("expected the server to start, found that it ended")
        yield int(line.split("http://", 1)[1].split()[0].rsplit(":", 1)[1])
    finally:
        process.send_signal(signal.SIGTERM)
        with process:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _served(
    port: int, pictures: Sequence[bytes], names: Sequence[str], setting: Setting, load: _Load
) -> float:
    """Answers per second, from the first request to the last answer."""
    before = len(load.seconds)
    started = time.perf_counter()
    asyncio.run(_clients(port, pictures, names, setting, load))
    return (len(load.seconds) - before) / (time.perf_counter() - started)


async def _clients(
    port: int, pictures: Sequence[bytes], names: Sequence[str], setting: Setting, load: _Load
) -> None:
    until = time.perf_counter() + setting.seconds
    requests = [_request(each) for each in pictures]

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            turn = number
            while time.perf_counter() < until:
                turn = (turn + 1) % len(requests)
                began = time.perf_counter()
                writer.write(requests[turn])
                found = await _answer(reader)
                if found is None:
                    load.lost += 1
                    continue
                load.seconds.append(time.perf_counter() - began)
                load.wrong += found != names[turn]
        finally:
            writer.close()

    await asyncio.gather(*(client(7 * number) for number in range(setting.clients)))


def _request(picture: bytes) -> bytes:
    head = (
        "POST /predict?top=1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\n"
        f"content-length: {len(picture)}\r\n\r\n"
    )
    return head.encode() + picture


async def _answer(reader: asyncio.StreamReader) -> str | None:
    """The most likely class; None for any other answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200"):
        return None
    return str(json.loads(body)["pictures"][0]["classes"][0]["class"])
