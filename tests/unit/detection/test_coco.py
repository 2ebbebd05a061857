import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resnext.detection import splits
from resnext.detection.coco import read_coco
from resnext.detection.detecting import data_of
from resnext.detection.folder import SetRecord
from resnext.detection.splits import check_pair, open_sets, open_split
from resnext.errors import DataError, UsageError
from unit.detection.scenes import write_scenes


def read(root, split="train2017"):
    return read_coco(root / "annotations" / f"instances_{split}.json", root / split, split)


def test_labels_are_contiguous_and_boxes_are_corners(tmp_path):
    data = read(write_scenes(tmp_path, count=4))
    assert [(c.id, c.name) for c in data.categories] == [(3, "red"), (7, "blue")]
    assert data.ids.tolist() == [1, 2, 3, 4]
    from unit.detection.scenes import scene

    for index, number in enumerate(data.ids):
        rows = scene(int(number))[1]
        found = data.boxes[data.rows(index)].tolist()
        assert found == [[x, y, x + w, y + h] for _, (x, y, w, h) in rows]
        assert data.labels[data.rows(index)].tolist() == [{3: 1, 7: 2}[c] for c, _ in rows]
        assert data.shape(data.rows(index).start)[0][:2] == rows[0][1][:2]


def test_a_subset_keeps_what_belongs_together(tmp_path):
    data = read(write_scenes(tmp_path, count=6))
    some = data.subset([1, 4], "some")
    for index, whole in enumerate((1, 4)):
        np.testing.assert_array_equal(some.boxes[some.rows(index)], data.boxes[data.rows(whole)])
        assert some.shape(some.rows(index).start) == data.shape(data.rows(whole).start)
    assert some.usable.tolist() == [0, 1]


def test_what_no_training_could_use_is_dropped_and_counted(tmp_path):
    def spoil(content):
        rows = content["annotations"]
        rows[0]["bbox"][2] = 0
        rows[1]["area"] = 0
        rows[2]["bbox"][0] = 500.0
        rows[3]["bbox"] = [-10.0, -5.0, 40.0, 30.0]
        rows[4]["iscrowd"] = 1

    data = read(write_scenes(tmp_path, count=6, change=spoil))
    assert data.dropped == {"no width or height": 1, "no area": 1, "outside the image": 1}
    assert [0.0, 0.0, 30.0, 25.0] in data.boxes.tolist()
    assert data.crowd.sum() == 1
    with_objects = [i for i in range(6) if not data.crowd[data.rows(i)].all()]
    assert data.usable.tolist() == [i for i in with_objects if len(data.boxes[data.rows(i)])]


def set_field(part, field, value, at=0):
    def change(content):
        content[part][at][field] = value

    return change


def remove(part):
    def change(content):
        del content[part]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove("annotations"), "expected a list under 'annotations'"),
        (set_field("images", "id", 2), "expected each id once in images, found 2 twice"),
        (set_field("annotations", "id", "7"), "expected a whole number as id in annotations"),
        (set_field("annotations", "image_id", 99), "known images, found annotations 100"),
        (set_field("annotations", "category_id", 1), "known categories, found annotations 100"),
        (set_field("annotations", "bbox", [1, 2, 3]), "four finite numbers, found annotations 100"),
        (set_field("annotations", "bbox", [1, 2, 3, float("nan")]), "four finite numbers"),
        (set_field("images", "width", 0), "width and height of every image, found images 1"),
        (set_field("images", "file_name", "gone.jpg", 1), None),
        (set_field("categories", "name", "blue"), "classes with a name each, found ['blue']"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, change, said):
    write_scenes(tmp_path, count=3, change=change)
    if said is None:  # found by its number all the same
        assert read(tmp_path).files[1] == "000000000002.jpg"
        return
    with pytest.raises(DataError) as refused:
        read(tmp_path)
    assert said in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_missing_pictures_are_found_missing_at_once(tmp_path):
    write_scenes(tmp_path, count=3)
    (tmp_path / "train2017" / "000000000002.jpg").unlink()
    with pytest.raises(DataError, match=r"found 2 of 3; missing 000000000002.jpg"):
        read(tmp_path)


