import time

import pytest
import torch

import resnext
from resnext.benchmark import inference
from resnext.benchmark.inference import DIRECT, Ready, Row, Setting, benchmark_inference
from resnext.deploy import artifact_of_model
from resnext.deploy.libraries import Running
from resnext.deploy.parity import noise, reference
from resnext.errors import UsageError
from unit.deploy.networks import NETWORK, settled

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")


def busy(seconds):
    """So much of a processor's time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_rate_is_compared_with_the_faster_of_the_two_libraries(monkeypatch):
    artifact = artifact_of_model(settled())
    known = {4: reference(artifact)(noise(artifact, 4, seed=0))}  # of the images compared

    def method(seconds, factor=1):
        def forward(images):
            busy(seconds)
            return known.get(len(images), torch.zeros(len(images), 4)) * factor

        return lambda: (forward, "")

    methods = [
        ("resnext torch", "fp32", method(0.005)),
        (DIRECT[0], "fp32", method(0.02)),
        (DIRECT[1], "fp32", method(0.01, 1.01)),
        (DIRECT[1], "bf16", method(0.0)),
    ]
    monkeypatch.setattr(inference, "_methods", lambda *_: iter(methods))
    engine = Running("torch", "fp32", method(0.01)()[0])
    monkeypatch.setattr(inference, "choose", lambda *_, **__: _Choice(engine))
    setting = Setting(network=artifact.spec, batches=(1, 2), slices=3)
    found = list(benchmark_inference(setting, artifact))
    rows = {(row.batch, row.method, row.precision): row for row in found if isinstance(row, Row)}
    assert len(rows) == 2 * 5
    for batch in (1, 2):
        ratios = {key[1:]: row.ratio for key, row in rows.items() if key[0] == batch}
        assert ratios[DIRECT[1], "fp32"] == 1
        assert ratios[DIRECT[0], "fp32"] == pytest.approx(0.5, abs=0.1)
        assert ratios["resnext auto", "fp32"] == pytest.approx(1, abs=0.2)
        assert ratios["resnext torch", "fp32"] == pytest.approx(2, abs=0.4)
    row = rows[2, DIRECT[1], "fp32"]
    assert (row.difference, row.slices) == (pytest.approx(0.01, rel=0.01), 3)
    assert rows[2, "resnext torch", "fp32"].difference == 0


class _Choice:
    def __init__(self, engine):
        self.engine = engine

    def __str__(self):
        return "chosen"


@pytest.mark.slow
def test_all_methods_run_and_compute_one_network():
    setting = Setting(network=resnext.spec("resnet18_4classes"), batches=(2,), slices=3)
    found = list(benchmark_inference(setting))
    rows = [row for row in found if isinstance(row, Row)]
    titles = {row.method for row in rows}
    assert {"resnext auto", "resnext compile", "timm, eager", "torchvision, channels last"} < titles
    assert set(DIRECT) < titles
    assert len([each for each in found if isinstance(each, Ready)]) == len(rows)
    assert max(row.difference for row in rows if row.precision == "fp32") < 1.9e-5


def test_without_the_libraries_there_is_nothing_to_beat(monkeypatch):
    monkeypatch.setattr("resnext.deploy.libraries.at_hand", lambda *names: not names)
    with pytest.raises(UsageError, match=r"resnext\[export\]"):
        next(benchmark_inference(Setting(network=resnext.spec(NETWORK))))
