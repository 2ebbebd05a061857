"""Every row of bad input: nothing crashes, nothing trains on garbage in silence."""

import pytest
import torch

from resnext.detection.checks import checked_images, checked_targets
from resnext.errors import DataError, NotFiniteError
from unit.detection.conftest import pictures, target, tiny_detector

IMAGE = torch.rand(3, 50, 80)


def given(boxes, labels=(1,), **more):
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), **more}


def box(*corners, dtype=torch.float32):
    return torch.tensor([corners], dtype=dtype)


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (given(box(1, 2, float("nan"), 9)), "target 0: expected boxes with finite numbers"),
        (given(box(1, 2, float("inf"), 9)), "finite numbers"),
        (given(box(90, 2, 120, 9)), "a part inside the image of 80 x 50"),
        (given(box(30, 20, 10, 40)), "(not x, y, width, height), found [30.0, 20.0, 10.0, 40.0]"),
        (given(box(30, 20, 30, 40)), "in row 0 (1 such)"),
        (given(box(1, 2, 30, 40), (0,)), "labels from 1 to 5 (0 is background), found 0 to 0"),
        (given(box(1, 2, 30, 40), (-1,)), "found -1 to -1"),
        (given(box(1, 2, 30, 40), (6,)), "found 6 to 6"),
        (given(box(1, 2, 30, 40), (1, 2)), "expected 1 labels for 1 boxes, found 2"),
        (given(box(1, 2, 30, 40), ()), "expected 1 labels for 1 boxes, found 0"),
        (given(box(1, 2, 30, 40, dtype=torch.bfloat16)), "expected boxes of float32"),
        (given([[1, 2, 3, 4]]), "expected boxes of float32, found list"),
        (given(torch.ones(1, 5)), "expected boxes of N x 4, found 1 x 5 of float32"),
        ({"boxes": box(1, 2, 3, 4)}, "expected boxes and labels, found boxes"),
        ({"boxes": box(1, 2, 3, 4), "labels": torch.tensor([1.0])}, "labels of whole numbers"),
        (given(box(9, 2, 3, 4), image_id=torch.tensor(17)), "image 17: "),
    ],
)
def test_targets_are_refused(one, said):
    with pytest.raises(DataError) as refused:
        checked_targets([one], [IMAGE], 5)
    assert said in str(refused.value)


def test_targets_are_as_many_as_images():
    with pytest.raises(DataError, match="a target for each of 2 images, found 1"):
        checked_targets([target((1, 2, 3, 9, 9))], [IMAGE, IMAGE], 5)
    with pytest.raises(DataError, match="masks of"):
        checked_targets([target((1, 2, 3, 9, 9))], [IMAGE], 5, masks=True)


def test_boxes_are_clipped_and_numbers_made_fitting():
    ints = {
        "boxes": torch.tensor([[-5, 3, 30, 70]]),
        "labels": torch.tensor([2], dtype=torch.int32),
    }
    none = {"boxes": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    first, second = checked_targets([ints, none], [IMAGE, IMAGE], 5)
    assert first["boxes"].tolist() == [[0.0, 3.0, 30.0, 50.0]]
    assert (first["boxes"].dtype, first["labels"].dtype) == (torch.float32, torch.int64)
    assert second["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "expected a list of images, found an empty one"),
        (None, "expected a list of images, found NoneType"),
        ([torch.rand(1, 50, 80)], "3 x height x width (CHW, RGB), found 1 x 50 x 80 of float32"),
        ([torch.rand(50, 80, 3)], "found 50 x 80 x 3"),
        ([torch.rand(1, 3, 50, 80)], "found 1 x 3 x 50 x 80"),
        ([IMAGE * 255], "expected pixels in 0..1, found 25"),
        ([IMAGE.int()], "expected uint8 or floating point, found torch.int32"),
        ([IMAGE + float("nan")], "expected finite pixels"),
        ([torch.rand(3, 1, 2000)], "found 2000 x 1"),
        ([torch.rand(3, 0, 10)], "found 10 x 0"),
        ([torch.rand(3, 4, 2000)], "at most 200 times the other"),
    ],
)
def test_images_are_refused(images, said):
    with pytest.raises(DataError) as refused:
        checked_images(images)
    assert said in str(refused.value)


def test_bytes_are_taken_as_what_they_are():
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    (found,) = checked_images([image])
    torch.testing.assert_close(found, image.float() / 255)


def test_the_network_refuses_before_it_crashes():
    detector = tiny_detector().train()
    with pytest.raises(DataError, match="finite numbers"):
        detector(pictures((60, 90)), [given(box(1, 2, float("nan"), 9))])
    with pytest.raises(DataError, match="CHW"):
        detector.eval()([torch.rand(60, 90, 3)])


def test_weights_that_ran_away_are_said():
    detector = tiny_detector().eval()
    detector.backbone.layer3[0].conv1.weight.data.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="expected finite features"):
        detector(pictures((60, 90)))
    detector = tiny_detector().eval()
    detector.roi_heads.box_predictor.cls_score.weight.data.fill_(float("inf"))
    with pytest.raises(NotFiniteError, match="expected finite predictions"):
        detector(pictures((60, 90)))


def test_single_predictions_that_are_no_numbers_are_left_out_and_counted():
    heads = tiny_detector().eval().roi_heads
    proposals = torch.tensor([[0.0, 0, 20, 20], [5, 5, 30, 30], [8, 2, 40, 20]])
    logits, offsets = torch.zeros(3, 6), torch.zeros(3, 24)
    logits[1, 2] = float("nan")
    logits, offsets, (kept,) = heads._finite(logits, offsets, [proposals])
    assert heads.dropped == 1
    assert kept.tolist() == proposals[[0, 2]].tolist()
    assert len(logits) == len(offsets) == 2


def test_images_without_objects_train_and_leave_no_box_gradient():
    detector = tiny_detector(border_anchors=False, anchors=((64, 128),)).train()
    losses = detector(pictures((60, 90), (40, 50)), [target(), target((1, 2, 2, 30, 30))])
    assert all(torch.isfinite(loss) for loss in losses.values())
    losses = detector(pictures((60, 90)), [target()])
    assert losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0
    sum(losses.values()).backward()
    assert detector.roi_heads.box_predictor.bbox_pred.weight.grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("name", "masks"), [("paper", False), ("modern", True), ("modern-fpn", True)]
)
def test_where_nothing_is_proposed_nothing_is_found_and_nothing_is_learned(name, masks):
    detector = tiny_detector(name, least_side=16.0, masks=masks, detections=5)
    small, rest = pictures((12, 12), (60, 90))
    with torch.no_grad():
        (found,) = detector.eval()([small])
        assert [len(value) for value in found.values()] == [0] * (3 + masks)
        assert [set(one) for one in detector([small, rest])] == [set(found)] * 2
    nothing = target() | ({"masks": torch.zeros(0, 12, 12, dtype=torch.uint8)} if masks else {})
    if name == "paper":
        losses = detector.classifying.train()([small], [nothing], [torch.zeros(0, 4)])
    else:
        losses = detector.train()([small], [nothing])
    assert losses["loss_classifier"] == losses["loss_box_reg"] == 0
    sum(losses.values()).backward()
