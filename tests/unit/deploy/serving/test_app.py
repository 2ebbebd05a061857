"""A server in a thread, with engines that are slow, broken or out of memory."""

import gc
import json
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from resnext.deploy import artifact_of_model
from resnext.deploy.engines import open_engine
from resnext.deploy.explain import explain
from resnext.deploy.libraries import Running
from resnext.deploy.predict import decode_picture, predict
from servers import form_of, in_thread, picture_bytes
from unit.data.pictures import encoded
from unit.deploy.networks import settled


@pytest.fixture
def engine(artifact):
    return open_engine(artifact, "torch")


def expected(artifact, engine, pictures, top=5):
    return [dict(found.classes) for found in predict(artifact, engine, pictures, top=top)]


def assert_same(answer, chances):
    found = {each["class"]: each["probability"] for each in answer["classes"]}
    assert found == pytest.approx(chances, abs=TOLERANCE)


TOLERANCE = 1e-6
"""Of probabilities: a picture in a batch of another size; measured 6e-8 in float32."""


def test_answers_are_the_engine_s(artifact, engine):
    pictures = [(f"p{i}.png", picture_bytes(i)) for i in range(3)]
    known = expected(artifact, engine, pictures)
    with in_thread(artifact, engine) as server:
        for (_, content), chances in zip(pictures, known, strict=True):
            answer = server.predict(content)
            assert answer.status == 200
            (found,) = answer.json["pictures"]
            assert found["picture"] == "body"
            assert_same(found, chances)
        answer = server.form(pictures, "?top=2").json
        assert [found["picture"] for found in answer["pictures"]] == ["p0.png", "p1.png", "p2.png"]
        for found, chances in zip(answer["pictures"], known, strict=True):
            assert len(found["classes"]) == 2
            assert found["classes"][0]["probability"] == pytest.approx(
                max(chances.values()), abs=TOLERANCE
            )
        assert answer["network"] == artifact.network
        assert (answer["engine"], answer["precision"]) == ("torch", "fp32")


def test_explanations_are_those_of_predict(artifact, engine):
    content = picture_bytes(3)
    known = explain(artifact, decode_picture(content, "x"))
    with in_thread(artifact, engine) as server:
        found = server.predict(content, "?explain=true").json["pictures"][0]["explanation"]
        assert found["class"] == known.label
        torch.testing.assert_close(
            torch.tensor(found["positions"]), torch.from_numpy(known.positions)
        )
        assert found["seen"].startswith("data:image/png;base64,")
        assert found["heat"].startswith("data:image/png;base64,")
        assert "explanation" not in server.predict(content).json["pictures"][0]


def test_health_metrics_and_description(artifact, engine):
    with in_thread(artifact, engine) as server:
        assert server.get("/health/live").json == {"live": True}
        assert server.get("/health/ready").json == {"ready": True}
        health = server.get("/health").json
        assert health["network"] == artifact.network
        assert health["settings"]["batch"] == 16
        server.form([("a", picture_bytes(0)), ("b", picture_bytes(1))])
        server.predict(b"none")
        server.get("/elsewhere")
        text = server.get("/metrics").body.decode()
        assert 'resnext_requests_total{route="/predict",status="200"} 1.0' in text
        assert 'resnext_requests_total{route="/predict",status="422"} 1.0' in text
        assert 'resnext_requests_total{route="other",status="404"} 1.0' in text
        assert 'resnext_pictures_total{outcome="answered"} 2.0' in text
        assert 'resnext_pictures_total{outcome="refused"} 1.0' in text
        assert "resnext_queue_pictures 0.0" in text
        assert "resnext_held_bytes 0.0" in text
        described = server.get("/openapi.json").json
        assert (
            "multipart/form-data"
            in described["paths"]["/predict"]["post"]["requestBody"]["content"]
        )
        for name in ("/", "/explore"):
            page = server.get(name)
            assert page.headers["content-type"].startswith("text/html")
            assert b"default-src &#39;none&#39;" in page.body
            assert page.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("query", ["", "?explain=true"])
def test_pictures_that_wait_are_no_longer_in_memory(query):
    artifact = artifact_of_model(settled(), profile_name="pil-32")
    known, held = open_engine(artifact, "torch"), []

    def forward(images):
        gc.collect()
        pictures = (each for each in gc.get_objects() if issubclass(type(each), Image.Image))
        held.append(sum(each.width == 700 for each in pictures))
        return known(images)

    with in_thread(artifact, Running("torch", "fp32", forward)) as server:
        files = [(f"p{i}.png", picture_bytes(i, side=700)) for i in range(3)]
        assert server.form(files, query).status == 200
    assert held == [0]


def test_the_files_of_a_form_are_in_memory_once(artifact, engine):
    held = []

    def forward(images):
        gc.collect()  # the parser of forms leaves a cycle
        held.append(tracemalloc.get_traced_memory()[0])
        return engine(images)

    kind, body = form_of([("a.png", picture_bytes(0) + bytes(2**23))])
    with in_thread(artifact, Running("torch", "fp32", forward)) as server:
        server.predict(picture_bytes(0))  # nothing is imported any more
        tracemalloc.start()
        try:
            assert server.predict(body, kind=kind).status == 200
        finally:
            tracemalloc.stop()
    assert held[1] < 1.5 * len(body)


def slow(artifact, seconds):
    known = open_engine(artifact, "torch")

    def forward(images):
        time.sleep(seconds)
        return known(images)

    return Running("slow", "fp32", forward)


