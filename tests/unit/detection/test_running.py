"""Whole detectors from plan to figures on made-up pictures."""

import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from PIL import Image

from resnext.detection.again import plan_again
from resnext.detection.batches import Steps
from resnext.detection.detecting import (
    evaluate_detector,
    load_detector,
    predict,
    proposal_recall,
    proposals_on,
)
from resnext.detection.folder import DetectionFolder
from resnext.detection.planning import begin_detector, plan_detection
from resnext.detection.reporting import pictures_of, report_of
from resnext.detection.running import DetectionStep, train_detector
from resnext.detection.splits import open_sets
from resnext.detection.trainer import DetectionTrainer
from resnext.errors import CheckpointError, DataError, NotFiniteError, PreemptedError, UsageError
from resnext.runs.running import Notice
from resnext.runs.signals import Stop
from resnext.training import checkpoint
from resnext.training.checkpoint import load_weights
from unit.detection.scenes import write_scenes

FEW = {"shorter": "[64]", "longer": "96", "after": "[40, 30]", "rois": "8", "warmup": "2"}
PAPER = FEW | {"crop_side": "7", "anchors": "[[16, 32]]", "rpn_width": "16"}


@pytest.fixture
def sets(tmp_path):
    write_scenes(tmp_path / "data", "train2017", 6)
    write_scenes(tmp_path / "data", "val2017", 3, first=31)
    return open_sets(tmp_path / "data")


def planned(sets, profile="small", **options):
    few = PAPER if profile == "paper" else FEW
    usual = {"settings": few, "steps": 4, "device": "cpu", "images": 2}
    return plan_detection(sets, None, profile, **(usual | options))


def trained(plan, path, **options):
    folder = plan.create(path)
    return folder, list(train_detector(plan, folder, **options))


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_a_run_from_plan_to_report(sets, tmp_path, profile):
    folder, records = trained(planned(sets, profile), tmp_path / "run")
    steps = [r for r in records if isinstance(r, DetectionStep)]
    phases = ["joint"] if profile == "small" else ["rpn", "fast"]
    assert [(s.phase, s.step) for s in steps] == [(p, k) for p in phases for k in range(1, 5)]
    assert folder.finished()
    assert [line.phase for line in folder.lines()] == phases

    *parts, evaluated = evaluate_detector(folder.path)
    assert [part.done for part in parts] == [1, 2, 3]
    assert evaluated.boxes.images == 3
    assert evaluated.own
    assert json.loads(json.dumps(evaluated.to_dict()))["boxes"]["classes"] == 2

    _, detector = load_detector(folder.path)
    found = list(proposals_on(detector, sets.evaluation))
    recall = proposal_recall(found, sets.evaluation)
    assert set(recall) == {100, 300, 1000}
    assert all(len(boxes) <= 30 for _, boxes, _ in found)

    files = pictures_of(sets.evaluation, 2)
    seen = list(predict(detector, folder.record.categories, files, least_score=0.0))
    assert [file for file, *_ in seen] == files
    assert {o.label for _, _, objects in seen for o in objects} <= {"red", "blue"}
    report = report_of(folder, evaluated, seen)
    kinds = [type(part).__name__ for part in report.parts]
    assert kinds == ["Table", "Chart", *["Chart"] * len(phases), "Table", "Photos"]
    assert report.parts[-1].photos[0].data[:2] == b"\xff\xd8"
    assert "So few images (3)" in report.summary[1]


def weights(folder):
    return load_weights(folder.weights)


