import hashlib
import json
import struct
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from resnext import build, convert
from resnext.deploy import artifact_of, artifact_of_model, load, save, with_classes, with_score
from resnext.deploy.card import TIMM_NAMES, timm_name
from resnext.deploy.origin import with_words
from resnext.errors import CheckpointError, DataError, UsageError
from resnext.runs import evaluate_candidate, train_run
from resnext.runs.candidates import candidate
from resnext.training.checkpoint import sums_of
from unit.deploy.networks import answers, images, settled

models = pytest.importorskip("torchvision.models")
timm = pytest.importorskip("timm")


def test_what_was_saved_is_loaded(artifact, tmp_path):
    saved = save(artifact, tmp_path / "deep" / "a")
    found = load(tmp_path / "deep" / "a")
    assert (found.record, found.spec, found.profile) == (
        saved.record,
        artifact.spec,
        artifact.profile,
    )
    assert found.classes == ("ant", "bee", "cat", "dog")
    torch.testing.assert_close(dict(found.weights), dict(artifact.weights), rtol=0, atol=0)
    assert sorted(file.name for file in (tmp_path / "deep" / "a").iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "artifact.json",
        "config.json",
        "model.safetensors",
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


def test_any_form_is_saved_as_the_grouped_one(tmp_path):
    model = settled("ResNeXt-11 (2x4d, CIFAR, 4 classes)")
    batch = images()
    for form in ("split", "concat"):
        save(artifact_of_model(convert(model, form)), tmp_path / form)
        found = load(tmp_path / form).model()
        torch.testing.assert_close(answers(found, batch), answers(model, batch), rtol=0, atol=0)


def test_a_run_says_what_it_saw(tiny, tmp_path):
    folder = tiny.create(tmp_path / "run")
    list(train_run(tiny, folder))
    found = artifact_of(folder.path)
    epochs = folder.epochs()
    (score,) = found.record.scores
    assert score.top1_error == min(epoch.validation_error for epoch in epochs)
    assert (score.protocol, score.profile, score.chosen) == ("single view", "digits", True)
    assert score.top5_error is None  # of four classes
    assert found.classes == ("left", "right", "top", "bottom")
    origin = found.record.origin
    assert (origin.run, origin.seed, origin.epochs) == ("run", 3, 2)
    text = (save(found, tmp_path / "a").folder / "artifact.json").read_text()
    assert str(tmp_path) not in text
    assert found.record.weights == hashlib.sha256(folder.weights.read_bytes()).hexdigest()


def test_an_artifact_is_scored_like_its_run(tiny, sides, tmp_path):
    folder = tiny.create(tmp_path / "run")
    list(train_run(tiny, folder))
    save(artifact_of(folder.path), tmp_path / "a")
    scores = []
    for path in (folder.path, tmp_path / "a"):
        *_, result = evaluate_candidate(candidate(str(path)), sides)
        scores.append(result)
    assert scores[0].scores.counts == scores[1].scores.counts
    said = scores[1].to_dict()
    more = with_score(load(tmp_path / "a"), said, "said.json")
    assert more.record.scores[-1].samples == 20
    assert "| 20 | single view |" in (save(more, tmp_path / "b").folder / "README.md").read_text()
    with pytest.raises(DataError, match="expected scores of these weights"):
        with_score(load(tmp_path / "a"), said | {"weights": "0"}, "said.json")
    with pytest.raises(DataError, match="resnext evaluate --json"):
        with_score(load(tmp_path / "a"), {"top1_error": "x"}, "said.json")


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_torchvision_and_timm_take_the_weights(tmp_path, name):
    model = settled(f"{name}_7classes")
    save(artifact_of_model(model, profile_name="pil-64@70"), tmp_path / "a")
    batch = images(2, 64)
    theirs = models.get_model(name, num_classes=7)
    theirs.load_state_dict(load_file(tmp_path / "a" / "model.safetensors"))
    timms = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True)
    built = timm.create_model(
        name, num_classes=7, checkpoint_path=str(tmp_path / "a" / "model.safetensors")
    )
    for other in (theirs, timms, built):
        torch.testing.assert_close(answers(other, batch), answers(model, batch), rtol=0, atol=0)
    config = timm.data.resolve_model_data_config(timms)
    assert (config["input_size"], config["crop_pct"]) == ([3, 64, 64], 64 / 70)


