import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import resnext
from resnext.data import DataSet
from resnext.data.arrays import ArraySource
from resnext.errors import CheckpointError, DataError, NotFiniteError
from resnext.runs import EpochRecord, best, evaluate_run, load_model, plan, train_run
from resnext.training.checkpoint import load_weights, save_weights
from resnext.training.trainer import Trainer


def trained(decided, path):
    folder = decided.create(path)
    records = [r for r in train_run(decided, folder) if isinstance(r, EpochRecord)]
    return folder, records


@pytest.fixture
def run(tiny, tmp_path):
    return trained(tiny, tmp_path / "run")[0]


def test_a_run_learns_and_its_number_comes_again_from_the_weights(sides, tmp_path):
    decided = plan(sides, "ResNeXt-11 (2x2d, CIFAR)", "digits", epochs=16, device="cpu")
    folder, records = trained(decided, tmp_path / "run")
    assert records == folder.epochs()
    assert [r.epoch for r in records] == list(range(1, 17))
    assert best(records).validation_error < 20 < 75 == 100 - 100 / len(sides.classes)
    *_, result = evaluate_run(folder.path, sides)
    assert result.own_data
    assert result.scores.counts.top1_error == best(records).validation_error
    assert result.scores.counts.loss == best(records).validation_loss
    assert result.to_dict()["samples"] == 20
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


def test_the_same_seed_gives_the_same_run(sides, tmp_path):
    def weights(seed, name):
        decided = plan(sides, "ResNeXt-11 (2x2d, CIFAR)", "small", epochs=2, seed=seed)
        folder, records = trained(decided, tmp_path / name)
        return load_file(folder.weights), [(r.train_loss, r.validation_loss) for r in records]

    (one, losses), (again, same), (other, _) = weights(1, "a"), weights(1, "b"), weights(2, "c")
    assert losses == same
    for name in one:
        torch.testing.assert_close(again[name], one[name], rtol=0, atol=0)
    assert (one["fc.weight"] != other["fc.weight"]).all()


