"""The paper's profile beside a second, plain NumPy account of labels, samples and losses."""

import numpy as np
import pytest
import torch

from resnext.detection.classifying import WEIGHTS, _outside_crowds
from resnext.detection.crops import Crop
from resnext.detection.proposing import Prepared
from unit.detection.conftest import pictures, tiny_detector, tiny_method


def overlaps(a, b):
    """IoU of every pair of corners."""
    found = np.zeros((len(a), len(b)))
    for i, (p, t, r, d) in enumerate(a):
        for j, (x, y, u, v) in enumerate(b):
            w, h = min(r, u) - max(p, x), min(d, v) - max(t, y)
            if w > 0 and h > 0:
                found[i, j] = w * h / ((r - p) * (d - t) + (u - x) * (v - y) - w * h)
    return found


def anchor_labels(anchors, boxes, height, width):
    """1, 0 or -1: py-faster-rcnn's rules, its order of steps included."""
    labels = np.full(len(anchors), -1)
    inside = [
        i
        for i, (x, t, r, d) in enumerate(anchors)
        if x >= 0 and t >= 0 and r <= width and d <= height
    ]
    if not inside:
        return labels
    iou = overlaps(anchors[inside], boxes)
    best = iou.max(1)
    labels[inside] = np.where(best < 0.3, 0, -1)
    for j in range(len(boxes)):
        for k, i in enumerate(inside):
            if iou[k, j] == iou[:, j].max() > 0:
                labels[i] = 1
    labels[np.array(inside)[best >= 0.7]] = 1
    return labels


def offsets(box, of):
    (p, t, r, d), (x, y, u, v) = box, of
    w, h, pw, ph = r - p, d - t, u - x, v - y
    return np.array(
        [
            ((p + r) / 2 - (x + u) / 2) / pw,
            ((t + d) / 2 - (y + v) / 2) / ph,
            np.log(w / pw),
            np.log(h / ph),
        ]
    )


def smooth(x, beta):
    x = np.abs(x)
    return np.where(x < beta, 0.5 * x * x / beta, x - 0.5 * beta).sum()


def proposer():
    detector = tiny_detector("paper", anchors=((16, 32, 64),), rpn_width=16)
    return detector.proposing


def random_boxes(draws, count, height, width):
    corners = draws.uniform(0, 1, (count, 2, 2)) * (width, height)
    low, high = corners.min(1), corners.max(1)
    return np.concatenate([low, np.maximum(high, low + 6).clip(max=(width, height))], 1)


