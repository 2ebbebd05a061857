"""Training that begins with weights: what follows from them, when it ends, what it shows."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import resnext
from resnext.cli.main import run as command
from resnext.data import DataSet
from resnext.data.arrays import ArraySource
from resnext.data.subset import Subset
from resnext.deploy import artifact_of, save
from resnext.errors import CheckpointError, ResNextError, UsageError
from resnext.report import Photos
from resnext.runs import RunFolder, mistakes, plan, train_run
from resnext.runs.beginning import Beginning, beginning
from resnext.runs.choosing import chosen_profile
from resnext.runs.mistakes import worst_mistakes
from resnext.runs.pages import run_report
from resnext.runs.planning import plan_again
from resnext.runs.pretrained import Initial, load_pretrained
from resnext.runs.records import ended_early
from resnext.runs.running import Notice
from resnext.training.distributed import World
from resnext.training.recipe import finetune_for
from resnext.training.speed import Speed
from stand_ins import epoch_record

NETWORK = "ResNeXt-11 (2x2d, CIFAR)"


@pytest.fixture
def trained(tiny, tmp_path):
    folder = tiny.create(tmp_path / "first")
    list(train_run(tiny, folder))
    return folder


def renamed(data, names):
    """The same images under other names of classes."""
    parts = (
        Subset(part, np.arange(len(part)), names, np.arange(len(names)))
        for part in (data.train, data.validation)
    )
    train, validation = parts
    return replace(data, train=train, validation=validation)


@pytest.mark.parametrize(
    ("images", "batch", "epochs"),
    [(50, 16, 100), (999, 16, 49), (5000, 32, 20), (100_000, 64, 10), (1_000_000, 256, 10)],
)
def test_batch_and_epochs_follow_from_the_number_of_images(images, batch, epochs):
    found = finetune_for(images)
    assert (found.batch_size, found.epochs, found.name) == (batch, epochs, "finetune")
    assert found.learning_rate == pytest.approx(0.005 * batch / 32)
    assert found.bn_batch <= found.batch_size


def test_network_recipe_and_head_follow_from_a_run(trained, sides):
    same = plan(sides, weights=trained.path, device="cpu")
    assert resnext.name(same.spec) == resnext.name(trained.spec())
    assert same.recipe == finetune_for(48)
    assert not same.new_head  # of the same classes
    other = plan(renamed(sides, ("a", "b", "c", "d")), weights=trained.path, device="cpu")
    assert other.new_head  # as many, but others


@pytest.mark.parametrize(("theirs", "ours"), [("cifar100", "cifar100"), ("pil-64", "cifar10")])
def test_images_are_prepared_as_the_weights_have_seen_them(theirs, ours):
    begun = Beginning(initial=Initial(Path("w"), ""), profile=theirs)
    source = ArraySource(
        title="x",
        pixels=np.zeros((4, 32, 32, 3), np.uint8),
        labels=np.arange(4),
        classes=tuple("abcd"),
    )
    data = DataSet(name="x", location="x", train=source, validation=source)
    assert chosen_profile(data, None, None, begun).name == ours


def test_a_new_classifier_begins_anew(trained, sides, tmp_path):
    for names, head in ((None, "taken over"), (("a", "b", "c", "d"), "new")):
        data = sides if names is None else renamed(sides, names)
        decided = plan(data, weights=trained.path, device="cpu", epochs=1)
        records = list(train_run(decided, decided.create(tmp_path / head)))
        notices = [r.text for r in records if isinstance(r, Notice)]
        assert notices[0].endswith(f"classifier {head}")


def test_a_file_tells_its_network_and_its_classifier_is_not_trusted(trained, sides, tmp_path):
    save_file(load_file(trained.weights), tmp_path / "bare.safetensors")
    found = plan(sides, weights=tmp_path / "bare.safetensors", device="cpu")
    assert resnext.name(found.spec) == resnext.name(trained.spec())
    assert found.new_head


@pytest.mark.parametrize("change", ["counters left out", "halves"])
def test_what_evaluate_takes_training_takes(trained, sides, tmp_path, change):
    """Older files lack the counters of batches; others hold fewer digits."""
    whole = load_file(trained.weights)
    if change == "halves":
        kept = {k: t.half() if t.is_floating_point() else t for k, t in whole.items()}
    else:
        kept = {k: t for k, t in whole.items() if not k.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / "old.safetensors")
    decided = plan(sides, weights=tmp_path / "old.safetensors", device="cpu", epochs=1)
    model = resnext.build(decided.spec, seed=9)
    load_pretrained(model, decided.initial, new_head=decided.new_head)
    for name, tensor in model.state_dict().items():
        if name in kept and not name.startswith("fc."):
            assert tensor.equal(kept[name].to(tensor.dtype)), name
    list(train_run(decided, decided.create(tmp_path / "run")))
    assert RunFolder.open(tmp_path / "run").finished()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"network": "ResNeXt-11 (4x2d, CIFAR)"}, "look like ResNeXt-11 .2×2d, CIFAR, 4 classes"),
        ({"settings": {"leading": "5"}}, "at most the 4 classes of the data to be leading"),
        (
            {"settings": {"frozen": "conv2"}, "speed": Speed(sharded=True)},
            "expected frozen=none for --shard, found conv2",
        ),
        ({"world": World(size=2), "batch_size": 8}, "at most 1 processes .* --set bn_batch=4"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_folder_is_made(trained, sides, asked, said):
    with pytest.raises(ResNextError, match=said):
        plan(sides, **{"weights": trained.path, "device": "cpu"} | asked)


def test_the_same_weights_at_another_place_are_the_same(trained, sides, tmp_path):
    first = plan(sides, weights=trained.path, device="cpu")
    folder = first.create(tmp_path / "run")
    shutil.copytree(trained.path, tmp_path / "copy")
    moved = plan(sides, weights=tmp_path / "copy", device="cpu")
    assert moved.create_or_continue(folder.path).record == folder.record
    shutil.rmtree(trained.path)
    with pytest.raises(CheckpointError, match="lies elsewhere now, say so with --weights"):
        list(train_run(first, folder))
    again = plan_again(folder, {"data": sides, "weights": tmp_path / "copy"}, device="cpu")
    assert again.initial == moved.initial
    other = replace(moved, initial=Initial(moved.initial.path, "0" * 64))
    with pytest.raises(UsageError, match="initial_weights"):
        other.create_or_continue(folder.path)


def test_an_artifact_is_something_to_begin_with(trained, sides, tmp_path):
    made = save(artifact_of(str(trained.path)), tmp_path / "artifact")
    found = plan(sides, weights=made.folder, device="cpu")
    assert resnext.name(found.spec) == resnext.name(trained.spec())
    assert not found.new_head


def test_a_run_that_is_begun_needs_its_first_weights_no_more(trained, sides, tmp_path):
    decided = plan(sides, weights=trained.path, device="cpu", epochs=2)
    folder = decided.create(tmp_path / "second")
    list(train_run(decided, folder))
    shutil.rmtree(trained.path)
    again = plan_again(RunFolder.open(folder.path), {"data": sides}, device="cpu")
    assert list(train_run(again, folder))[-1].text.startswith("continuing behind")


def test_torchvision_s_own_cache_is_looked_at(tmp_path, sides, monkeypatch):
    from torchvision import models

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = models.ResNet18_Weights.IMAGENET1K_V1.url
    (tmp_path / "checkpoints").mkdir()
    torch.save(models.resnet18().state_dict(), tmp_path / "checkpoints" / url.rpartition("/")[2])
    found = beginning("torchvision:resnet18")
    assert resnext.name(found.spec) == "ResNet-18"
    assert found.initial.path.parent == tmp_path / "checkpoints"
    with pytest.raises(UsageError, match=r"found torchvision:resnet19; there are .*resnet1"):
        beginning("torchvision:resnet19")
    with pytest.raises(UsageError, match="found torchvision:resnet18@V9; there are @IMAGENET1K_V1"):
        beginning("torchvision:resnet18@V9")


def test_weights_that_cannot_be_fetched_say_where_to_put_them(tmp_path, monkeypatch):
    def refused(url, *_):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    with pytest.raises(CheckpointError, match=r"no network.*say --weights FILE, or put the file"):
        beginning("torchvision:resnext50_32x4d")


def test_timm_s_cache_is_looked_at(tmp_path, monkeypatch):
    import huggingface_hub
    import timm

    model = timm.create_model("resnet18.tv_in1k", pretrained=False)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def cached(repo, file):
        asked.append((repo, file))
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cached)
    assert resnext.name(beginning("timm:resnet18.tv_in1k").spec) == "ResNet-18"
    assert asked == [("timm/resnet18.tv_in1k", "model.safetensors")]
    with pytest.raises(UsageError, match=r"found timm:resnet18\.nothing; there are resnet18"):
        beginning("timm:resnet18.nothing")


def errors(*values):
    return [epoch_record(number, error) for number, error in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("values", "ended"),
    [((5, 4, 3), False), ((5, 4, 4), False), ((5, 4, 4, 4), True), ((3, 4, 5), True), ((), False)],
)
def test_patience_counts_epochs_without_a_lower_error(values, ended):
    assert ended_early(errors(*values), 2) == ended
    assert not ended_early(errors(*values), None)


def test_a_run_ends_early_and_stays_ended(tiny, tmp_path):
    patient = replace(tiny, recipe=tiny.recipe.with_epochs(50).model_copy(update={"patience": 2}))
    folder = patient.create(tmp_path / "run")
    records = list(train_run(patient, folder))
    done = folder.epochs()
    assert len(done) < 50
    assert folder.finished()
    assert records[-1].text == "ended early: no lower error in 2 epochs"
    again = [r for r in train_run(patient, folder) if not isinstance(r, Notice)]
    assert again == []
    assert folder.epochs() == done
    said = f"after {len(done)} of 50 epochs (patience 2 ended it)"
    assert said in str(run_report([folder]).summary)


def test_worst_mistakes_are_those_of_the_least_chance(trained, sides):
    *_, photos = worst_mistakes(trained, sides, count=100, device="cpu")
    assert isinstance(photos, Photos)
    model = resnext.build(trained.spec())
    model.load_state_dict(load_file(trained.weights))
    model.eval()
    wrong = round(trained.epochs()[-1].validation_error * len(sides.validation) / 100)
    best = min(e.validation_error for e in trained.epochs())
    assert len(photos.photos) == round(best * len(sides.validation) / 100)
    assert len(photos.photos) <= max(wrong, len(photos.photos))
    chances = [float(p.caption.split("(")[1].split(" %")[0]) for p in photos.photos]
    assert chances == sorted(chances)
    for photo in photos.photos:
        own, taken = photo.caption.split(" taken for ")
        assert own.split(" (")[0] != taken.split(" (")[0]
        assert max(Image.open(io.BytesIO(photo.data)).size) == 80


def test_a_page_shows_mistakes_and_says_where_images_are_gone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exit_code("train", "--epochs", "1", "--out", "run", "--network", "ResNeXt-11 (2x4d, CIFAR)")
    capsys.readouterr()
    assert "Worst mistakes" in (tmp_path / "run" / "report.html").read_text()
    record = (tmp_path / "run" / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(
        record.replace('"fingerprint": "', '"fingerprint": "0')
    )
    assert exit_code("report", "run") == 0
    assert "no mistakes are shown" in capsys.readouterr().err
    assert "Worst mistakes" not in (tmp_path / "run" / "report.html").read_text()
    assert exit_code("report", "run", "--out", "x", "--mistakes", "3") == 2
    assert exit_code("report", "run", "--mistakes", "3") == 3  # what was asked for is not left out
    (tmp_path / "run" / "run.json").write_text(record)
    monkeypatch.setattr(mistakes, "MOST_IMAGES", 449)
    capsys.readouterr()
    assert exit_code("report", "run") == 0
    assert "found 450; resnext report run --mistakes 24 shows them" in capsys.readouterr().err
    assert exit_code("report", "run", "--mistakes", "1") == 0
    assert "Worst mistakes" in (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "run" / "weights.safetensors").unlink()
    assert exit_code("report", "run") == 0  # curves need no weights


def exit_code(*words):
    with pytest.raises(SystemExit) as ended:
        command(words)
    return ended.value.code