def test_the_card_of_one_channel_names_timm_alone(tmp_path):
    model = settled("resnet18_1channel_7classes")
    save(artifact_of_model(model), tmp_path / "a")
    assert "torchvision" not in (tmp_path / "a" / "README.md").read_text()
    timms = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True)
    batch = images(2, 64, channels=1)
    torch.testing.assert_close(answers(timms, batch), answers(model, batch), rtol=0, atol=0)


def test_timm_takes_networks_of_ours_too(artifact, tmp_path):
    from resnext.model.timm_adapter import register_with_timm

    save(artifact, tmp_path / "a")
    register_with_timm([artifact.spec])
    found = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True)
    batch = images()
    torch.testing.assert_close(
        answers(found, batch), answers(artifact.model(), batch), rtol=0, atol=0
    )
    assert found.pretrained_cfg["label_names"] == ["ant", "bee", "cat", "dog"]


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_timm_s_names_are_of_the_same_networks(name):
    ours, (theirs, known) = build(name, device="meta"), timm_name(build(name, device="meta").spec)
    assert known
    with torch.device("meta"):
        found = timm.create_model(theirs).state_dict()
    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in ours.state_dict().items()
    }


def test_peers_in_memory_and_in_files_are_artifacts(tmp_path):
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=5)
    assert artifact_of_model(theirs).network == "ResNet-18 (5 classes)"
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    found = artifact_of("timm:resnet18", tmp_path / "w.safetensors")
    assert (found.profile.name, found.classes) == ("pil-bicubic-224@235", tuple("01234"))
    assert artifact_of("resnet18", tmp_path / "w.safetensors").profile.name == "pil-224"
    for given in (str(tmp_path / "w.safetensors"), "hub:me/ants"):
        with pytest.raises(UsageError, match="expected --weights for the 0 networks by name"):
            artifact_of(given, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="expected a ResNet or ResNeXt, found AlexNet"):
        artifact_of_model(models.alexnet())


def test_the_card_is_one_of_the_hub(artifact, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    record = artifact.record.model_copy(
        update={"licence": "apache-2.0", "classes": ("a|b\nc", '"q": [', "ö", "d")}
    )
    from dataclasses import replace

    save(replace(artifact, record=record), tmp_path / "a")
    card = hub.ModelCard.load(tmp_path / "a" / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification"
    assert "a\\|b c" in card.text


def test_an_edited_card_is_kept_and_another_is_made_anew(artifact, tmp_path):
    saved = save(artifact, tmp_path / "a")
    card = saved.folder / "README.md"
    made = card.read_bytes()
    licensed = with_words(load(saved.folder), licence="MIT")
    assert b"licence | MIT" in (save(licensed, tmp_path / "b").folder / "README.md").read_bytes()
    card.write_bytes(b"# Mine, \xff\r\n")
    again = save(licensed, tmp_path / "c")
    assert (again.folder / "README.md").read_bytes() == b"# Mine, \xff\r\n"
    card.unlink()
    assert (save(load(saved.folder), tmp_path / "d").folder / "README.md").read_bytes() == made
    save(artifact_of_model(settled(seed=1)), saved.folder, replacing=True)
    card.write_bytes(b"# Of others")
    assert (save(saved, tmp_path / "e").folder / "README.md").read_bytes() == made


def test_nothing_is_overwritten(artifact, tmp_path):
    place = tmp_path / "a"
    save(artifact, place)
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    with pytest.raises(UsageError, match=r"expected a new folder, found the artifact .* --replace"):
        save(artifact, place)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"expected an artifact alone in .* found notes.txt"):
        save(artifact, place, replacing=True)
    (place / "notes.txt").unlink()
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    save(with_classes(artifact, tuple("wxyz")), place, replacing=True)
    assert load(place).classes == tuple("wxyz")
    other = tmp_path / "other"
    other.mkdir()
    for path in (other, place / "README.md"):
        with pytest.raises(UsageError, match="expected a new folder, found"):
            save(artifact, path, replacing=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "other"]


def test_a_replacement_that_fails_leaves_the_old_one(artifact, tmp_path, monkeypatch):
    from pathlib import Path

    save(artifact, tmp_path / "a")
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ValueError, match="No space left"):
        save(with_classes(artifact, tuple("wxyz")), tmp_path / "a", replacing=True)
    assert load(tmp_path / "a").classes == artifact.classes
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_weights_that_are_no_numbers_are_refused():
    model = settled("ResNeXt-11 (2x4d, CIFAR, 4 classes)")
    model.layer2[0].bn1.running_var[1] = float("nan")
    with pytest.raises(CheckpointError, match=r"found NaN or infinity in layer2.0.bn1.running_var"):
        artifact_of_model(model)


