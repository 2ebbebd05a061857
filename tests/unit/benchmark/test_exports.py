import pytest

from resnext.benchmark import exports
from resnext.benchmark.exports import Row, benchmark_exports
from resnext.deploy import artifact_of_model
from resnext.errors import ParityError
from unit.deploy.networks import settled

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

NETWORK = "ResNeXt-11 (2x4d, CIFAR, 10 classes, 1 channel)"


def rows_of(**options):
    artifact = artifact_of_model(settled(NETWORK))
    found = benchmark_exports(artifact, "digits", batches=(1, 4), slices=3, **options)
    return [row for row in found if isinstance(row, Row)]


def test_a_file_has_a_size_times_and_an_accuracy_or_a_reason(monkeypatch):
    write = exports.export

    def refusing(artifact, path, order):
        if order.precision == "bf16":
            raise ParityError("too far")
        return write(artifact, path, order)

    monkeypatch.setattr(exports, "export", refusing)
    monkeypatch.setattr(exports, "_files", lambda: iter([("torch", "fp32"), ("torch", "bf16")]))
    good, bad = rows_of()
    assert (bad.refused, bad.bytes) == ("too far", None)
    parameters = sum(
        tensor.numel() for tensor in artifact_of_model(settled(NETWORK)).weights.values()
    )
    assert 4 * parameters * 0.9 < good.bytes < 4 * parameters + 200_000
    assert good.seconds.keys() == {1, 4}
    assert all(seconds > 0 for seconds in good.seconds.values())
    assert (good.agreement, good.images) == (1, 450)
    assert 0 <= good.accuracy <= 100
    assert good.difference < 1e-5


@pytest.mark.slow
def test_every_format_and_precision_is_there():
    found = {(row.kind, row.precision): row for row in rows_of()}
    assert {("torch", "fp32"), ("onnx", "fp32"), ("onnx", "int8"), ("openvino", "int8")} <= set(
        found
    )
    assert found["onnx", "int8"].bytes < found["onnx", "fp32"].bytes / 2
    assert all(row.refused is None for row in found.values())
