"""Parquet files of image bytes: layouts, access by row, and what is refused."""

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resnext.data import open_data, open_source, parquet
from resnext.errors import DataError
from unit.data.pictures import encoded, picture, write_folder, write_parquet


def contents(count: int, start: int = 0) -> list[bytes]:
    return [encoded(picture(start + number)) for number in range(count)]


def write_splits(root: Path, train: str, validation: str, names: list[str] | None) -> Path:
    write_parquet(root / train, contents(5), [0, 1, 0, 1, 1], names=names)
    write_parquet(root / validation, contents(3, 50), [1, 0, 0], names=names)
    return root


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("train.parquet", "test.parquet"),
        ("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"),
        ("Train_1.parquet", "val_1.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
    ],
)
def test_splits_are_told_by_their_names(train: str, validation: str, tmp_path: Path) -> None:
    data = open_data(write_splits(tmp_path / "pets", train, validation, ["cat", "dog"]))
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.train.labels.tolist() == [0, 1, 0, 1, 1]
    assert data.validation.labels.tolist() == [1, 0, 0]
    for row in (4, 0, 2):
        np.testing.assert_array_equal(np.asarray(data.train.read(row)), np.asarray(picture(row)))
    found = np.asarray(data.validation.read(2))
    np.testing.assert_array_equal(found, np.asarray(picture(52)))
    assert data.train.describe(4) == f"{train} row 4"


def test_validation_is_preferred_to_a_test_without_labels(tmp_path: Path) -> None:
    root = write_splits(tmp_path, "train.parquet", "validation.parquet", ["cat", "dog"])
    write_parquet(root / "test.parquet", contents(2), [-1, -1], names=["cat", "dog"])
    assert open_data(root).validation.labels.tolist() == [1, 0, 0]


def test_several_files_are_one_source(tmp_path: Path) -> None:
    for shard, rows in enumerate([3, 4, 1]):
        path = tmp_path / f"train-{shard}.parquet"
        write_parquet(path, contents(rows, 10 * shard), [0, 1, 1, 0][:rows], names=["a", "b"])
    source = open_source(tmp_path)
    assert len(source) == 8
    where = [source.describe(index) for index in range(8)]
    assert where == [f"train-0.parquet row {r}" for r in range(3)] + [
        f"train-1.parquet row {r}" for r in range(4)
    ] + ["train-2.parquet row 0"]
    for index, seed in enumerate([0, 1, 2, 10, 11, 12, 13, 20]):
        found = np.asarray(source.read(index))
        np.testing.assert_array_equal(found, np.asarray(picture(seed)))


@pytest.mark.parametrize("name", ["all.parquet", "train.parquet", "test.parquet"])
def test_of_a_single_file_a_fifth_of_each_class_is_held_out(name: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / name, contents(15), [0, 1, 1] * 5, names=["a", "b"])
    for location in (path, tmp_path) if name != "test.parquet" else (path,):
        data = open_data(location)
        assert np.bincount(data.validation.labels).tolist() == [1, 2]
        assert np.bincount(data.train.labels).tolist() == [4, 8]
    assert open_data(path).name == Path(name).stem


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "x.parquet", contents(4), [0, 1, 0, 1], columns=("img", "fine_label")
    )
    assert open_source(path).classes == ("0", "1")


def test_plain_binary_columns_are_read(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array(contents(4), pa.large_binary()), "label": [0, 1, 0, 1]})
    pq.write_table(table, tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet")
    np.testing.assert_array_equal(np.asarray(source.read(3)), np.asarray(picture(3)))


def test_without_names_both_splits_number_the_same_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", contents(3), [0, 1, 2])
    write_parquet(tmp_path / "test.parquet", contents(2), [0, 1])
    assert open_data(tmp_path).classes == ("0", "1", "2")


def test_the_same_images_in_a_folder_and_in_parquet_are_the_same(tmp_path: Path) -> None:
    folder = open_source(write_folder(tmp_path / "folder", {"ant": 3, "bee": 2}))
    files = sorted((tmp_path / "folder").rglob("*.png"))
    path = write_parquet(
        tmp_path / "x.parquet",
        [file.read_bytes() for file in files],
        folder.labels.tolist(),
        names=["ant", "bee"],
    )
    rows = open_source(path)
    assert rows.classes == folder.classes
    np.testing.assert_array_equal(rows.labels, folder.labels)
    for index in range(5):
        pixels = np.asarray(rows.read(index))
        np.testing.assert_array_equal(pixels, np.asarray(folder.read(index)))


def test_memory_is_bounded_and_old_row_groups_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path / "x.parquet", contents(12), [0, 1] * 6)
    monkeypatch.setattr(parquet, "CACHE_BYTES", 3 * 2 * len(contents(1)[0]))
    source = parquet.read((path,), path)
    for index in [*range(12), 0, 11, 5, *range(12)]:
        found = np.asarray(source.read(index))
        np.testing.assert_array_equal(found, np.asarray(picture(index)))
        assert source._cache.nbytes <= parquet.CACHE_BYTES
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1)
    source.read(0)
    source.read(4)  # a group above the budget is held alone
    assert 0 < source._cache.nbytes < 3 * len(contents(1)[0])


@pytest.mark.parametrize("fitting", [2, 24], ids=["some row groups fit", "all fit"])
def test_threads_share_the_row_groups(
    fitting: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = contents(48)
    path = write_parquet(tmp_path / "x.parquet", stored, [0, 1] * 24)
    source = parquet.read((path,), path)
    monkeypatch.setattr(parquet, "CACHE_BYTES", fitting * 3 * len(stored[0]))
    loaded: Counter[int] = Counter()
    load = parquet.ParquetSource._load

    def counted(self: parquet.ParquetSource, number: int) -> object:
        loaded[number] += 1
        return load(self, number)

    monkeypatch.setattr(parquet.ParquetSource, "_load", counted)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source._bytes, [*range(48)] * 20)) == stored * 20
    assert set(loaded) == set(range(24))
    if fitting == 24:
        assert set(loaded.values()) == {1}