def test_no_json_is_said(tmp_path):
    write_scenes(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_text("{")
    with pytest.raises(DataError, match="expected JSON in"):
        read(tmp_path)


def test_usual_sets_are_train_and_val_of_2017(tmp_path):
    write_scenes(tmp_path, "train2017", 4)
    write_scenes(tmp_path, "val2017", 3, first=50)
    sets = open_sets(tmp_path)
    assert (len(sets.train), len(sets.evaluation)) == (4, 3)
    assert open_sets(tmp_path, training=False).train is None


def test_a_split_by_name_must_be_whole(tmp_path, monkeypatch):
    write_scenes(tmp_path, "val2017", 3)
    with pytest.raises(DataError, match=r"expected 5,000 images in minival, found 3"):
        open_split(tmp_path, "minival")
    with pytest.raises(UsageError, match="expected a split out of train2014"):
        open_split(tmp_path, "test")
    monkeypatch.setattr(splits, "COUNTS", {"minival": 3})
    assert open_split(tmp_path, "minival").name == "minival"


@pytest.fixture
def files_of_2014(tmp_path, monkeypatch):
    """train2014 with images 1 to 4, val2014 with 11 to 15, named as 2014 names them."""
    for split, count, first in (("train2014", 4, 1), ("val2014", 5, 11)):
        write_scenes(tmp_path, split, count, first)
        for file in sorted((tmp_path / split).glob("0*.jpg")):
            file.rename(file.with_name(f"COCO_{split}_{file.name}"))
    counts = {"minival": 2, "val35k": 3, "trainval35k": 7, "val2014": 5, "train2014": 4}
    monkeypatch.setattr(splits, "COUNTS", counts)
    return tmp_path


def test_minival_of_2014_needs_its_numbers(files_of_2014):
    with pytest.raises(DataError, match=r"minival's 5,000 images .* minival.txt"):
        open_split(files_of_2014, "minival")
    (files_of_2014 / "annotations" / "minival.txt").write_text("12\n15\n")
    assert open_split(files_of_2014, "minival").ids.tolist() == [12, 15]
    (files_of_2014 / "annotations" / "minival.txt").write_text("12\n15\n", encoding="utf-8-sig")
    assert open_split(files_of_2014, "minival").ids.tolist() == [12, 15]
    assert open_split(files_of_2014, "val35k").ids.tolist() == [11, 13, 14]
    whole = open_split(files_of_2014, "trainval35k")
    assert whole.ids.tolist() == [1, 2, 3, 4, 11, 13, 14]
    assert whole.path(4) == files_of_2014 / "val2014" / "COCO_val2014_000000000011.jpg"
    validation = open_split(files_of_2014, "val2014")
    np.testing.assert_array_equal(whole.boxes[whole.rows(4)], validation.boxes[validation.rows(0)])
    assert whole.shape(whole.rows(6).start) == validation.shape(validation.rows(3).start)
    assert all(whole.path(i).exists() for i in range(7))


@pytest.mark.parametrize("split", ["minival", "val35k", "trainval35k", "train2014"])
def test_a_split_of_2014_is_found_again(files_of_2014, split):
    """A part of a file is not the file: minival must not be scored as all of val2014."""
    (files_of_2014 / "annotations" / "minival.txt").write_text("12\n15\n")
    found = open_split(files_of_2014, split)
    again = data_of(SetRecord.of(found))
    assert again.ids.tolist() == found.ids.tolist()
    assert again.path(0) == found.path(0)


@pytest.mark.parametrize("name", ["val2017", "minival2014"])
def test_numbers_of_minival_may_come_from_annotations(files_of_2014, name):
    """Whose images lie in val2014, under its names."""
    write_scenes(files_of_2014, name, 2, first=12)
    shutil.rmtree(files_of_2014 / name)
    found = open_split(files_of_2014, "minival")
    assert found.ids.tolist() == [12, 13]
    assert found.path(0) == files_of_2014 / "val2014" / "COCO_val2014_000000000012.jpg"
    assert data_of(SetRecord.of(found)).ids.tolist() == [12, 13]
    assert open_sets(files_of_2014).evaluation.path(0) == found.path(0)


def test_another_minival_is_another_set(files_of_2014):
    numbers = files_of_2014 / "annotations" / "minival.txt"
    numbers.write_text("12\n15\n")
    record = SetRecord.of(open_split(files_of_2014, "minival"))
    numbers.write_text("12\n14\n")
    with pytest.raises(DataError, match="found other annotations or images"):
        data_of(record)


def rename_class(content):
    content["categories"][1]["name"] = "Blue"


def test_sets_of_other_classes_are_refused(tmp_path):
    write_scenes(tmp_path, "train2017", 2)
    write_scenes(tmp_path, "val2017", 2, first=9, change=rename_class)
    with pytest.raises(DataError, match=r"number 7 is 'Blue' in place of 'blue' \(1 differ\)"):
        open_sets(tmp_path)


def test_nothing_to_learn_from_is_refused(tmp_path):
    write_scenes(tmp_path, "train2017", 2, change=lambda content: content["annotations"].clear())
    write_scenes(tmp_path, "val2017", 2, first=9)
    with pytest.raises(DataError, match="expected images with objects, found none"):
        open_sets(tmp_path)


def test_a_part_of_2014_is_not_scored_on_what_it_is_part_of(files_of_2014):
    """Folders and files of annotations are others; three pictures are not."""
    (files_of_2014 / "annotations" / "minival.txt").write_text("12\n15\n")
    open_sets(files_of_2014, train="trainval35k", evaluation="minival")
    with pytest.raises(DataError, match=r"other images in val2014 than in trainval35k, found 3 in"):
        open_sets(files_of_2014, train="trainval35k", evaluation="val2014")


def test_2014_and_2017_are_the_same_pictures_under_other_names(files_of_2014, monkeypatch):
    write_scenes(files_of_2014, "train2017", 3, first=13)
    write_scenes(files_of_2014, "val2017", 2, first=11)
    monkeypatch.setattr(splits, "COUNTS", {"val2014": 5, "val2017": 2, "train2017": 3})
    train, evaluation, of_2014 = (
        open_split(files_of_2014, split) for split in ("train2017", "val2017", "val2014")
    )
    check_pair(train, evaluation)
    with pytest.raises(DataError, match=r"in val2017 than in val2014, found 2 in both, such as 11"):
        check_pair(of_2014, evaluation)
    with pytest.raises(DataError, match=r"found 3 in both, such as 13"):
        check_pair(train, of_2014)
    with pytest.raises(DataError, match=r"found 3 in both, such as 13"):
        check_pair(replace(train, name="instances_train2017"), of_2014)
    # other sets number their pictures as they like
    check_pair(train, of_2014.subset([2, 3], "own"))


def test_sets_of_ones_own_share_files_not_numbers(tmp_path):
    """Both count from 1, as most do; the folder may have several names."""
    write_scenes(tmp_path, "train2017", 4)
    write_scenes(tmp_path, "val2017", 3)
    whole, other = open_sets(tmp_path).train, open_sets(tmp_path).evaluation
    check_pair(whole, other)
    check_pair(whole, whole)
    (tmp_path / "link").symlink_to(tmp_path / "train2017")
    for images in (tmp_path / "train2017", tmp_path / "link"):
        some = replace(whole.subset([2, 3], "some"), images=images)
        with pytest.raises(DataError, match=r"images in some than in train2017, found 2 in both"):
            check_pair(whole, some)
        # the same pictures, counted anew
        with pytest.raises(DataError, match=r"found 2 in both, such as .*000000000003.jpg"):
            check_pair(whole, replace(some, ids=np.array([51, 52])))


@pytest.mark.skipif("RESNEXT_DATA" not in os.environ, reason="RESNEXT_DATA names no real data")
def test_real_pictures():
    sets = open_sets(Path(os.environ["RESNEXT_DATA"]) / "coco-tiny")
    assert (len(sets.train), len(sets.evaluation)) == (40, 40)
    assert (sets.train.crowd.sum(), sets.evaluation.crowd.sum()) == (4, 5)
    assert len(sets.train.boxes) == 332
    assert sets.train.dropped == {}
    assert len(sets.train.categories) == 80