@pytest.mark.parametrize("seed", range(8))
def test_anchor_labels_are_the_oracles(seed):
    draws = np.random.default_rng(seed)
    height, width = (int(x) for x in draws.integers(70, 190, 2))
    part = proposer()
    maps = [torch.zeros(1, 1, -(-height // 16), -(-width // 16))]
    batch = Prepared(torch.zeros(1, 3, 1, 1), [(height, width)], [(height, width)])
    (anchors,) = part.rpn.anchor_generator(batch, maps)
    boxes = random_boxes(draws, 3, height, width).astype(np.float32)
    goal = [{"boxes": torch.from_numpy(boxes)}]
    (labels,), (matched,) = part.rpn.labelled(batch, [anchors], goal)
    wanted = anchor_labels(anchors.double().numpy(), boxes.astype(np.float64), height, width)
    np.testing.assert_array_equal(labels.numpy(), wanted)
    assert (wanted == 1).sum() >= 3
    assert (wanted == -1).sum() > 0
    objects = np.flatnonzero(wanted == 1)
    best = overlaps(anchors.numpy()[objects], boxes).argmax(1)
    np.testing.assert_array_equal(matched.numpy()[objects], boxes[best])


def test_losses_of_proposals_are_the_oracles():
    """Few anchors, all sampled: nothing is left to chance."""
    part = proposer().train()
    image = pictures((128, 160))
    boxes = torch.tensor([[12.0, 20, 60, 70], [70, 40, 150, 120]])
    labels = torch.tensor([1, 2])
    part.rpn.fg_bg_sampler.batch_size_per_image = 10**6
    losses = part(image, [{"boxes": boxes, "labels": labels}])
    batch, moved = part.prepared(image, [{"boxes": boxes, "labels": labels}])
    with torch.no_grad():
        logits, deltas, (anchors,), _ = part.rpn._heads(batch, part.maps(batch))
    anchors, goal = anchors.double().numpy(), moved[0]["boxes"].double().numpy()
    wanted = anchor_labels(anchors, goal, *batch.image_sizes[0])
    objects, rest = np.flatnonzero(wanted == 1), np.flatnonzero(wanted == 0)
    x = logits.flatten().double().numpy()
    entropy = np.log1p(np.exp(-x[objects])).sum() + np.log1p(np.exp(x[rest])).sum()
    count = len(objects) + len(rest)
    best = overlaps(anchors[objects], goal).argmax(1)
    moves = np.array([offsets(goal[j], anchors[i]) for i, j in zip(objects, best, strict=True)])
    boxes_loss = smooth(deltas.double().numpy()[objects] - moves, 1 / 9) / count
    # measured: 5.5e-8
    assert losses["loss_objectness"].item() == pytest.approx(entropy / count, rel=6e-7)
    assert losses["loss_rpn_box_reg"].item() == pytest.approx(boxes_loss, rel=6e-7)


def test_a_box_that_no_anchor_meets_does_not_make_all_of_them_objects():
    part = tiny_detector("paper", anchors=((32,),)).proposing
    batch = Prepared(torch.zeros(1, 3, 1, 1), [(300, 300)], [(300, 300)])
    (anchors,) = part.rpn.anchor_generator(batch, [torch.zeros(1, 1, 18, 18)])
    corner = [{"boxes": torch.tensor([[298.0, 298, 300, 300]])}]
    (labels,), _ = part.rpn.labelled(batch, [anchors], corner)
    assert int((labels == 1).sum()) == 0
    assert int((labels == 0).sum()) > 500


def test_at_most_half_of_the_sampled_anchors_are_objects():
    labels = [torch.cat([torch.ones(400), torch.zeros(5000), torch.full((90,), -1.0)])]
    sampler = tiny_detector("paper", rpn_anchors=256).proposing.rpn.fg_bg_sampler
    positive, negative = sampler(labels)
    assert (int(positive[0].sum()), int(negative[0].sum())) == (128, 128)
    assert int(positive[0][400:].sum()) == int(negative[0][:400].sum()) == 0
    few = [torch.cat([torch.ones(3), torch.zeros(5000)])]
    positive, negative = sampler(few)
    assert (int(positive[0].sum()), int(negative[0].sum())) == (3, 253)


def test_rois_are_labelled_sampled_and_weighed_as_the_oracle_does():
    draws = np.random.default_rng(4)
    heads = tiny_detector("paper", rois=64).classifying.roi_heads
    goal = random_boxes(draws, 3, 120, 160).astype(np.float32)
    proposals = random_boxes(draws, 300, 120, 160).astype(np.float32)
    classes = np.array([4, 1, 5])
    goals = [{"boxes": torch.from_numpy(goal), "labels": torch.from_numpy(classes)}]
    boxes, _, labels, moves = heads.select_training_samples([torch.from_numpy(proposals)], goals)
    boxes, labels, moves = (x[0].double().numpy() for x in (boxes, labels, moves))
    everything = np.concatenate([proposals, goal])
    iou = overlaps(everything, goal)
    wanted = np.where(iou.max(1) >= 0.5, classes[iou.argmax(1)], 0)
    assert len(boxes) == 64
    assert 3 <= (labels > 0).sum() == min(16, (wanted > 0).sum())
    for box, label, move in zip(boxes, labels, moves, strict=True):
        (i,) = np.flatnonzero((everything == box.astype(np.float32)).all(1))[:1]
        assert label == wanted[i]
        if label:
            exact = offsets(goal[iou[i].argmax()].astype(np.float64), box) * WEIGHTS
            # measured: 3.7e-6
            np.testing.assert_allclose(move, exact, rtol=0, atol=4e-5)
    logits, deltas = draws.normal(size=(64, 6)), draws.normal(size=(64, 24))
    found = heads._box_losses(
        *(torch.from_numpy(x) for x in (logits, deltas, labels.astype(np.int64), moves))
    )
    spread = np.log(np.exp(logits).sum(1)) - logits[np.arange(64), labels.astype(int)]
    own = deltas.reshape(64, 6, 4)[np.arange(64), labels.astype(int)][labels > 0]
    assert float(found[0]) == pytest.approx(spread.mean(), rel=1e-12)
    assert float(found[1]) == pytest.approx(smooth(own - moves[labels > 0], 1.0) / 64, rel=1e-12)


def test_proposals_inside_a_crowd_are_nobodys_background():
    crowd = {"crowd": torch.tensor([[0.0, 0, 100, 100]])}
    boxes = torch.tensor([[10.0, 10, 50, 50], [80, 0, 120, 50], [64, 0, 124, 60], [200, 0, 250, 9]])
    assert _outside_crowds(boxes, crowd).tolist() == boxes[1:].tolist()
    assert _outside_crowds(boxes, {}) is boxes


def test_small_proposals_count_in_the_original_image():
    part = proposer().eval()
    image = pictures((64, 90))  # shown at twice its size
    with torch.no_grad():
        ((boxes, _),) = part.proposals(image)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert len(boxes) > 3
    assert float(sides.min()) >= 16 - 1e-3
    part.rpn.method = part.method.model_copy(update={"least_side": 0.0})
    with torch.no_grad():
        ((boxes, _),) = part.proposals(image)
    assert float((boxes[:, 2:] - boxes[:, :2]).min()) < 16


@pytest.mark.parametrize("aligned", [True, False])
def test_crops_of_a_ramp_are_its_values_at_the_centres(aligned):
    method = tiny_method("small", crop_side=4, aligned=aligned)
    ramp = torch.arange(32.0).repeat(1, 1, 32, 1)  # the value of a cell is its column
    crops = Crop(method, (16,))({"c4": ramp}, [torch.tensor([[64.0, 64, 192, 192]])])
    # columns 4 to 12 of the map in four bins of two; a cell's value is at its centre if aligned
    centres = torch.tensor([5.0, 7, 9, 11]) - (0.5 if aligned else 0)
    torch.testing.assert_close(crops[0, 0], centres.expand(4, 4))


def test_max_pooling_of_crops_is_the_largest_of_each_bin():
    method = tiny_method("paper", crop_side=2)
    values = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    crops = Crop(method, (16,))({"c4": values}, [torch.tensor([[32.0, 48, 112, 144]]).double()])
    inside = values[0, 0, 3:10, 2:8]  # both ends of the rounded box belong to it
    wanted = torch.stack(
        [
            torch.stack([inside[a, b].max() for b in (slice(0, 3), slice(3, 6))])
            for a in (slice(0, 4), slice(3, 7))
        ]
    )
    torch.testing.assert_close(crops[0, 0], wanted)


@pytest.mark.parametrize("crop", ["align", "pool"])
def test_gradients_of_crops(crop):
    method = tiny_method("small", crop=crop, crop_side=2)
    values = torch.rand(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    boxes = [torch.tensor([[10.0, 20, 90, 100], [0, 0, 120, 60]], dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda x: Crop(method, (16,))({"c4": x}, boxes), (values,))


def test_anchors_sit_on_the_strides_that_are_said():
    """A map of 33 pixels has 3 cells; dividing sizes would give steps of 11."""
    part = tiny_detector("paper", anchors=((64,),)).proposing
    batch = Prepared(torch.zeros(1, 3, 1, 1), [(33, 33)], [(33, 33)])
    (anchors,) = part.rpn.anchor_generator(batch, [torch.zeros(1, 1, 3, 3)])
    squares = anchors[1::3]
    assert squares[0].tolist() == [-32.0, -32, 32, 32]
    assert squares[1].tolist() == [-16.0, -32, 48, 32]
    assert squares[3].tolist() == [-32.0, -16, 32, 48]