def require_equal(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def pull_until(plan, folder, update):
    stop = Stop()
    for record in train_detector(plan, folder, stop=stop):
        if isinstance(record, DetectionStep) and record.updates == update:
            stop.signal = 15


@pytest.mark.parametrize(
    ("profile", "stop_at", "proposals"),
    [
        ("small", 2, "stored"),
        ("paper", 2, "stored"),
        ("paper", 6, "stored"),
        ("paper", 6, "online"),
    ],
)
def test_a_run_that_was_stopped_continues_to_the_bit(sets, tmp_path, profile, stop_at, proposals):
    few = PAPER if profile == "paper" else FEW
    plan = planned(sets, profile, settings=few | {"proposals": proposals})
    whole, _ = trained(plan, tmp_path / "whole")
    broken = plan.create(tmp_path / "broken")
    with pytest.raises(PreemptedError, match="is saved"):
        pull_until(plan, broken, stop_at)
    again = plan_again(DetectionFolder.open(broken.path), device="cpu")
    notices = [r for r in train_detector(again, broken) if isinstance(r, Notice)]
    assert notices[0].text.startswith("continuing behind step 2 of 4")
    require_equal(weights(whole), weights(broken))


def test_asked_to_end_in_the_middle_of_a_save_it_saves_once(sets, tmp_path, monkeypatch):
    """The signal's thread comes while the main one has all but the checksums on disk."""
    write_bytes, nearly = checkpoint.write_bytes, threading.Event()

    def slowly(path, data):
        if path.name == checkpoint.SUMS:
            nearly.set()
        time.sleep(0.1)
        write_bytes(path, data)

    monkeypatch.setattr(checkpoint, "write_bytes", slowly)
    plan, stop = planned(sets, steps=1), Stop()
    folder = plan.create(tmp_path / "run")

    def asked():
        assert nearly.wait(60)
        saved = stop.last_resort()
        return saved, folder.newest()  # as it is when the process ends now

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asked)
        list(train_detector(plan, folder, stop=stop))
        assert folder.newest()[1] == []
        saved, (newest, problems) = answer.result()
    assert (saved, problems) == (True, [])
    assert newest.state["step"] == 1
    assert not stop.last_resort()  # training is over: there is nothing to save
    assert [path.name for path in folder.checkpoints()] == ["step-00000001"]


def test_one_seed_is_one_detector(sets, tmp_path):
    one, _ = trained(planned(sets), tmp_path / "one")
    two, _ = trained(planned(sets), tmp_path / "two")
    other, _ = trained(planned(sets, seed=1), tmp_path / "other")
    require_equal(weights(one), weights(two))
    assert any(not torch.equal(t, weights(other)[n]) for n, t in weights(one).items())


def test_a_step_of_parts_is_the_mean_of_their_gradients(sets):
    plan = planned(sets, settings=FEW | {"at_once": "1", "weight_decay": "0"})
    data, study = sets.train, plan.study
    parts = Steps(data, study.method, study.schedules[0], 0)[0]
    trainer = DetectionTrainer(begin_detector(plan), study.schedules[0])
    other = DetectionTrainer(begin_detector(plan), study.schedules[0])
    gradients = {name: torch.zeros_like(p) for name, p in other._learning.items()}
    for k, items in enumerate(parts):
        other._part.train().zero_grad()
        with other._drawing(k):
            sum(other._losses(items).values()).backward()
        for name, p in other._learning.items():
            gradients[name] += p.grad / 2
    trainer._part.train()
    trainer.step(parts)
    for name, momentum in trainer.tensors().items():
        torch.testing.assert_close(momentum, gradients[name.removeprefix("momentum/")])


def test_stored_proposals_belong_to_their_weights(sets, tmp_path):
    plan = planned(sets, "paper")
    folder, _ = trained(plan, tmp_path / "run")
    from resnext.detection.running import store_proposals
    from resnext.training.distributed import ALONE

    detector = begin_detector(plan)  # other weights than those that proposed
    with pytest.raises(DataError, match=r"expected proposals .* take another folder"):
        list(store_proposals(detector, sets.train, folder, ALONE, Stop()))


def test_a_loss_that_is_no_number_names_the_pictures(sets, tmp_path):
    plan = planned(sets, settings=FEW | {"learning_rate": "1e18", "warmup": "0"})
    folder = plan.create(tmp_path / "run")
    with pytest.raises(NotFiniteError, match=r"not finite \(loss_classifier .* on images \d"):
        list(train_detector(plan, folder))
    assert not folder.finished()


def test_what_was_begun_otherwise_is_not_continued(sets, tmp_path):
    plan = planned(sets)
    folder = plan.create_or_continue(tmp_path / "run")
    assert plan.create_or_continue(folder.path).record == folder.record
    other = planned(sets, settings=FEW | {"nms": "0.4"})
    with pytest.raises(UsageError, match=r"method.nms 0.5 instead of 0.4|0.4 instead of 0.5"):
        other.create_or_continue(folder.path)
    with pytest.raises(CheckpointError, match="one still in training"):
        load_detector(folder.path)
    with pytest.raises(CheckpointError, match="expected a detector's folder"):
        load_detector(tmp_path)


def test_other_classes_are_not_scored(sets, tmp_path):
    folder, _ = trained(planned(sets, steps=1), tmp_path / "run")
    fewer = replace(sets.evaluation, categories=sets.evaluation.categories[:1])
    with pytest.raises(DataError, match="number 7 is 'nothing' in place of 'blue'"):
        list(evaluate_detector(folder.path, fewer))


