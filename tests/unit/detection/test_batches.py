from collections import Counter
from itertools import chain

import pytest
import torch
from PIL import Image

from resnext.detection.batches import (
    Item,
    Order,
    Steps,
    load_image,
    mirrored,
    step_batches,
    target_of,
)
from resnext.detection.coco import read_coco
from resnext.detection.method import method
from resnext.detection.schedule import Schedule, study
from resnext.errors import DataError, UsageError
from unit.detection.conftest import tiny_method
from unit.detection.scenes import write_scenes


@pytest.fixture
def data(tmp_path):
    write_scenes(tmp_path, count=7)
    return read_coco(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017")


def schedule(**changes):
    fields = {"phase": "joint", "steps": 9, "images": 4, "at_once": 2, "learning_rate": 0.1}
    return Schedule(**fields | changes)


def entries(data, *, both, seed=0, at_once=2, parts=None):
    order = Order(usable=data.usable, sizes=data.sizes, at_once=at_once, both=both, seed=seed)
    return [entry for part in range(parts) for entry in order.part(part)]


def test_a_pass_has_every_picture_once_or_once_each_way(data):
    half = entries(data, both=False, parts=4)
    assert sorted(i for i, _ in half) == list(range(7))
    assert {mirror for _, mirror in entries(data, both=False, parts=40)} == {False, True}
    both = entries(data, both=True, parts=7)
    assert Counter(both) == Counter((i, m) for i in range(7) for m in (False, True))
    assert entries(data, both=True, seed=1, parts=7) != both
    assert entries(data, both=False, parts=8)[7:] != half  # the next pass is another order


def test_parts_are_of_one_orientation(tmp_path):
    write_scenes(tmp_path, "train2017", 6, 1)
    write_scenes(tmp_path, "val2017", 6, 21, width=50, height=80)
    from resnext.detection.splits import joined

    whole = joined(
        *(
            read_coco(tmp_path / "annotations" / f"instances_{s}.json", tmp_path / s, s)
            for s in ("train2017", "val2017")
        ),
        tmp_path,
        "both",
    )
    order = Order(usable=whole.usable, sizes=whole.sizes, at_once=2, both=False, seed=0)
    for number in range(6):
        kinds = {bool(whole.sizes[i, 0] > whole.sizes[i, 1]) for i, _ in order.part(number)}
        assert len(kinds) == 1


def test_mirroring_takes_boxes_along():
    item = Item(
        1,
        torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4),
        {"boxes": torch.tensor([[0.0, 0, 1, 2]]), "crowd": torch.tensor([[2.0, 0, 4, 1]])},
        torch.tensor([[1.0, 0, 3.5, 1]]),
    )
    other = mirrored(item)
    assert other.target["boxes"].tolist() == [[3, 0, 4, 2]]
    assert other.target["crowd"].tolist() == [[0, 0, 2, 1]]
    assert other.proposals.tolist() == [[0.5, 0, 3, 1]]
    assert other.image[0, 0].tolist() == [3, 2, 1, 0]
    again = mirrored(other)
    assert torch.equal(again.image, item.image)
    assert torch.equal(again.target["boxes"], item.target["boxes"])


def test_boxes_and_masks_lie_on_the_objects_mirrored_or_not(data):
    masks = tiny_method("modern-fpn", masks=True)
    for index in range(len(data)):
        item = Item(0, load_image(data, index), target_of(data, index, masks))
        for one in (item, mirrored(item)):
            for box, label, mask in zip(
                *(one.target[k] for k in ("boxes", "labels", "masks")), strict=True
            ):
                left, top, right, bottom = (int(x) for x in box)
                inside = torch.zeros_like(mask)
                inside[top:bottom, left:right] = 1
                assert torch.equal(mask, inside)
                if len(one.target["boxes"]) == 1:
                    colour = one.image[:, top + 4 : bottom - 4, left + 4 : right - 4].float()
                    strongest = int(colour.mean((1, 2)).argmax())
                    assert strongest == {1: 0, 2: 2}[int(label)]


def test_crowds_are_left_out_or_kept_apart(data):
    data.crowd[data.rows(1).start] = True
    count = data.rows(1).stop - data.rows(1).start
    assert len(target_of(data, 1, method("modern"))["boxes"]) == count - 1
    assert len(target_of(data, 1, method("paper"))["crowd"]) == 1


def test_workers_and_a_later_start_change_nothing(data):
    steps = Steps(data, tiny_method("small"), schedule(), 3)
    alone = list(step_batches(steps, range(5), 0))
    late = list(step_batches(steps, range(3, 5), 2))
    for one, other in zip(alone[3:], late, strict=True):
        for a, b in zip(chain(*one), chain(*other), strict=True):
            assert a.image_id == b.image_id
            assert torch.equal(a.image, b.image)


def test_processes_share_the_parts_of_a_step(data):
    def ids(**share):
        steps = Steps(data, tiny_method("small"), schedule(), 3, **share)
        return [[item.image_id for item in part] for part in steps[1]]

    assert [ids(rank=0, world=2)[0], ids(rank=1, world=2)[0]] == ids()


def test_a_picture_of_another_size_is_refused(data):
    Image.new("RGB", (64, 96)).save(data.path(2))
    with pytest.raises(DataError, match=r"expected 96 x 64 .* found 64 x 96; the EXIF orientation"):
        load_image(data, 2)


def test_grey_pictures_become_rgb(data):
    Image.new("L", (96, 64), 77).save(data.path(2))
    assert load_image(data, 2)[:, 5, 5].tolist() == [77, 77, 77]


def test_rates_are_appendix_bs():
    rpn, fast = study("paper").schedules
    assert [rpn.rate(s) for s in (499, 119_999, 120_000, 179_999)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002], rel=1e-12
    )
    assert [fast.rate(s) for s in (119_999, 120_000)] == pytest.approx([0.005, 0.0005], rel=1e-12)
    assert (rpn.images, rpn.at_once, fast.images, fast.at_once) == (16, 2, 8, 1)
    assert rpn.rate(0) == pytest.approx(0.02 / 500)
    assert study("paper").method.rois == 64


def test_another_batch_moves_rate_and_steps():
    rpn, fast = study("paper", images=2).schedules
    assert (rpn.learning_rate, fast.learning_rate) == pytest.approx((0.0025, 0.00125))
    assert (rpn.steps, rpn.milestones) == (1_440_000, (960_000,))
    (short,) = study("modern", steps=90).schedules
    assert (short.steps, short.milestones, short.warmup) == (90, (60, 80), 1)


def test_settings_reach_method_and_schedule():
    wanted = study("small", settings={"nms": "0.4", "learning_rate": "0.01", "shorter": "[96]"})
    assert (wanted.method.nms, wanted.method.shorter) == (0.4, (96,))
    assert wanted.schedules[0].learning_rate == 0.01
    for settings, said in (
        ({"speed": "1"}, "expected a field to set"),
        ({"nms": "2"}, "nms"),
        ({"shorter": "[2000]"}, "shorter sides are at most the longer one"),
        ({"at_once": "3"}, "whole parts"),
        ({"crop": "warp"}, "crop"),
    ):
        with pytest.raises(UsageError, match=said):
            study("small", settings=settings)
    with pytest.raises(UsageError, match="profile out of paper, modern"):
        study("papers")