def test_a_loss_scale_that_is_lost_says_so_and_names_the_images_at_hand(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(Trainer, "scale_lost", lambda _: True)
    folder = replace(tiny, on_nan="skip").create(tmp_path / "run")
    with pytest.raises(NotFiniteError) as raised:
        list(train_run(replace(tiny, on_nan="skip"), folder))
    found = json.loads((folder.path / "not-finite.json").read_text())
    assert found["update"] >= 1
    assert len(found["images"]) == len(found["numbers"]) >= 1
    assert str(raised.value).startswith(
        f"training stopped: gradients of fp16 overflow however little they are scaled, last in "
        f"update {found['update']} (epoch 1, learning rate "
    )
    assert "--precision bf16" in str(raised.value)
    assert "--on-nan" not in str(raised.value)


def test_weights_have_the_names_of_the_grouped_form(run):
    expected = resnext.build(run.spec()).state_dict()
    assert load_weights(run.weights).keys() == expected.keys()


def test_stopping_early_keeps_the_finished_epochs(sides, tmp_path):
    decided = plan(sides, "ResNeXt-11 (2x2d, CIFAR)", "small", device="cpu")
    folder = decided.create(tmp_path / "run")
    records = train_run(decided, folder)
    while not isinstance(next(records), EpochRecord):
        pass
    records.close()
    assert len(folder.epochs()) == 1
    assert [c.name for c in (folder.path / "checkpoints").iterdir()] == ["step-00000002"]
    assert isinstance(load_model(folder), nn.Module)


def test_damaged_weights_are_refused(run, sides):
    data = bytearray(run.weights.read_bytes())
    data[len(data) // 2] ^= 4
    run.weights.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        list(evaluate_run(run.path, sides))


def test_weights_of_another_network_are_refused(run):
    other = resnext.build("ResNeXt-11 (2x2d, CIFAR)", classes=5, in_channels=1)
    save_weights(run.weights, other.state_dict())
    with pytest.raises(
        CheckpointError, match=r"with fc\.bias as 4 of float32, found 5 of float32 \(2 such\)"
    ):
        load_model(run)
    save_weights(run.weights, {"odd": torch.zeros(2, 3)})
    with pytest.raises(CheckpointError, match=r"as 64 of float32, found nothing"):
        load_model(run)


def test_a_run_without_a_finished_epoch_has_no_weights(tiny, tmp_path):
    folder = tiny.create(tmp_path / "run")
    with pytest.raises(CheckpointError, match="no epoch was finished yet; go on with resnext"):
        list(evaluate_run(folder.path))


def test_data_that_changed_is_refused_unless_it_is_named(run, sides, monkeypatch):
    pixels = sides.validation.pixels.copy()
    pixels[0, 0, 0] ^= 1
    changed = replace(
        sides,
        validation=ArraySource(
            title="sides", pixels=pixels, labels=sides.validation.labels, classes=sides.classes
        ),
    )
    monkeypatch.setattr("resnext.runs.images.open_data", lambda _: changed)
    with pytest.raises(DataError, match=r"digits has changed since .*say --data digits"):
        list(evaluate_run(run.path))
    *_, result = evaluate_run(run.path, "digits")
    assert not result.own_data
    assert result.data.fingerprint == changed.validation.fingerprint() != sides.fingerprint


def renamed(sides, classes):
    parts = [
        ArraySource(title="x", pixels=p.pixels, labels=p.labels, classes=classes)
        for p in (sides.train, sides.validation)
    ]
    return DataSet(name="here", location="digits", train=parts[0], validation=parts[1])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("left", "right", "up", "bottom"), "class 2 is 'up' instead of 'top'"),
        (("left", "right", "top", "bottom", "none"), "class 4 is 'none' instead of None"),
    ],
)
def test_data_of_other_classes_is_refused(run, sides, classes, message):
    with pytest.raises(DataError, match=message):
        list(evaluate_run(run.path, renamed(sides, classes)))


def write_photos_with_a_bad_one(root):
    """Photos in train/ and val/; one of val/ is no picture."""
    from unit.data.pictures import write_folder

    write_folder(root / "train", {"a": 6, "b": 6})
    write_folder(root / "val", {"a": 2, "b": 2})
    (root / "val" / "b" / "1.png").write_bytes(b"no picture")
    return root


def test_a_bad_validation_image_costs_no_trained_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = write_photos_with_a_bad_one(tmp_path / "photos")
    decided = plan(photos, "ResNeXt-11 (2x2d, CIFAR)", epochs=1, resolution=16, device="cpu")
    folder = decided.create()
    with pytest.raises(DataError, match=r"1\.png"):
        list(train_run(decided, folder))
    assert folder.epochs() == []
    assert load_weights(folder.checkpoints()[0] / "weights.safetensors").keys() >= {
        "conv1.weight",
        "fc.bias",
    }


def test_bad_images_are_in_the_log_also_when_they_stop_the_run(tmp_path, monkeypatch):
    from unit.data.pictures import write_folder

    monkeypatch.chdir(tmp_path)
    photos = write_folder(tmp_path / "photos", {"a": 30, "b": 30})
    for number in (3, 7, 11, 13, 17):
        (photos / "a" / f"{number}.png").write_bytes(b"no picture")
    decided = plan(
        photos, "ResNeXt-11 (2x2d, CIFAR)", epochs=1, resolution=16, device="cpu", bad_limit=0.04
    )
    folder = decided.create()
    with pytest.raises(DataError, match="expected at most 1 images that cannot be used"):
        list(train_run(decided, folder))
    lines = (folder.path / "bad-images.jsonl").read_text().splitlines()
    assert len(lines) >= 2
    assert all(".png" in json.loads(line)["image"] for line in lines)
