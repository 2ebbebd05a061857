"""ImageNet-5K out of ImageNet-22K, on a toy: which classes, in which order, with which labels."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from resnext.data import class_list, open_data, open_evaluation, open_source
from resnext.data.class_list import ClassList
from resnext.errors import DataError, UsageError
from unit.data.pictures import picture, write_folder
from unit.data.test_tar import write_tar

SIZES = {"n0": 2, "n1": 9, "n2": 4, "n3": 3, "n4": 4, "n5": 1, "n6": 8, "n7": 4}
FIRST = ("n5", "n3")
"""The toy's "ImageNet-1K", not in its usual order."""

CHOSEN = ("n3", "n5", "n1", "n2", "n4", "n6")
"""n7 is as large as n2 and n4, and comes after them by name."""


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "22k", SIZES)


def listed(
    whole: Path, validation: str | None = None, names: tuple[str, ...] = CHOSEN
) -> tuple[Path, ClassList]:
    counts = class_list.counts_of(open_source(whole))
    chosen = ClassList(
        classes=names,
        counts=tuple(counts[name] for name in names),
        leading=2,
        data=str(whole),
        validation=validation,
    )
    path = whole.parent / "list.json"
    path.unlink(missing_ok=True)
    class_list.write(path, chosen)
    return path, chosen


def test_the_classes_given_and_the_largest_others(whole: Path) -> None:
    counts = class_list.counts_of(open_source(whole))
    assert counts == SIZES
    assert class_list.choose(counts, FIRST, total=6) == CHOSEN
    assert class_list.choose(counts, FIRST, total=2) == ("n3", "n5")
    assert class_list.choose(counts, FIRST, others=("n7", "n5", "n0")) == ("n3", "n5", "n0", "n7")


def test_classes_that_are_not_there(whole: Path) -> None:
    counts = class_list.counts_of(open_source(whole))
    with pytest.raises(DataError, match=r"expected n9 among .* found it missing \(2 such\)"):
        class_list.choose(counts, ("n0", "n9", "n8"))
    with pytest.raises(DataError, match="expected 2 to 8 classes, found 5000 asked for"):
        class_list.choose(counts, FIRST)


def test_a_list_survives_the_file(whole: Path) -> None:
    path, chosen = listed(whole)
    assert class_list.read(path) == chosen
    text = "n3\nn5\nn1\nn2\nn4\nn6\n"
    assert json.loads(path.read_text())["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(UsageError, match="expected the name of a new file"):
        class_list.write(path, chosen)
    assert [p.name for p in whole.parent.iterdir() if p.name.startswith(".")] == []


def test_labels_are_positions_in_the_list(whole: Path) -> None:
    path, _ = listed(whole)
    source = open_source(path)
    assert source.classes == CHOSEN
    assert np.bincount(source.labels).tolist() == [SIZES[name] for name in CHOSEN]
    for index, label in enumerate(source.labels.tolist()):
        assert Path(source.describe(index)).parent.name == CHOSEN[label]
    np.testing.assert_array_equal(np.asarray(source.read(0)), np.asarray(picture(15)))
    place = source.encoded(0)
    assert place is not None
    assert str(place.path) == source.describe(0)
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
    np.testing.assert_array_equal(copy.labels, source.labels)
    assert copy.fingerprint() == source.fingerprint() != open_source(whole).fingerprint()


def test_the_images_to_score_on_are_those_of_the_first_classes(whole: Path) -> None:
    write_folder(whole.parent / "1k" / "val", {"n3": 2, "n5": 2}, seed=100)
    path, _ = listed(whole, validation=str(whole.parent / "1k"))
    data = open_data(path)
    assert data.classes == CHOSEN
    assert len(data.train) == sum(SIZES[name] for name in CHOSEN)
    assert data.validation.labels.tolist() == [0, 0, 1, 1]
    assert open_evaluation(path).fingerprint() == data.validation.fingerprint()


def test_without_them_a_part_is_held_out(whole: Path) -> None:
    names = ("n0", "n3", "n1", "n2")
    path, _ = listed(whole, names=names)
    data = open_data(path)
    assert np.bincount(data.validation.labels).tolist() == [1, 1, 2, 1]
    assert len(data.train) + len(data.validation) == 18


def test_out_of_a_tar_file(whole: Path) -> None:
    files = {str(p.relative_to(whole)): p.read_bytes() for p in whole.rglob("*.png")}
    archive = write_tar(whole.parent / "22k.tar", files)
    path, _ = listed(whole)
    folder = open_source(path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"data": "22k.tar"}))  # beside the list
    assert archive.exists()
    ours = open_source(path)
    assert ours.labels.tolist() == folder.labels.tolist()
    for index in (0, 10, 20):
        np.testing.assert_array_equal(np.asarray(ours.read(index)), np.asarray(folder.read(index)))


def test_names_from_a_folder_or_a_file(whole: Path, tmp_path: Path) -> None:
    assert class_list.read_names(whole) == tuple(SIZES)
    write_folder(tmp_path / "1k" / "train", {"n5": 1, "n3": 1})
    (tmp_path / "1k" / "val").mkdir()
    assert class_list.read_names(tmp_path / "1k") == ("n3", "n5")
    names = tmp_path / "names.txt"
    names.write_text("# comment\nn01440764 tench, Tinca tinca\n\nn3\n")
    assert class_list.read_names(names) == ("n01440764", "n3")
    names.write_text("golden retriever\n Hund (groß) \nn2 in air\n")
    assert class_list.read_names(names) == ("golden retriever", "Hund (groß)", "n2 in air")
    names.write_text("ant\nbee\n", encoding="utf-8-sig")  # as Windows writes it
    assert class_list.read_names(names) == ("ant", "bee")
    names.write_text("n5\nn3\nn5\n")
    with pytest.raises(DataError, match="one per line, found n5 twice"):
        class_list.read_names(names)
    names.write_text("\n")
    with pytest.raises(DataError, match="one per line, found none"):
        class_list.read_names(names)
    with pytest.raises(DataError, match="found: No such file"):
        class_list.read_names(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "expected the format 'resnext class list 1', found 'other'"),
        ({"classes": {"n5": 1, "n3": 3}}, "expected classes of SHA-256"),
        ({"classes": ["n5"]}, "found another JSON file"),
        ({"leading": None}, "found another JSON file"),
        ({"data": "missing"}, "found nothing at"),
        ({"data": "list.json"}, "found a list of classes"),
    ],
)
def test_changed_lists_are_refused(change: dict[str, object], message: str, whole: Path) -> None:
    path, _ = listed(whole)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        open_data(path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"a": 1}'])
def test_other_json_files_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match="expected a list of classes, found another JSON file"):
        open_data(tmp_path / "x.json")


def test_data_that_lacks_a_class_of_the_list(whole: Path) -> None:
    path, _ = listed(whole)
    (whole / "n6").rename(whole / "n8")
    with pytest.raises(DataError, match=r"expected the 6 classes of the list, found 1 missing"):
        open_data(path)
