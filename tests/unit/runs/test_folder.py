import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import resnext
from resnext.errors import CheckpointError, ResourceError, UsageError
from resnext.runs import RunFolder, best
from resnext.training.checkpoint import Checkpoint, load_weights
from stand_ins import epoch_record


def checkpoint(weights, **state):
    return Checkpoint(weights=weights, training={}, state=state)


WEIGHTS = {"w": torch.arange(6.0)}


@pytest.fixture
def folder(tiny, tmp_path):
    return tiny.create(tmp_path / "run", ["resnext", "train"])


def test_the_record_says_all_that_decides_the_run(tiny, folder):
    record = RunFolder.open(folder.path).record
    assert record == folder.record
    assert folder.spec() == tiny.spec
    assert record.recipe == tiny.recipe
    assert (record.seed, record.profile, record.device) == (3, "digits", "cpu")
    assert record.data.fingerprint == tiny.data.fingerprint
    assert record.data.classes == ("left", "right", "top", "bottom")
    assert record.versions.keys() >= {"python", "platform", "resnext", "torch", "numpy"}
    assert record.versions["torch"] == torch.__version__
    assert record.command == ("resnext", "train")


def test_an_existing_folder_is_refused_and_left_alone(tiny, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"found .*taken; nothing was changed"):
        tiny.create(taken)
    assert [(p.name, p.read_text()) for p in taken.iterdir()] == [("thesis.tex", "mine")]


def test_a_folder_that_cannot_be_made_is_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot make .*run: Not a directory"):
        tiny.create(tmp_path / "file" / "run")


def test_without_a_name_the_first_free_one_is_taken(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [str(tiny.create().path) for _ in range(3)]
    name = "runs/resnext11_2x2d-digits-seed3"
    assert names == [name, f"{name}-2", f"{name}-3"]


def test_without_a_name_what_was_left_off_continues(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = tiny.create()
    assert tiny.create_or_continue(None).path == first.path
    with first.locked():
        other = tiny.create_or_continue(None)
        assert other.path == Path(f"{first.path}-2")
        assert tiny.create_or_continue(None).path == other.path
    (other.path / "run.json").write_text("damaged")
    longer = replace(tiny, recipe=tiny.recipe.with_epochs(9))
    assert longer.create_or_continue(None).path == Path(f"{first.path}-3")
    monkeypatch.setattr(RunFolder, "finished", lambda _: True)
    assert tiny.create_or_continue(None).path == Path(f"{first.path}-4")


@pytest.mark.parametrize(
    ("made", "expected"),
    [(False, "no such folder"), (True, "it holds no run.json")],
    ids=["missing", "empty"],
)
def test_what_is_no_run_folder_is_refused(tmp_path, made, expected):
    path = tmp_path / "run"
    if made:
        path.mkdir()
    with pytest.raises(CheckpointError, match=f"expected a run folder, found .*run: {expected}"):
        RunFolder.open(path)


def change(folder, **values):
    file = folder.path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "field"),
    [({"seed": "3"}, "seed"), ({"colour": 1}, "colour"), ({"format": "1"}, "format")],
    ids=str,
)
def test_a_record_with_a_wrong_or_unknown_field_is_refused(folder, values, field):
    change(folder, **values)
    with pytest.raises(CheckpointError, match=rf"run\.json is damaged: {field}: "):
        RunFolder.open(folder.path)


def test_a_record_that_is_cut_off_is_refused(folder):
    file = folder.path / "run.json"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=r"run\.json is damaged: Invalid JSON"):
        RunFolder.open(folder.path)


def test_a_network_that_cannot_be_is_refused(folder):
    change(folder, spec={"stem": {}})
    with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
        RunFolder.open(folder.path).spec()


def test_epochs_are_kept_with_the_last_checkpoint_and_the_best_weights(folder):
    for number, error in enumerate([50.0, 20.0, 30.0], start=1):
        weights = {"w": torch.full((2,), float(number))}
        folder.save(9 * number, checkpoint(weights, epoch=number))
        folder.keep(weights, epoch_record(number, error))
    assert [e.validation_error for e in RunFolder.open(folder.path).epochs()] == [50.0, 20.0, 30.0]
    checkpoints = list((folder.path / "checkpoints").iterdir())
    assert sorted(c.name for c in checkpoints) == ["step-00000018", "step-00000027"]
    assert folder.newest()[0].state == {"format": 1, "epoch": 3}
    assert load_weights(folder.checkpoints()[1] / "weights.safetensors")["w"].tolist() == [2, 2]
    assert load_weights(folder.checkpoints()[0] / "weights.safetensors")["w"].tolist() == [3, 3]
    assert load_weights(folder.weights)["w"].tolist() == [2, 2]


def test_of_equal_epochs_the_last_is_the_best():
    errors = [2.0, 1.0, 1.0, 3.0]
    epochs = [epoch_record(number, error) for number, error in enumerate(errors, start=1)]
    assert best(epochs).epoch == 3


def test_a_torn_last_line_is_left_out(folder):
    folder.keep(WEIGHTS, epoch_record(1, 5.0))
    file = folder.path / "metrics.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole[:40])
    assert folder.epochs() == [epoch_record(1, 5.0)]


def test_another_damaged_line_is_refused(folder):
    (folder.path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged: learning_rate"):
        folder.epochs()


def test_a_folder_that_was_deleted_does_not_come_back_in_part(folder):
    shutil.rmtree(folder.path)
    with pytest.raises(ResourceError, match="cannot write"):
        folder.save(1, checkpoint(WEIGHTS))
    assert not folder.path.exists()


def test_a_record_of_another_version_is_not_called_damaged(folder):
    record = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps(record | {"format": 2, "colour": "red"}))
    with pytest.raises(CheckpointError, match="of format 1, found 2: it was made by another"):
        RunFolder.open(folder.path)


def test_records_of_the_first_format_are_read():
    opened = RunFolder.open(Path(__file__).parents[2] / "golden" / "run-format-1")
    assert opened.record.engine == "pillow"
    assert (opened.record.nan_limit, opened.record.bad_limit) == (20, 0.001)
    assert opened.spec() == resnext.spec("ResNeXt-11 (4x8d, CIFAR, 1 channel)")


def test_an_epoch_that_cannot_be_saved_is_an_error(folder):
    (folder.path / "checkpoints").rmdir()
    (folder.path / "checkpoints").write_text("in the way")
    with pytest.raises(ResourceError, match=r"cannot write .*step-00000001"):
        folder.save(1, checkpoint(WEIGHTS))
    assert folder.epochs() == []
