"""A server of a large network under load: as fast as its engine, and quick to say no."""

import threading
import time

import pytest

from resnext.benchmark.serving import Row, Setting, benchmark_serving
from resnext.deploy import artifact_of_model, save
from servers import memory_of, picture_bytes, served
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


def test_what_is_too_much_is_told_in_a_tenth_of_a_second(artifact, tmp_path):
    """60 clients that ask again and again; a network that is busy for a second a batch."""
    folder = save(artifact, tmp_path / "artifact").folder
    body = picture_bytes(0, 224, "JPEG")
    answers, stop = [], threading.Event()

    def client(server):
        while not stop.is_set():
            answer = server.predict(body, kind="image/jpeg", timeout=120)
            answers.append(answer)
            if answer.status == 503:
                time.sleep(0.3)

    with served(folder, "--engine", "torch", "--batch", 4, "--queue", 8) as server:
        assert server.predict(body).status == 200
        before = memory_of(server.process)
        clients = [threading.Thread(target=client, args=(server,)) for _ in range(60)]
        for each in clients:
            each.start()
        time.sleep(15)
        stop.set()
        for each in clients:
            each.join()
        assert memory_of(server.process) - before < 300e6
    assert {answer.status for answer in answers} == {200, 503}
    refused = sorted(answer.seconds for answer in answers if answer.status == 503)
    assert len(refused) > 500
    assert all(
        int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status == 503
    )
    middle, late = refused[len(refused) // 2], refused[int(0.99 * len(refused))]
    assert late < 0.1, (middle, late)