def test_overload_is_answered_at_once(artifact):
    with in_thread(artifact, slow(artifact, 0.4), batch=1, queue=3) as server:
        body = picture_bytes(0)
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: server.predict(body), range(24)))
        busy = [answer for answer in answers if answer.status == 503]
        assert {answer.status for answer in answers} == {200, 503}
        assert len(busy) >= 15
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in busy)
        assert "busy: expected at most 3 pictures at once" in busy[0].json["error"]
        assert server.predict(body).status == 200


def test_a_busy_server_refuses_before_it_has_read_the_body(artifact):
    with in_thread(artifact, slow(artifact, 1.0), batch=1, queue=1) as server:
        one = threading.Thread(target=server.predict, args=(picture_bytes(0),))
        one.start()
        while server.service.gate.pictures == 0:
            time.sleep(0.005)
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n"
        started = time.perf_counter()
        with server.connect() as connection:
            connection.sendall(head)
            found = connection.recv(65536)
        assert time.perf_counter() - started < 0.1
        assert found.startswith(b"HTTP/1.1 503")
        assert b"connection: close" in found
        one.join()


def test_bytes_in_memory_have_a_limit(artifact, engine):
    with in_thread(artifact, engine, held_mib=1) as server:
        answer = server.predict(b"x" * 1_500_000)
        assert answer.status == 503
        assert "bytes of uploads" in answer.json["error"]
        assert server.service.gate.held == 0
        assert server.predict(picture_bytes(0)).status == 200


def test_an_answer_that_takes_too_long_is_given_up(artifact):
    with in_thread(artifact, slow(artifact, 1.5), request_seconds=0.3) as server:
        answer = server.predict(picture_bytes(0))
        assert answer.status == 503
        assert "within 0.3 s" in answer.json["error"]
        assert answer.headers["retry-after"] == "5"
        assert server.get("/health").status == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 503, "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 503, "memory"),
        (RuntimeError("secret detail"), 500, "a fault of the server"),
        (KeyError("secret detail"), 500, "a fault of the server"),
    ],
)
def test_an_engine_that_fails_is_told_and_survived(artifact, engine, error, status, said):
    broken = [True]

    def forward(images):
        if broken[0]:
            raise error
        return engine(images)

    with in_thread(artifact, Running("torch", "fp32", forward)) as server:
        answer = server.predict(picture_bytes(0))
        assert answer.status == status
        assert said in answer.json["error"]
        assert "secret" not in answer.json["error"]
        assert server.service.gate.pictures == 0
        broken[0] = False
        assert server.predict(picture_bytes(0)).status == 200


def test_pictures_that_cannot_be_used_are_all_named(artifact, engine):
    with in_thread(artifact, engine) as server:
        files = [("good.png", picture_bytes(0)), ("bad.png", b"no"), ("empty.png", b"")]
        answer = server.form(files)
        assert answer.status == 422
        assert "bad.png: expected a picture" in answer.json["error"]
        assert "empty.png: expected a picture" in answer.json["error"]
        assert "good.png" not in answer.json["error"]


def test_a_thin_picture_is_refused_before_it_is_made_large():
    made = artifact_of_model(settled(), profile_name="pil-32")
    with in_thread(made, open_engine(made, "torch")) as server:
        answer = server.form([("thin.png", encoded(Image.new("L", (1, 40000)), "PNG"))])
        assert answer.status == 422
        assert "thin.png: expected at most 50 million pixels" in answer.json["error"]


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/predict?top=0", 422, "for top, found '0'"),
        ("/predict?top=many", 422, "for top, found 'many'"),
        ("/predict?top=1000000000000000000000", 422, "for top"),
        ("/predict?explain=perhaps", 422, "for explain, found 'perhaps'"),
        ("/api/spec?network=ResNeXt-50%20(32q4d)", 422, "32q4d"),
        ("/api/spec?cardinality=99999", 422, "cardinality from 1 to 4096, found 99999"),
        ("/api/spec?depth=51", 422, "expected an ImageNet depth"),
        ("/api/spec?resolution=0", 422, "resolution from 1 to 4096"),
        ("/api/spec?family=vgg", 422, "for family, found 'vgg'"),
        ("/../../etc/passwd", 404, "/explore, found /../../etc/passwd"),
        ("/%2e%2e/%2e%2e/etc/passwd", 404, "expected one of"),
    ],
)
def test_words_that_mean_nothing_are_refused(artifact, engine, path, status, said):
    with in_thread(artifact, engine) as server:
        method = "POST" if path.startswith("/predict") else "GET"
        answer = server.ask(method, path)
        assert answer.status == status
        assert said in answer.json["error"]


def test_the_server_s_networks_are_the_algebra_s(artifact, engine):
    from resnext.deploy.explore import Setting, record

    with in_thread(artifact, engine) as server:
        found = server.get("/api/spec?network=ResNeXt-29+(8x64d)&batch=7&resolution=48").json
        known = record(Setting.of("ResNeXt-29 (8x64d)", 48), 7)
        assert found == json.loads(json.dumps(known))
        parts = "family=wide&preactivation=true&depth=16&cardinality=1&width=48&classes=5"
        assert server.get(f"/api/spec?{parts}").json["name"] == "WRN-16-3 (5 classes)"


def test_the_log_has_a_line_for_each_request(artifact, engine):
    with in_thread(artifact, engine) as server:
        server.predict(picture_bytes(0))
        server.predict(b"no")
    lines = [json.loads(line) for line in server.log.getvalue().splitlines()]
    assert [line["status"] for line in lines] == [200, 422]
    assert lines[0]["pictures"] == 1
    assert lines[0]["bytes"] == len(picture_bytes(0))
    assert lines[1]["refused"].startswith("body: expected a picture")
