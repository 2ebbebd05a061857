import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from resnext.deploy import artifact_of_model, checking, export, libraries
from resnext.deploy.export import Order
from resnext.deploy.graphs import network, onnx_of
from resnext.deploy.libraries import bf16_at_hand
from resnext.deploy.parity import parity, reference, tolerance
from resnext.deploy.samples import photographs, samples
from resnext.errors import DataError, ParityError, ResourceError, UsageError
from unit.deploy.networks import images, settled

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def small():
    return artifact_of_model(settled(), classes=("ant", "bee", "cat", "d'og"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 40 pictures that look alike only a little."""
    folder = tmp_path_factory.mktemp("pictures")
    draws = np.random.default_rng(0)
    for number in range(40):
        pixels = draws.integers(256, size=(32, 32, 3)) * draws.uniform(0.1, 1, size=3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def graphs():
    return {}


@pytest.fixture(autouse=True)
def one_graph(graphs, monkeypatch):
    """The same graph is made once: most files of this page begin with it."""

    def once(artifact, model):
        folded = not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
        key = (artifact.record.weights, folded)
        if key not in graphs:
            graphs[key] = onnx_of(artifact, model)
        return graphs[key]

    monkeypatch.setattr(export, "onnx_of", once)


def of_torch(file):
    extra = {"resnext.json": ""}
    module = torch.export.load(file, extra_files=extra).module()
    return lambda batch: module(batch).detach(), json.loads(extra["resnext.json"])


def of_onnx(file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    return lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0]), said


def of_openvino(file):
    model = openvino.Core().read_model(file)
    said = {key: model.get_rt_info(["resnext", key]).astype(str) for key in WORDS}
    wanted = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(model, "CPU", wanted)
    return lambda batch: torch.from_numpy(compiled([batch.numpy()])[0]), said


WORDS = ("network", "classes", "preprocessing", "weights_sha256", "licence", "scores", "made_by")
READERS = {"torch": of_torch, "onnx": of_onnx, "openvino": of_openvino}


@pytest.mark.parametrize(
    ("kind", "precision", "fold"),
    [("torch", "fp32", True), ("torch", "bf16", False), ("onnx", "fp32", False),
     ("onnx", "int8", True), ("openvino", "fp32", True), ("openvino", "bf16", True),
     ("openvino", "int8", True)],
)  # fmt: skip
def test_files_compute_the_network_in_their_own_libraries(
    small, pictures, tmp_path, kind, precision, fold
):
    if precision == "bf16" and not bf16_at_hand():
        pytest.skip("the processor has no bf16")
    given = samples(small, str(pictures)) if precision == "int8" else None
    order = Order(kind=kind, precision=precision, fold=fold, given=given)
    file, report = export.export(small, tmp_path / "deep" / "x", order)
    forward, said = READERS[kind](file)
    assert json.loads(said["classes"]) == list(small.classes)
    assert json.loads(said["preprocessing"]) == small.record.preprocessing
    assert said["weights_sha256"] == small.record.weights
    batch = images(5, 45)
    wanted = reference(small)(batch)
    found = parity(wanted, forward(batch), 45)
    # int8: measured at most 3.0e-2 of the largest logit
    assert found.relative <= (tolerance(small, batch, wanted, precision) or 0.3)
    assert json.loads(file.with_name(file.name + ".parity.json").read_text()) == json.loads(
        json.dumps(report)
    )
    sizes = [(row["images"], row["side"]) for row in report["parity"]]
    assert sizes == [(count, side) for side in (32, 40) for count in (1, 2, 7)]
    there = {path.name: path for path in file.parent.iterdir() if not path.name.endswith(".json")}
    assert there.keys() == report["files"].keys()
    for name, facts in report["files"].items():
        assert facts["sha256"] == hashlib.sha256(there[name].read_bytes()).hexdigest()
    assert (report["accuracy"] is None) == (precision != "int8")


def test_the_graph_is_valid_and_the_reference_evaluator_agrees(small):
    from onnx.reference import ReferenceEvaluator

    graph = onnx.load_from_string(onnx_of(small, network(small)))
    onnx.checker.check_model(graph, full_check=True)
    assert [each.name for each in graph.graph.output] == ["logits"]
    batch = images(1, 32)
    (logits,) = ReferenceEvaluator(graph).run(None, {"images": batch.numpy()})
    wanted = reference(small)(batch)
    found = parity(wanted, torch.from_numpy(logits), 32)
    assert found.relative <= tolerance(small, batch, wanted, "fp32")


def spoiled(monkeypatch, factor):
    """An exporter that gets one weight a little wrong."""

    def network_with_an_error(artifact, **options):
        model = network(artifact, **options)
        model.fc.weight.data[0] *= factor
        return model

    monkeypatch.setattr(export, "network", network_with_an_error)


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_what_differs_is_not_written(small, tmp_path, monkeypatch, factor):
    spoiled(monkeypatch, factor)
    with pytest.raises(ParityError, match=r"expected logits within .*nothing was written"):
        export.export(small, tmp_path / "new" / "x.pt2", Order(kind="torch"))
    assert list(tmp_path.iterdir()) == []


def test_int8_that_was_calibrated_badly_is_not_written(small, pictures, tmp_path):
    given = samples(small, str(pictures))
    model = small.model()
    model.fc.bias.data -= reference(small, torch.float32)(given.calibration).mean(
        0
    )  # so that classes differ
    even = artifact_of_model(model)
    dark = replace(given, calibration=torch.full_like(given.calibration, -1.9))
    with pytest.raises(ParityError, match="expected int8 to leave 95 % of 20 images in their"):
        export.export(even, tmp_path / "x", Order(kind="onnx", precision="int8", given=dark))
    assert list(tmp_path.iterdir()) == []


def test_a_loss_of_accuracy_is_not_written():
    def found(**values):
        usual = {"images": 100, "about": "", "agreement": 0.97, "before": 80.0, "after": 79.5}
        return checking.Accuracy(**usual | values)

    checking.check_int8(found())
    checking.check_int8(found(before=None, after=None))
    with pytest.raises(ParityError, match=r"lose 1.0 points .* found 1.50 on 100 images"):
        checking.check_int8(found(after=78.5))
    with pytest.raises(ParityError, match=r"found 94.0 %"):
        checking.check_int8(found(agreement=0.94))


def test_accuracy_is_that_of_the_labels(small):
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    batches = [images(4, seed=1), images(2, seed=2)]
    given = checking.Samples(
        about="some",
        calibration=batches[0],
        checked=6,
        labels=labels,
        batches=lambda: iter(batches),
    )
    wanted = reference(small, torch.float32)
    right = torch.cat([wanted(batch) for batch in batches]).argmax(1) == labels
    result = checking.compared(small, wanted, "fp32", given)
    assert result.accuracy.before == result.accuracy.after == 100 * float(right.float().mean())
    assert (result.accuracy.agreement, result.images) == (1, "some")


@pytest.fixture
def quick(small, monkeypatch):
    """Files that are made at once: their place is what a test is about."""
    monkeypatch.setitem(
        export._WRITERS, "torch", lambda _, file, order: file.write_text(str(order))
    )
    monkeypatch.setattr(export, "open_file", lambda *_: reference(small, torch.float32))


def test_nothing_is_overwritten(small, tmp_path, quick):
    (tmp_path / "x.pt2").write_text("mine")
    with pytest.raises(UsageError, match=r"expected a new file, found .*x.pt2; nothing was"):
        export.export(small, tmp_path / "x.pt2", Order(kind="torch"), replacing=True)
    assert (tmp_path / "x.pt2").read_text() == "mine"
    export.export(small, tmp_path / "y", Order(kind="torch"))
    before = (tmp_path / "y.pt2").read_bytes()
    with pytest.raises(UsageError, match=r"say --replace to replace it"):
        export.export(small, tmp_path / "y", Order(kind="torch"))
    export.export(small, tmp_path / "y", Order(kind="torch", fold=False), replacing=True)
    assert (tmp_path / "y.pt2").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x.pt2",
        "y.pt2",
        "y.pt2.parity.json",
    ]


def test_a_full_disk_leaves_nothing(small, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.export, "save", full)
    with pytest.raises(ResourceError, match=r"cannot write .*No space left on device"):
        export.export(small, tmp_path / "x", Order(kind="torch"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (Order(kind="tflite"), "expected a format out of artifact, torch, onnx, openvino, found"),
        (Order(kind="onnx", precision="bf16"), "expected precision fp32, int8 for onnx, found"),
        (Order(kind="torch", precision="int8"), "expected precision fp32, bf16 for torch, found"),
        (Order(kind="onnx", precision="int8"), "expected images to calibrate int8 by"),
        (Order(kind="onnx", precision="int8", fold=False), "expected normalisation folded"),
    ],
)
def test_what_cannot_be_had_is_refused_at_once(small, tmp_path, order, message):
    with pytest.raises(UsageError, match=message):
        export.export(small, tmp_path / "x", order)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "at_hand", lambda *names: "openvino" not in names)
    with pytest.raises(UsageError, match=r"pip install 'resnext\[export\]'"):
        export.export(small, tmp_path / "x", Order(kind="openvino"))


def test_samples_of_a_folder_and_of_a_data_set(small, pictures, tmp_path):
    found = samples(small, str(pictures), calibrating=8, scored=6)
    assert (len(found.calibration), found.checked, found.labels) == (8, 6, None)
    assert sum(len(batch) for batch in found.batches()) == 6
    network = "ResNeXt-11 (2x4d, CIFAR, 10 classes, 1 channel)"
    digits = samples(artifact_of_model(settled(network)), "digits", calibrating=50, scored=40)
    assert (len(digits.calibration), digits.checked, len(digits.labels)) == (50, 40, 40)
    assert len(set(digits.labels.tolist())) == 10  # spread over all of it
    other = samples(artifact_of_model(settled(network), classes=tuple("abcdefghij")), "digits")
    assert other.labels is None  # its classes have other names
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError):
            samples(small, str(place))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("ResNeXt-11 (2x4d, CIFAR, 10 classes, 1 channel)", "handwritten digits of scikit-learn"),
        ("ResNeXt-11 (2x4d, CIFAR, 10 classes)", "photographs of scikit-learn"),
    ],
)
def test_a_report_names_the_images(network, said):
    artifact = artifact_of_model(settled(network))
    assert checking.compared(artifact, reference(artifact), "fp32", None).images == said


@pytest.mark.parametrize("name", ["pil-64", "torch7-64", "cifar10"])
def test_photographs_are_always_there(name):
    artifact = artifact_of_model(settled("resnet18_4classes"), profile_name=name)
    found = photographs(artifact, 7)
    assert found.shape == (7, 3, artifact.profile.resolution, artifact.profile.resolution)
    assert len({float(image.sum()) for image in found}) == 7