def test_a_worker_gets_no_pixels_and_opens_the_files_itself(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", contents(4), [0, 1, 0, 1])
    source = open_source(path)
    source.read(0)
    travelling = pickle.dumps(source)
    assert contents(1)[0] not in travelling
    copy = pickle.loads(travelling)  # noqa: S301, our own bytes
    np.testing.assert_array_equal(np.asarray(copy.read(3)), np.asarray(picture(3)))


def test_the_fingerprint_tells_changes_but_not_places(tmp_path: Path) -> None:
    first = write_parquet(tmp_path / "a" / "x.parquet", contents(4), [0, 1, 0, 1])
    moved = write_parquet(tmp_path / "b" / "x.parquet", contents(4), [0, 1, 0, 1])
    labels = write_parquet(tmp_path / "c" / "x.parquet", contents(4), [1, 0, 1, 0])
    pixels = write_parquet(tmp_path / "d" / "x.parquet", contents(4, 1), [0, 1, 0, 1])
    named = write_parquet(tmp_path / "e" / "x.parquet", contents(4), [0, 1, 0, 1], names=["a", "b"])
    prints = [open_source(path).fingerprint() for path in (first, labels, pixels, named)]
    assert len(set(prints)) == 4
    assert open_source(moved).fingerprint() == prints[0]


def refused(location: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_data(location)
    message = str(caught.value)
    assert "expected" in message
    assert "found" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("label", [4, 10**9, 2**62])
def test_a_label_above_the_number_of_images(label: int, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", contents(4), [0, 1, label, 1])
    message = refused(path)
    assert "labels below the number of images (4), since no class names are stored" in message
    assert f"found {label}; a ClassLabel in the schema's huggingface metadata" in message
    path = write_parquet(path, contents(4), [0, 1, 4, 1], names=list("abcde"))
    assert open_source(path).classes == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(("label", "found"), [(-1, "-1 in row 2"), (2, "2 in row 2")])
def test_a_label_out_of_range(label: int, found: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", contents(4), [0, 1, label, 1], names=["a", "b"])
    assert f"x.parquet: expected labels 0 to 1, found {found}" in refused(path)


def test_missing_columns(tmp_path: Path) -> None:
    table = pa.table({"image": contents(2), "caption": ["a", "b"]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert "column label or fine_label, found image, caption" in refused(tmp_path / "x.parquet")
    pq.write_table(pa.table({"label": [0, 1]}), tmp_path / "x.parquet")
    assert "expected a column img or image, found label" in refused(tmp_path / "x.parquet")


def test_columns_of_another_kind(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a", "b"], "label": [0, 1]}), tmp_path / "x.parquet")
    assert "expected image bytes in column image, found string" in refused(tmp_path / "x.parquet")
    pq.write_table(pa.table({"image": contents(2), "label": ["a", "b"]}), tmp_path / "x.parquet")
    assert "whole numbers in column label, found string" in refused(tmp_path / "x.parquet")
    pq.write_table(pa.table({"image": contents(2), "label": [0, None]}), tmp_path / "x.parquet")
    assert "whole numbers in column label, found 1 empty ones" in refused(tmp_path / "x.parquet")


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("text")
    assert "x.parquet: expected a readable parquet file" in refused(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"")
    refused(tmp_path / "x.parquet")


def test_a_file_without_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [], [], names=["a", "b"])
    assert "expected images, found no rows" in refused(path)
    assert "found" in refused(write_parquet(tmp_path / "x.parquet", [], []))


def test_a_single_class(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", contents(4), [0] * 4, names=["cat"])
    assert "at least 2 classes, found only 'cat'" in refused(path)


def test_names_that_differ_between_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", contents(2), [0, 1], names=["a", "b"])
    write_parquet(tmp_path / "train-1.parquet", contents(2), [0, 1], names=["b", "a"])
    assert "expected the class names of train-0.parquet" in refused(tmp_path)
    (tmp_path / "train-1.parquet").rename(tmp_path / "test.parquet")
    assert "found them in another order" in refused(tmp_path)


def test_files_that_belong_to_no_split(tmp_path: Path) -> None:
    root = write_splits(tmp_path, "train.parquet", "test.parquet", None)
    write_parquet(root / "extra.parquet", contents(2), [0, 1])
    assert "found extra.parquet (3 files)" in refused(root)
    (root / "extra.parquet").unlink()
    (root / "train.parquet").rename(root / "test-1.parquet")
    assert "train among them; found test-1.parquet (2 files)" in refused(root)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [*contents(2), b"text", b""], [0, 1, 0, 1])
    source = open_source(path)
    with pytest.raises(DataError, match=r"x\.parquet row 2: expected an image, found none of"):
        source.read(2)
    with pytest.raises(DataError, match=r"x\.parquet row 3: expected an image, found no bytes"):
        source.read(3)
    table = pa.table({"image": pa.array([None, b"x"], pa.binary()), "label": [0, 1]})
    pq.write_table(table, path)
    with pytest.raises(DataError, match=r"x\.parquet row 0: expected image bytes, found none"):
        open_source(path).read(0)
    source = open_source(path)
    path.unlink()  # between opening and reading
    with pytest.raises(DataError, match=r"x\.parquet: expected a readable parquet file"):
        source.read(0)
