import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import resnext
from resnext.errors import CheckpointError
from resnext.runs.pretrained import Initial, initial_weights, load_pretrained
from resnext.training.checkpoint import save_weights

NAME = "ResNeXt-11 (2x2d, CIFAR)"


def network(seed=0, **kind):
    return resnext.build(NAME, form="grouped", seed=seed, **kind)


@pytest.fixture
def source():
    return network(seed=1).state_dict()


def loaded(path, model=None):
    model = model or network(seed=2)
    whole = load_pretrained(model, initial_weights(path))
    return model.state_dict(), whole


def same(found, expected, but=()):
    return [name for name in expected if name not in but and not found[name].equal(expected[name])]


def written(kind, weights, folder):
    """A file of the weights, of one of the kinds that are read."""
    path = folder / f"weights.{'safetensors' if kind.startswith('safe') else 'pth'}"
    if kind == "safetensors":
        save_file(weights, path)
    elif kind == "safetensors with a sum":
        save_weights(path, weights)
    else:
        content = {
            "pth": weights,
            "pth of a checkpoint": {"state_dict": weights, "epoch": 3},
            "pth of torchvision's training": {"model": weights},
            "pth of several GPUs": {f"module.{k}": v for k, v in weights.items()},
        }[kind]
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "safetensors",
        "safetensors with a sum",
        "pth",
        "pth of a checkpoint",
        "pth of torchvision's training",
        "pth of several GPUs",
    ],
)
def test_every_kind_of_file_is_taken_over_whole(tmp_path, source, kind):
    found, whole = loaded(written(kind, source, tmp_path))
    assert whole
    assert same(found, source) == []


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_a_classifier_of_other_classes_stays_as_it_is(tmp_path, source, kind):
    model = network(seed=2, classes=7)
    head = {name: model.state_dict()[name].clone() for name in ("fc.weight", "fc.bias")}
    found, whole = loaded(written(kind, source, tmp_path), model)
    assert not whole
    assert same(found, source, but=head) == []
    assert same(found, head) == []


def test_a_run_stands_for_its_best_weights(tmp_path, source):
    save_weights(tmp_path / "weights.safetensors", source)
    found, _ = loaded(tmp_path)
    assert same(found, source) == []


def test_the_names_are_torchvisions(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.resnext50_32x4d(weights=None).state_dict()
    torch.save(theirs, tmp_path / "theirs.pth")
    ours = resnext.build("ResNeXt-50 (32x4d)", form="grouped", seed=0)
    found, whole = loaded(tmp_path / "theirs.pth", ours)
    assert whole
    assert found.keys() == theirs.keys()
    assert same(found, theirs) == []


class Trap:
    """Runs a command where it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "among tensors"])
@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_no_file_can_run_code(tmp_path, source, form, suffix):
    canary, path = tmp_path / "canary", tmp_path / f"evil.{suffix}"
    trap = Trap(canary)
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        content = dict(source, evil=trap) if form == "among tensors" else trap
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(CheckpointError, match=r"a file of tensors alone, found .*evil") as raised:
        loaded(path)
    assert "save it as safetensors" in str(raised.value)
    assert "weights_only" not in str(raised.value)  # torch advises to load it all the same
    assert "\n" not in str(raised.value)
    assert not canary.exists()
    with path.open("rb") as file:
        pickle.load(file) if form == "bare pickle" else torch.load(file, weights_only=False)  # noqa: S301
    assert canary.exists()  # the trap is a trap


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "expected a state dict in"),
        ([torch.zeros(2)], "expected a state dict in .*, found list"),
        (torch.zeros(2), "expected a state dict in .*, found Tensor"),
    ],
    ids=["numbers", "list", "tensor"],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=message):
        loaded(tmp_path / "odd.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.bin"])
@pytest.mark.parametrize("data", [b"", b"\x80\x04not", b"PK\x03\x04" + bytes(40)], ids=len)
def test_a_file_of_something_else_is_refused_in_a_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError) as raised:
        loaded(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_weights_of_another_network_are_refused_and_nothing_is_changed(tmp_path):
    other = resnext.build("ResNeXt-11 (4x2d, CIFAR)", form="grouped")
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    model = network(seed=2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"to hold weights of .*layer1\.0"):
        loaded(tmp_path / "w.safetensors", model)
    assert same(model.state_dict(), before) == []


def test_a_file_that_changed_meanwhile_is_refused(tmp_path, source):
    save_file(source, tmp_path / "w.safetensors")
    meant = initial_weights(tmp_path / "w.safetensors")
    save_file(network(seed=5).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="as it was, found other bytes"):
        load_pretrained(network(), meant)


def test_a_damaged_file_with_a_sum_is_refused(tmp_path, source):
    path = tmp_path / "w.safetensors"
    save_weights(path, source)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"w\.safetensors is damaged"):
        loaded(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read .*nowhere\.pth: No such file"):
        initial_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("path", ["/a b/w.pth", "/x sha256:y/w"])
def test_what_a_record_says_of_it_is_read_back(path):
    initial = Initial(Path(path), "0" * 64)
    assert Initial.parse(str(initial)) == initial
