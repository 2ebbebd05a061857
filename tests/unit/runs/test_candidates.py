import pytest
import torch
from safetensors.torch import save_file

from resnext import build
from resnext.errors import CheckpointError, UsageError
from resnext.runs.candidates import candidate

models = pytest.importorskip("torchvision.models")
timm = pytest.importorskip("timm")

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def saved(model, path, *, older=False):
    state = {
        key: tensor.contiguous()
        for key, tensor in model.state_dict().items()
        if not (older and key.endswith("num_batches_tracked"))
    }
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    return path


def answers(model):
    with torch.inference_mode():
        return model.eval()(IMAGES)


PEERS = {
    "torchvision:resnet18": lambda: models.resnet18(num_classes=9),
    "timm:resnet18": lambda: timm.create_model("resnet18", num_classes=9),
    "resnet18": lambda: build("resnet18", classes=9),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_one_file_is_one_network_whatever_it_is_called(tmp_path, name, suffix):
    torch.manual_seed(0)
    model = PEERS[name]()
    file = saved(model, tmp_path / f"w{suffix}")
    bare, named = candidate(str(file)), candidate(name, file)
    assert bare.network == "ResNet-18 (9 classes)"
    assert (bare.outputs, named.outputs, bare.weights) == (9, 9, named.weights)
    for found in (bare, named):
        torch.testing.assert_close(answers(found.model), answers(model))


def test_their_preprocessing_is_their_own(tmp_path):
    eighteen = saved(models.resnet18(num_classes=9), tmp_path / "w.pth")
    assert candidate("torchvision:resnet18", eighteen).profile.name == "pil-224"
    assert candidate("timm:resnet18", eighteen).profile.name == "pil-bicubic-224@235"
    assert candidate(str(eighteen)).profile.name == "pil-224"
    assert candidate(str(eighteen), profile_name="torch7-224").profile.name == "torch7-224"
    with pytest.raises(UsageError, match=r"expected a profile of 3 channels for .*, found digits"):
        candidate(str(eighteen), profile_name="digits")


def test_older_files_lack_counters_and_inception_has_a_head_for_training(tmp_path):
    torch.manual_seed(0)
    old = saved(models.resnet18(num_classes=3), tmp_path / "old.pth", older=True)
    assert candidate(str(old)).network == "ResNet-18 (3 classes)"
    model = models.inception_v3(
        init_weights=False, num_classes=3, aux_logits=True, transform_input=True
    )
    found = candidate("torchvision:inception_v3", saved(model, tmp_path / "i.pth"))
    assert (found.profile.name, found.outputs, found.side) == ("pil-299", 3, 299)
    images = torch.randn(1, 3, 299, 299)
    with torch.inference_mode():
        torch.testing.assert_close(found.model(images), model.eval()(images))


def test_a_published_file_is_known_by_its_checksum():
    from resnext.runs.peers import peer_network

    state = models.resnet50().state_dict()
    for digest, name in (("0676ba61", "pil-224"), ("11ad3fa6", "pil-224@232"), ("0", "pil-224")):
        assert peer_network("torchvision", "resnet50", state, digest)[1].name == name


WRONG = (
    r"of ResNet-18 \(4 classes\), found conv1.weight 64x3x3x3 for 64x3x7x7, .* \(\d+ such\); "
    r"they look like ResNeXt-29 \(2×8d, CIFAR, 4 classes\)"
)


def refusals(tmp_path):
    file = saved(build("resnext29_2x8d", classes=4), tmp_path / "w.safetensors")
    odd = tmp_path / "odd.safetensors"
    save_file({"x": torch.zeros(1)}, odd)
    short = tmp_path / "short.pth"
    torch.save(build("resnext29_2x8d").state_dict() | {"fc.bias": torch.zeros(3)}, short)
    ambiguous = saved(build("resnet18_noshortcut", classes=4), tmp_path / "n.safetensors")
    t7 = tmp_path / "resnext_50_32x4d.t7"
    t7.write_bytes(b"\x04")
    pickled = tmp_path / "p.pth"
    torch.save({"model": torch.nn.Linear(1, 1)}, pickled)
    return {
        "wrong": (("resnet18", file), CheckpointError, WRONG),
        "nothing": ((str(odd), None), CheckpointError, "found others; say the network's name"),
        "near": ((str(short), None), CheckpointError, "found fc.weight 10x"),
        "two": ((str(ambiguous), None), CheckpointError, "and one with shortcut A; say the"),
        "torch7": ((str(t7), None), CheckpointError, "of Torch7, which no maintained library"),
        "code": ((str(pickled), None), CheckpointError, "expected a file of tensors alone"),
        "bare": (("resnet50", None), UsageError, "expected weights for resnet50, found none"),
        "bare peer": (("timm:resnet50", None), UsageError, "expected weights for timm:resnet50"),
        "typing": (("timm:resnet5O", file), UsageError, "expected a network of timm, found"),
        "unknown": (("torchvision:resnet51", file), UsageError, "did you mean torchvision:resnet"),
        "no such": (("nowhere", None), UsageError, "no run folder, artifact or file of"),
        "missing": (("resnet18", tmp_path / "m.pth"), CheckpointError, "No such file"),
        "both": ((str(file), file), UsageError, "the 0 networks by name, found 1; a run"),
        "peer": (("torchvision:resnet18", file), CheckpointError, "they look like ResNeXt-29"),
    }  # fmt: skip


@pytest.mark.parametrize("case", ["wrong", "nothing", "near", "two", "torch7", "code", "bare",
                                  "bare peer", "typing", "unknown", "no such", "missing",
                                  "both", "peer"])  # fmt: skip
def test_what_cannot_be_scored_is_refused_in_one_line(tmp_path, case):
    words, kind, message = refusals(tmp_path)[case]
    with pytest.raises(kind, match=message) as raised:
        candidate(*words)
    assert "\n" not in str(raised.value)


def test_nothing_pickled_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("touched").touch, ())

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="expected a file of tensors alone"):
        candidate(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "touched").exists()
