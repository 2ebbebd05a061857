"""Folders of images per class: what is found, and what is refused."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from resnext.data import DataSet, default_profile, open_data, open_source
from resnext.errors import DataError
from unit.data.pictures import encoded, picture, write_folder


def write_splits(root: Path, train: dict[str, int], validation: dict[str, int], name: str) -> Path:
    write_folder(root / "train", train)
    write_folder(root / name, validation, seed=100)
    return root


def described(data: DataSet, root: Path) -> tuple[list[str], list[str]]:
    train, validation = (
        [str(Path(part.describe(i)).relative_to(root)) for i in range(len(part))]
        for part in (data.train, data.validation)
    )
    return train, validation


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_splits_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    root = write_splits(tmp_path / "pets", {"dog": 2, "cat": 1}, {"cat": 1, "dog": 1}, name)
    data = open_data(root)
    assert (data.name, data.location, data.classes) == ("pets", str(root), ("cat", "dog"))
    train, validation = described(data, root)
    assert train == ["train/cat/0.png", "train/dog/0.png", "train/dog/1.png"]
    assert validation == [f"{name}/cat/0.png", f"{name}/dog/0.png"]
    assert data.train.labels.tolist() == [0, 1, 1]
    assert data.train.labels.dtype == np.int64
    np.testing.assert_array_equal(np.asarray(data.train.read(0)), np.asarray(picture(2)))


def test_a_test_folder_is_left_alone_beside_a_validation_folder(tmp_path: Path) -> None:
    root = write_splits(tmp_path, {"a": 2, "b": 2}, {"a": 1, "b": 1}, "val")
    (root / "test").mkdir()
    assert len(open_data(root).validation) == 2


@pytest.mark.parametrize("below", ["", "train"])
def test_without_a_split_a_fifth_of_each_class_is_held_out(below: str, tmp_path: Path) -> None:
    write_folder(tmp_path / below, {"a": 10, "b": 2, "c": 14})
    data = open_data(tmp_path)
    assert np.bincount(data.validation.labels).tolist() == [2, 1, 3]
    assert np.bincount(data.train.labels).tolist() == [8, 1, 11]
    train, validation = described(data, tmp_path)
    assert len({*train, *validation}) == 26
    assert described(open_data(tmp_path), tmp_path) == (train, validation)


def test_the_held_out_part_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    here = open_data(write_folder(tmp_path / "here", {"a": 9, "b": 9}))
    there = open_data(write_folder(tmp_path / "far" / "there", {"a": 9, "b": 9}))
    assert described(here, tmp_path / "here") == described(there, tmp_path / "far" / "there")
    assert here.fingerprint == there.fingerprint


def test_a_class_of_trains_is_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"car": 2, "train": 2})
    assert open_data(tmp_path).classes == ("car", "train")


def test_extensions_depth_and_hidden_files(tmp_path: Path) -> None:
    content = encoded(picture(0), "JPEG")
    for name in ("a/b.JPEG", "a/a.jpg", "a/sub/c.WebP", "b/x.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for name in ("a/notes.txt", "a/._b.jpg", "a/.DS_Store", "readme.md"):
        (tmp_path / name).write_text("text")
    (tmp_path / ".git").mkdir()
    source = open_source(tmp_path)
    found = [str(Path(source.describe(i)).relative_to(tmp_path)) for i in range(len(source))]
    assert found == ["a/a.jpg", "a/b.JPEG", "a/sub/c.WebP", "b/x.tif"]


def test_the_order_is_that_of_torchvisions_image_folder(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    write_folder(tmp_path, {"B": 2, "a": 12, "ä": 1, "a b": 1})
    write_folder(tmp_path / "a", {"deep": 2, "Deep": 1})
    theirs = ImageFolder(tmp_path)
    ours = open_source(tmp_path)
    assert [ours.describe(i) for i in range(len(ours))] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets
    assert list(ours.classes) == theirs.classes
    for index in (0, 5):
        theirs_pixels = np.asarray(theirs[index][0])
        np.testing.assert_array_equal(np.asarray(ours.read(index).convert("RGB")), theirs_pixels)


def change_content(root: Path) -> None:
    (root / "a" / "0.png").write_bytes(encoded(picture(99, width=30)))


def rename_file(root: Path) -> None:
    (root / "a" / "0.png").rename(root / "a" / "9.png")


def rename_class(root: Path) -> None:
    (root / "b").rename(root / "z")


@pytest.mark.parametrize("change", [change_content, rename_file, rename_class])
def test_the_fingerprint_tells_changes(change: object, tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 3, "b": 3})
    before = open_data(root).fingerprint
    assert open_data(root).fingerprint == before
    assert callable(change)
    change(root)
    assert open_data(root).fingerprint != before


def refused(location: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        open_data(location)
    message = str(caught.value)
    assert "expected" in message
    assert "found" in message
    assert "\n" not in message
    assert caught.value.exit_code == 3
    return message


def test_nothing_there(tmp_path: Path) -> None:
    assert f"found nothing at {tmp_path}/missing" in refused(tmp_path / "missing")


def test_a_file_that_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert "notes.txt: expected a folder, a .parquet or a .tar file" in refused(
        tmp_path / "notes.txt"
    )


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "expected a folder per class, found nothing" in refused(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    assert "found no folder and no image" in refused(tmp_path)


def test_images_without_a_class(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(number)))
    assert "expected a folder per class, found 3 images without one" in refused(tmp_path)


def test_a_single_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 4})
    assert "expected at least 2 classes, found only 'cat'" in refused(tmp_path)


def test_an_empty_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "eel").mkdir()
    assert "eel: expected images (.jpg" in refused(tmp_path)
    (tmp_path / "eel" / "1.heic").write_text("a format that nobody here reads")
    assert "found 1 other entries such as 1.heic" in refused(tmp_path)


def test_a_class_too_small_to_hold_one_out(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 4, "dog": 1})
    assert "at least 2 images of class 'dog'" in refused(tmp_path)


def test_classes_that_differ_between_the_splits(tmp_path: Path) -> None:
    write_splits(tmp_path, {"cat": 1, "dog": 1, "eel": 1}, {"cat": 1, "dog": 1, "fox": 1}, "val")
    message = refused(tmp_path)
    assert "'eel' (1 such) only in train and 'fox' (1 such) only in validation" in message


def test_validation_without_training(tmp_path: Path) -> None:
    write_folder(tmp_path / "val", {"cat": 1, "dog": 1})
    assert "expected train/ beside val, found none" in refused(tmp_path)


def test_validation_that_is_the_training_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    (tmp_path / "val").symlink_to(tmp_path / "train")
    assert "found train/ again as val/" in refused(tmp_path)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 3, "b": 2})
    (root / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/1\.png: expected an image, found an empty file"):
        open_source(root).read(1)
    (root / "a" / "1.png").unlink()
    source = open_source(root)
    (root / "a" / "0.png").unlink()  # between opening and reading
    with pytest.raises(DataError, match=r"a/0\.png: expected an image, found no such file"):
        source.read(0)
    assert open_source(root).fingerprint() != source.fingerprint()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_outside_utf8_is_read_and_printable(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 1, "b": 1})
    (root / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(picture(7)))
    source = open_source(root)
    assert source.describe(1).endswith(r"a/caf\xe9.png")
    np.testing.assert_array_equal(np.asarray(source.read(1)), np.asarray(picture(7)))
    source.fingerprint()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        assert "Permission denied" in refused(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_the_default_profile_follows_the_first_image(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"a": 2, "b": 2})
    assert default_profile(open_data(tmp_path / "photos")).name == "pil-224"
    for name in ("a", "b"):
        (tmp_path / "small" / name).mkdir(parents=True)
        for number in range(2):
            content = encoded(picture(number, width=32, height=32))
            (tmp_path / "small" / name / f"{number}.png").write_bytes(content)
    assert default_profile(open_data(tmp_path / "small")).name == "cifar10"


def test_the_default_profile_follows_the_first_image_that_can_be_read(tmp_path: Path) -> None:
    write_folder(tmp_path, {"b": 20})
    (tmp_path / "a").mkdir()
    small = encoded(picture(0, width=32, height=32))
    for number in range(20):
        (tmp_path / "a" / f"{number:02d}.png").write_bytes(small)
    for number in range(3):
        (tmp_path / "a" / f"{number:02d}.png").write_bytes(small[: 40 * number])
    source = open_source(tmp_path)
    data = DataSet(name="damaged", location="", train=source, validation=source)
    assert default_profile(data).name == "cifar10"
    for file in (tmp_path / "a").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"00\.png: expected an image, found an empty file"):
        default_profile(data)