def test_a_detector_of_another_method_is_not_loaded(sets, tmp_path):
    folder, _ = trained(planned(sets, steps=1), tmp_path / "run")
    file = folder.path / "detection.json"
    record = json.loads(file.read_text())
    record["method"]["anchors"] = [[32, 64]]
    file.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="to hold weights with rpn"):
        load_detector(folder.path)
    file.write_text(file.read_text()[:200])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_detector(folder.path)


def test_both_networks_begin_with_the_weights_of_a_file(sets, tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(5)
    theirs = resnet18(num_classes=7)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    plan = plan_detection(
        sets, "ResNet-18", "paper", weights=tmp_path / "resnet18.pth", device="cpu"
    )
    detector = begin_detector(plan)
    for part in (detector.proposing, detector.classifying):
        assert torch.equal(part.backbone.layer3[0].conv1.weight, theirs.layer3[0].conv1.weight)
    head = detector.classifying.roi_heads.box_head
    assert torch.equal(head.layer4[0].bn1.running_var, theirs.layer4[0].bn1.running_var)
    assert plan.recalibrated == 0
    with pytest.raises(UsageError, match="expected --network beside --weights"):
        plan_detection(sets, None, "paper", weights=tmp_path / "resnet18.pth")


def test_folding_moves_no_detection(sets, tmp_path):
    folder, _ = trained(planned(sets, steps=6), tmp_path / "run")
    figures = [
        list(evaluate_detector(folder.path, fold=fold))[-1].results for fold in (True, False)
    ]
    assert len(figures[0]) == len(figures[1])
    for a, b in zip(*figures, strict=True):
        assert a["category_id"] == b["category_id"]
        assert a["bbox"] == pytest.approx(b["bbox"], abs=1e-2)


def test_losses_can_be_had_without_training(sets):
    """In the mode of testing: sizes are those of testing, and nothing moves."""
    plan = planned(sets)
    detector = begin_detector(plan).eval()
    items = Steps(sets.train, plan.study.method, plan.study.schedules[0], 0)[0][0]
    with torch.no_grad():
        losses = detector([i.image for i in items], [i.target for i in items])
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


def test_bf16_trains_and_continues(sets, tmp_path):
    folder, records = trained(planned(sets, precision="bf16"), tmp_path / "run")
    exact, others = trained(planned(sets), tmp_path / "exact")
    losses = [sum(r.losses.values()) for r in (records[0], others[0])]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert any(not torch.equal(t, weights(exact)[n]) for n, t in weights(folder).items())
    assert all(t.dtype == torch.float32 for t in weights(folder).values())


def test_masks_are_trained_and_scored(sets, tmp_path):
    plan = planned(sets, settings=FEW | {"masks": "true"}, steps=2)
    folder, records = trained(plan, tmp_path / "run")
    assert records[0].losses["loss_mask"] > 0
    *_, evaluated = evaluate_detector(folder.path)
    assert evaluated.masks.kind == "segm"
    report = report_of(folder, evaluated)
    assert [column.title for column in report.parts[0].columns] == [
        "figure",
        "boxes, %",
        "masks, %",
    ]


def test_a_picture_too_small_for_proposals_is_trained_on_and_predicted(tmp_path):
    """12 pixels, where a proposal has 16 at least; no object is on it either."""

    def shrink(content):
        content["images"][0] |= {"width": 12, "height": 12}
        content["annotations"] = [r for r in content["annotations"] if r["image_id"] != 1]

    write_scenes(tmp_path / "data", "train2017", 3, change=shrink)
    write_scenes(tmp_path / "data", "val2017", 3, first=31)
    file = tmp_path / "data" / "train2017" / "000000000001.jpg"
    Image.new("RGB", (12, 12), "grey").save(file)
    few = PAPER | {"at_once": "1"}  # the picture is a part of its own
    plan = planned(open_sets(tmp_path / "data"), "paper", settings=few, empty=True)
    folder, records = trained(plan, tmp_path / "run")
    steps = [r for r in records if isinstance(r, DetectionStep)]
    assert len(steps) == 8
    assert all(math.isfinite(loss) for step in steps for loss in step.losses.values())
    _, detector = load_detector(folder.path)
    ((_, _, objects),) = predict(detector, folder.record.categories, [file], least_score=0.0)
    assert objects == ()


def test_losses_fall(sets, tmp_path):
    _, records = trained(planned(sets, steps=60, images=4), tmp_path / "run")
    totals = [sum(r.losses.values()) for r in records if isinstance(r, DetectionStep)]
    assert sum(totals[-5:]) < 0.6 * sum(totals[:5])