def resigned(folder):
    """Checksums of what is there now, as somebody who means harm would leave them."""
    names = ("model.safetensors", "artifact.json", "config.json")
    contents = {name: (folder / name).read_bytes() for name in names}
    (folder / "SHA256SUMS").write_bytes(sums_of(contents))


def changed(folder, **fields):
    record = json.loads((folder / "artifact.json").read_text()) | fields
    (folder / "artifact.json").write_text(json.dumps(record))
    resigned(folder)


def stages(folder, **fields):
    spec = json.loads((folder / "artifact.json").read_text())["spec"]
    spec["stages"][0] |= fields
    return spec


DAMAGE = {
    "flipped bit": (lambda f: flip(f / "model.safetensors"), "model.safetensors is damaged"),
    "changed word": (lambda f: flip(f / "artifact.json"), "artifact.json is damaged"),
    "changed config": (lambda f: flip(f / "config.json"), "config.json is damaged"),
    "no sums": (lambda f: (f / "SHA256SUMS").unlink(), "cannot read .*SHA256SUMS"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "cannot read .*model.safetensors"),
    "format": (lambda f: changed(f, format=2), "of format 1, found 2"),
    "unknown field": (lambda f: changed(f, _target_="os.system"), "_target_"),
    "names": (lambda f: changed(f, classes=["a"]), "expected names of 4 classes, found 1"),
    "profile": (lambda f: changed(f, profile="digits"), "expected a profile of 3 channels"),
    "no profile": (lambda f: changed(f, profile="x"), "expected a profile out of"),
    "not a network": (lambda f: changed(f, spec={"stages": 3}), "no network in it"),
    "blocks": (lambda f: changed(f, spec=stages(f, blocks=10**12)), "at most 2000 blocks"),
    "other network": (lambda f: changed(f, spec=stages(f, blocks=2)), "to hold weights"),
    "deep json": (lambda f: nested(f), "artifact.json is damaged"),
}


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def nested(folder):
    (folder / "artifact.json").write_text("[" * 100_000)
    resigned(folder)


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_refused_in_one_line(artifact, tmp_path, case):
    save(artifact, tmp_path / "a")
    harm, message = DAMAGE[case]
    harm(tmp_path / "a")
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=message) as raised:
        load(tmp_path / "a")
    assert "\n" not in str(raised.value)
    assert time.perf_counter() - started < 1


def hostile(kind):
    """Bytes that pretend to be safetensors."""

    def header(entries, data=b""):
        text = json.dumps(entries).encode()
        return struct.pack("<Q", len(text)) + text + data

    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    return {
        "huge header": lambda: struct.pack("<Q", 2**60) + b"{}",
        "header of 1 GB": lambda: struct.pack("<Q", 10**9) + b"{}",
        "overlap": lambda: header({"a": tensor, "b": tensor}, b"\0" * 4),
        "huge shape": lambda: header({"a": tensor | {"shape": [10**12]}}, b"\0" * 4),
        "overflowing shape": lambda: header({"a": tensor | {"shape": [2**40, 2**40]}}, b"\0" * 4),
        "many tensors": lambda: header(
            {f"t{i}": tensor | {"data_offsets": [4 * i, 4 * i + 4]} for i in range(100_000)},
            b"\0" * 400_000,
        ),
        "pickle": lambda: b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.",
        "nothing": lambda: b"",
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    ["huge header", "header of 1 GB", "overlap", "huge shape", "overflowing shape",
     "many tensors", "pickle", "nothing"],
)  # fmt: skip
def test_hostile_weights_are_refused_at_once(artifact, tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(artifact, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").write_bytes(hostile(kind))
    resigned(tmp_path / "a")
    started = time.perf_counter()
    with pytest.raises(CheckpointError):
        load(tmp_path / "a")
    assert time.perf_counter() - started < 1
    assert not (tmp_path / "canary").exists()


def test_what_is_no_artifact_is_said_to_be_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected an artifact, found no artifact.json"):
        load(tmp_path)
    with pytest.raises(DataError, match="expected names of 4 classes, found 2"):
        artifact_of_model(settled("ResNeXt-11 (2x4d, CIFAR, 4 classes)"), classes=("a", "b"))
    with pytest.raises(UsageError, match="expected a profile of 3 channels"):
        artifact_of_model(settled("ResNeXt-11 (2x4d, CIFAR, 4 classes)"), profile_name="digits")
