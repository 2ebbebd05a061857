"""A server of a large network under load: as fast as its engine, and quick to say no."""

import asyncio
import os
import time

import pytest

from resnext.benchmark.serving import Row, Setting, benchmark_serving
from resnext.deploy import artifact_of_model, save
from servers import memory_of, parsed, picture_bytes, served
from unit.deploy.networks import settled

pytest.importorskip("fastapi")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def artifact():
    return artifact_of_model(settled("ResNeXt-50 (32x4d)"))


def test_it_loses_little_of_what_the_engine_does(artifact):
    setting = Setting(batch=8, clients=16, seconds=10, slices=3)
    _, row = [found for found in benchmark_serving(artifact, setting) if isinstance(found, Row)]
    assert (row.wrong, row.lost) == (0, 0)
    assert row.answers > 30
    assert row.ratio >= 0.85, row


def request_of(body):
    head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def clients(port, body, count, seconds):
    """(status, seconds, Retry-After) of each answer; who is refused asks again after a moment."""
    answers = []
    until = time.perf_counter() + seconds

    async def client():
        while time.perf_counter() < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began = time.perf_counter()
            writer.write(request_of(body))
            answer = parsed(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(answer.headers["content-length"]))
            answers.append((answer.status, time.perf_counter() - began, answer.headers))
            writer.close()
            if answer.status == 503:
                await asyncio.sleep(0.3)

    await asyncio.gather(*(client() for _ in range(count)))
    return answers


def test_what_is_too_much_is_told_in_a_tenth_of_a_second(artifact, tmp_path):
    """60 clients that ask again and again; a network that is busy for a second a batch."""
    folder = save(artifact, tmp_path / "artifact").folder
    body = picture_bytes(0, 224, "JPEG")
    with served(folder, "--engine", "torch", "--batch", 4, "--queue", 8) as server:
        assert server.predict(body).status == 200
        before = memory_of(server.process)
        answers = asyncio.run(clients(server.port, body, 60, 15))
        assert memory_of(server.process) - before < 300e6
    assert {status for status, *_ in answers} == {200, 503}
    busy = [(seconds, headers) for status, seconds, headers in answers if status == 503]
    assert len(busy) > 500
    assert all(int(headers["retry-after"]) >= 1 for _, headers in busy)
    refused = sorted(seconds for seconds, _ in busy)
    middle, late = refused[len(refused) // 2], refused[int(0.99 * len(refused))]
    assert middle < 0.1, (middle, late, refused[-1])
    if os.getloadavg()[0] < os.cpu_count():  # else clients wait for a processor, not for an answer
        assert late < 0.1, (middle, late, refused[-1])
