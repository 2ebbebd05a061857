"""Average precision by hand, and both backends beside each other."""

import numpy as np
import pytest

from resnext.detection.coco import read_coco
from resnext.detection.packages import coco_classes, coco_masks
from resnext.detection.scoring import recall, score
from resnext.errors import DataError
from unit.detection.scenes import write_scenes


@pytest.fixture
def data(tmp_path):
    write_scenes(tmp_path, count=8)
    return read_coco(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017")


def truth(data, score=0.9):
    """The annotations as detections."""
    found = []
    for index, number in enumerate(data.ids):
        for row in range(*data.rows(index).indices(len(data.boxes))):
            left, top, right, bottom = (float(x) for x in data.boxes[row])
            found.append(
                {
                    "image_id": int(number),
                    "category_id": data.categories[data.labels[row] - 1].id,
                    "bbox": [left, top, right - left, bottom - top],
                    "score": score,
                    "segmentation": data.shape(row),
                }
            )
    return found


def jittered(data, seed):
    draws = np.random.default_rng(seed)
    found = []
    for result in truth(data):
        for _ in range(int(draws.integers(0, 3))):
            box = np.array(result["bbox"]) + draws.normal(0, 4, 4)
            box[2:] = np.maximum(box[2:], 2)
            found.append({**result, "bbox": box.tolist(), "score": float(draws.uniform())})
    return found


def test_the_truth_scores_one(data):
    found = score(data, truth(data))
    assert (found.ap, found.ap50, found.recall_100) == (1.0, 1.0, 1.0)
    assert found.ap_large is None  # no object is that large
    assert found.by_class == {"red": 1.0, "blue": 1.0}
    assert found.curve == (1.0,) * 101


def test_known_answer_of_missed_objects_and_false_alarms(data):
    """By hand: of n red objects k are found; precision is 1 up to recall k/n, of 101 points."""
    results = truth(data)
    red = [r for r in results if r["category_id"] == 3]
    blue = [r for r in results if r["category_id"] == 7]
    n, k = len(red), 2
    reached = sum(point / 100 <= k / n for point in range(101))
    found = score(data, [*red[:k], *blue])
    assert found.by_class["blue"] == 1.0
    assert found.by_class["red"] == pytest.approx(reached / 101)
    assert found.ap == pytest.approx((1 + reached / 101) / 2)
    # one false alarm above everything: precision is j / (j + 1) at best, k / (k + 1) at the end
    wrong = {**red[0], "bbox": [0.0, 0.0, 5.0, 5.0], "score": 0.99}
    found = score(data, [*red[:k], *blue, wrong])
    assert found.by_class["red"] == pytest.approx(reached / 101 * k / (k + 1))


def test_a_box_of_iou_between_thresholds(data):
    """Two thirds of each box: IoU .667, right at .5 to .65, wrong at .7 to .95."""
    results = [{**r, "bbox": [*r["bbox"][:3], r["bbox"][3] * 2 / 3]} for r in truth(data)]
    found = score(data, results)
    assert (found.ap50, found.ap75) == (1.0, 0.0)
    assert found.ap == pytest.approx(0.4)


def test_twice_the_detections_lower_the_figure_and_equal_ones_are_refused(data):
    results = truth(data)
    again = [{**r, "score": 0.95, "bbox": [*r["bbox"][:3], r["bbox"][3] * 0.9]} for r in results]
    assert score(data, results + again).ap < 1
    with pytest.raises(DataError, match="expected every detection once, found"):
        score(data, results + results[:1])


def test_order_changes_nothing(data):
    results = jittered(data, 3)
    assert score(data, results) == score(data, results[::-1])


def test_crowds_neither_help_nor_hurt(tmp_path):
    def crowd(content):
        content["annotations"][0]["iscrowd"] = 1

    write_scenes(tmp_path, count=4, change=crowd)
    data = read_coco(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017")
    results = [r for k, r in enumerate(truth(data))]
    crowded = int(np.flatnonzero(data.crowd)[0])
    others = results[:crowded] + results[crowded + 1 :]
    assert score(data, results).ap == score(data, others).ap == 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_faster_backend_has_equal_answers(data, seed, kind):
    results = jittered(data, seed)
    slow = score(data, results, kind=kind).to_dict()
    fast = score(data, results, kind=kind, backend="faster").to_dict()
    for field in slow.keys() - {"backend"}:
        # published difference: 2e-16
        assert fast[field] == pytest.approx(slow[field], abs=1e-12), field


def result_of(mask, score):
    """A detection of class 3 on image 1, as a file of results has it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = float(columns[0]), float(rows[0])
    box = [left, top, columns[-1] + 1 - left, rows[-1] + 1 - top]
    packed = coco_masks().encode(np.asfortranarray(mask))
    return {
        "image_id": 1,
        "category_id": 3,
        "bbox": box,
        "score": score,
        "segmentation": {**packed, "counts": packed["counts"].decode()},
    }


@pytest.fixture
def thin(tmp_path):
    """A small and a large object, both found, and above them a line: small, in a large box."""
    small, large, line = np.zeros((3, 160, 300), np.uint8)
    small[130:132, 5:155] = 1
    large[10:110, 180:280] = 1
    for row in range(150):
        line[row, row : row + 2] = 1

    def change(content):
        first = content["annotations"][0]
        rows = [result_of(mask, 1.0) for mask in (small, large)]
        content["annotations"] = [
            {**first, **row, "id": k, "area": int(mask.sum())}
            for k, (mask, row) in enumerate(zip((small, large), rows, strict=True), 1)
        ]

    write_scenes(tmp_path, count=1, change=change, width=300, height=160)
    file = tmp_path / "annotations" / "instances_train2017.json"
    return read_coco(file, tmp_path / "train2017"), [
        result_of(mask, score) for mask, score in ((line, 0.99), (small, 0.9), (large, 0.9))
    ]


@pytest.mark.parametrize("backend", ["pycocotools", "faster"])
def test_sizes_of_masks_are_their_pixels(thin, backend):
    data, results = thin
    assert results[0]["bbox"] == [0.0, 0.0, 151.0, 150.0]
    coco, evaluation = coco_classes("pycocotools")
    truth = coco(str(data.annotations[0]))
    masks = [{name: r[name] for name in r if name != "bbox"} for r in results]
    run = evaluation(truth, truth.loadRes(masks), "segm")
    run.evaluate()
    run.accumulate()
    run.summarize()
    wanted = [None if x < 0 else x for x in run.stats]
    found = score(data, results, kind="segm", backend=backend)
    assert list(found.to_dict().values())[:12] == pytest.approx(wanted, abs=1e-12)
    assert (found.ap_small, found.ap_large) == pytest.approx((0.5, 1.0))
    boxes = score(data, results, backend=backend)
    assert (boxes.ap_small, boxes.ap_large) == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize("backend", ["pycocotools", "faster"])
def test_no_detections_score_nothing_with_a_note(data, backend):
    found = score(data, [], backend=backend)
    assert found.notes == ("no detections at all: every figure is 0",)
    assert (found.ap, found.recall_100, found.by_class["red"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": float("nan")}, "detection 1 (image 1): expected a finite score and box"),
        ({"bbox": [1.0, 2.0, float("inf"), 3.0]}, "expected a finite score and box"),
        ({"bbox": [1.0, 2.0, 3.0]}, "expected a finite score and box"),
        ({"category_id": 1}, "expected a known class, found 1"),
        ({"image_id": 99}, "expected an image of the set, found 99"),
    ],
)
def test_impossible_detections_are_refused(data, change, said):
    results = truth(data)
    results[1] |= change
    with pytest.raises(DataError) as refused:
        score(data, results)
    assert said in str(refused.value).replace("image 2", "image 1")


def test_corners_in_place_of_sizes_are_noticed(data):
    results = truth(data)
    for r in results:
        x, y, w, h = r["bbox"]
        r["bbox"] = [x, y, x + w, y + h]
    assert "expected x, y, width, height" in score(data, results).notes[0]
    assert score(data, truth(data)).notes == ()


def test_shifted_classes_are_noticed(data):
    results = truth(data)
    for r in results:
        r["category_id"] = {3: 7, 7: 3}[r["category_id"]]
    found = score(data, results)
    assert found.ap50 < 0.001
    assert "numbers of the classes are shifted" in found.notes[0]


def test_nothing_to_find_is_refused(tmp_path):
    write_scenes(tmp_path, count=2, change=lambda content: content["annotations"].clear())
    data = read_coco(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017")
    with pytest.raises(DataError, match="nothing to score"):
        score(data, [])


def test_a_class_without_objects_has_no_figure(tmp_path):
    def third(content):
        content["categories"].append({"id": 9, "name": "green"})

    write_scenes(tmp_path, count=4, change=third)
    data = read_coco(tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017")
    found = score(data, truth(data))
    assert found.by_class["green"] is None
    assert (found.classes, found.ap) == (2, 1.0)


def test_recall_of_proposals_does_not_ask_for_classes(data):
    def proposals(keep):
        for index, number in enumerate(data.ids):
            boxes = data.boxes[data.rows(index)][:keep]
            filler = np.tile([0.0, 0.0, 3.0, 3.0], (150, 1))
            everything = np.concatenate([filler, boxes])  # objects come last
            yield int(number), everything, np.linspace(1, 0.1, len(everything))

    found = recall(data, proposals(5))
    assert (found[100], found[300]) == (0.0, 1.0)
    one_each = recall(data, proposals(1))
    assert one_each[300] == pytest.approx(len(data) / len(data.boxes))


def test_subsets_are_scored_on_their_own_images(data):
    half = data.subset([0, 2, 4], "half")
    results = [r for r in truth(data) if r["image_id"] in half.ids]
    assert score(half, results).ap == 1.0
