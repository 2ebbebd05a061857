"""Tar files of images: layouts, access at random, and what is refused."""

import contextlib
import io
import json
import os
import pickle
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnext.data import open_data, open_evaluation, open_source, shards, tar
from resnext.data.members import members
from resnext.data.opening import open_parts
from resnext.data.shards import BadArchiveError, Entry
from resnext.errors import DataError
from unit.data.pictures import encoded, picture, write_folder

Files = dict[str, bytes]


def write_tar(path: Path, files: Files, *, kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as archive:
        for name, content in files.items():
            add(archive, name, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def image(seed: int) -> bytes:
    return encoded(picture(seed))


def shard(labels: dict[int, int], suffix: str = ".cls") -> Files:
    """Webdataset's layout: image `seed` with its label."""
    files: Files = {}
    for seed, label in labels.items():
        files[f"{seed:06d}.png"] = image(seed)
        text = str(label) if suffix == ".cls" else json.dumps({"label": label, "text": "a photo"})
        files[f"{seed:06d}{suffix}"] = text.encode()
    return files


@pytest.mark.parametrize("suffix", [".cls", ".json"])
@pytest.mark.parametrize(
    ("train", "validation"),
    [("train-{}.tar", "val-{}.tar"), ("x1k-train-{}.tar", "x1k-validation-{}.tar")],
)
def test_webdataset_shards(suffix: str, train: str, validation: str, tmp_path: Path) -> None:
    write_tar(tmp_path / train.format("000000"), shard({3: 1, 1: 0}, suffix))
    write_tar(tmp_path / train.format("000001"), shard({2: 2}, suffix))
    write_tar(tmp_path / validation.format("000000"), shard({9: 1}, suffix))
    data = open_data(tmp_path)
    assert data.classes == ("0", "1", "2")
    assert data.train.labels.tolist() == [1, 0, 2]
    assert data.validation.labels.tolist() == [1]
    for index, seed in enumerate((3, 1, 2)):
        np.testing.assert_array_equal(np.asarray(data.train.read(index)), np.asarray(picture(seed)))
    assert data.train.describe(2) == f"{train.format('000001')}: 000002.png"
    assert open_evaluation(tmp_path).labels.tolist() == [1]


def test_class_names_beside_the_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", shard({1: 0, 2: 1}))
    write_tar(tmp_path / "val-0.tar", shard({3: 1}))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert open_data(tmp_path).classes == ("cat", "dog")
    assert open_source(tmp_path / "val-0.tar").classes == ("cat", "dog")
    (tmp_path / "classes.txt").write_text("cat\ndog\n", encoding="utf-8-sig")
    assert open_data(tmp_path).classes == ("cat", "dog")
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match="expected labels 0 to 0, found 1 in row 1"):
        open_data(tmp_path)


def test_labels_that_are_class_names(tmp_path: Path) -> None:
    files = {"0.png": image(0), "0.cls": b"\xef\xbb\xbfdog\n", "1.png": image(1), "1.cls": b"cat"}
    source = open_source(write_tar(tmp_path / "x.tar", files))
    assert source.classes == ("cat", "dog")
    np.testing.assert_array_equal(np.asarray(source.read(0)), np.asarray(picture(1)))


@pytest.mark.parametrize("above", ["", "./", "train/", "./train/"])
def test_a_folder_per_class_is_as_the_folder_on_disk(above: str, tmp_path: Path) -> None:
    classes = {"b": 12, "a": 3, "c d": 2, "a/deep": 2}
    root = write_folder(tmp_path / "disk", classes)
    files = {f"{above}{p.relative_to(root)}": p.read_bytes() for p in root.rglob("*.png")}
    files[f"{above}README.txt"] = b"no image"
    files[f"{above}a/._0.png"] = b"left by another system"
    ours = open_source(write_tar(tmp_path / "train.tar", dict(sorted(files.items(), reverse=True))))
    theirs = open_source(root)
    assert ours.classes == theirs.classes
    assert ours.labels.tolist() == theirs.labels.tolist()
    names = [ours.describe(n).split(": ")[1].removeprefix("train/") for n in range(len(ours))]
    assert names == [str(Path(theirs.describe(n)).relative_to(root)) for n in range(len(theirs))]
    for index in range(len(ours)):
        np.testing.assert_array_equal(np.asarray(ours.read(index)), np.asarray(theirs.read(index)))
    assert len(open_data(tmp_path / "train.tar").validation) == len(open_data(root).validation)


def class_folders(classes: dict[str, int], above: str = "", seed: int = 0) -> Files:
    names = [f"{above}{name}/{n}.png" for name, count in classes.items() for n in range(count)]
    return {name: image(seed + number) for number, name in enumerate(names)}


@pytest.mark.parametrize("above", ["photos/", "./photos/", "home/someone/photos/"])
def test_folders_that_all_images_share_are_no_classes(above: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "photos.tar", class_folders({"cat": 2, "dog": 2}, above))
    assert open_data(path).classes == ("cat", "dog")
    assert open_source(path).labels.tolist() == [0, 0, 1, 1]


def test_shared_folders_are_those_of_all_archives_of_a_set(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", class_folders({"x/cat/deep": 2}))
    write_tar(tmp_path / "1.tar", class_folders({"x/dog": 2}))
    assert open_data(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("above", ["", "set/"])
@pytest.mark.parametrize("kept", ["val", "validation", "valid", "test"])
def test_parts_in_an_archive(above: str, kept: str, tmp_path: Path) -> None:
    files = class_folders({"cat": 2, "dog": 1}, f"{above}train/")
    files |= class_folders({"cat": 1, "dog": 3}, f"{above}{kept}/", seed=9)
    files |= class_folders({"cat": 1, "dog": 1}, f"{above}test/", seed=20) if kept != "test" else {}
    path = write_tar(tmp_path / "x.tar", files)
    data = open_data(path)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.validation.labels.tolist() == [0, 1, 1, 1]
    assert data.validation.describe(1) == f"x.tar: {above}{kept}/dog/0.png"
    assert open_evaluation(path).fingerprint() == data.validation.fingerprint()
    assert {name: len(part) for name, part in open_parts(path).items()} == {
        "train": 3,
        "validation": 4,
    }


def test_parts_in_an_archive_without_one_to_train_on(tmp_path: Path) -> None:
    files = class_folders({"cat": 1, "dog": 1}, "val/") | class_folders({"cat": 2}, "test/")
    path = write_tar(tmp_path / "x.tar", files)
    assert open_evaluation(path).labels.tolist() == [0, 1]
    assert list(open_parts(path)) == ["validation"]
    with pytest.raises(DataError, match="expected train/ beside val, test, found none"):
        open_data(path)


def test_parts_of_other_classes_in_an_archive(tmp_path: Path) -> None:
    files = class_folders({"cat": 1, "dog": 1}, "train/") | class_folders({"cat": 2}, "val/")
    path = write_tar(tmp_path / "x.tar", files)
    with pytest.raises(DataError, match="expected the same classes in train and validation"):
        open_data(path)


def test_parts_of_which_one_has_no_class_folders(tmp_path: Path) -> None:
    files = class_folders({"cat": 1, "dog": 1}, "train/") | class_folders({"val": 2})
    assert problems(write_tar(tmp_path / "x.tar", files))[0] == (
        "x.tar: val/0.png: expected a folder per class in val/, found an image without one"
    )


def test_classes_that_are_named_as_parts(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", class_folders({"train": 2, "test": 2}))
    assert open_data(path).classes == ("test", "train")


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", class_folders({"photos/cat": 3}))
    with pytest.raises(DataError, match="expected at least 2 classes, found only 'cat'"):
        open_data(path)
    with pytest.raises(DataError, match="expected at least 2 classes, found only 'cat'"):
        open_parts(path)


def test_an_inner_archive_per_class_as_ilsvrc_is_published(tmp_path: Path) -> None:
    inner: Files = {}
    for label, name in enumerate(("n01440764", "n01443537")):
        path = write_tar(
            tmp_path / "x.tar", {f"{name}_{n}.png": image(10 * label + n) for n in (1, 2)}
        )
        inner[f"{name}.tar"] = path.read_bytes()
        path.unlink()
    source = open_source(write_tar(tmp_path / "ILSVRC2012_img_train.tar", inner))
    assert source.classes == ("n01440764", "n01443537")
    assert source.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(np.asarray(source.read(2)), np.asarray(picture(11)))
    assert source.describe(2).endswith("train.tar: n01443537/n01443537_1.png")
    for name, content in inner.items():  # unpacked once
        (tmp_path / "per class").mkdir(exist_ok=True)
        (tmp_path / "per class" / name).write_bytes(content)
    assert open_source(tmp_path / "per class").labels.tolist() == [0, 0, 1, 1]


def test_folders_win_over_archives_beside_them(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    write_tar(tmp_path / "backup.tar", {"eel/0.png": image(0)})
    assert open_source(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("stray", ["cat/backup.tar", "meta.parquet", "cat/x.parquet"])
@pytest.mark.parametrize("above", ["", "train"])
def test_a_stray_archive_among_class_folders(stray: str, above: str, tmp_path: Path) -> None:
    write_folder(tmp_path / above, {"cat": 2, "dog": 2})
    write_tar(tmp_path / stray, {"eel/0.png": image(0)})
    for opened in (open_data, open_parts, open_evaluation, open_source):
        with pytest.raises(DataError, match=r"found both, such as \S+/\d\.png and ") as caught:
            opened(tmp_path)
        assert str(caught.value).endswith(f"and {stray}")
        assert "\n" not in str(caught.value)


def test_one_folder_of_pictures_beside_archives(tmp_path: Path) -> None:
    write_tar(tmp_path / "data" / "x.tar", shard({1: 0, 2: 1}))
    write_folder(tmp_path, {"assets": 2, ".cache": 1})
    assert len(open_source(tmp_path)) == 2


def test_a_split_per_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "train" / "000.tar", shard({1: 0, 2: 1}))
    write_tar(tmp_path / "val" / "000.tar", shard({3: 1}))
    data = open_data(tmp_path)
    assert (len(data.train), len(data.validation)) == (2, 1)


def test_the_bytes_are_a_piece_of_the_archive(tmp_path: Path) -> None:
    source = open_source(write_tar(tmp_path / "x.tar", shard({1: 0, 2: 1})))
    place = source.encoded(1)
    assert place is not None
    assert place.path == tmp_path / "x.tar"
    content = place.path.read_bytes()[place.offset : place.offset + place.size]
    assert content == image(2)


def test_it_is_pickled_as_a_path(tmp_path: Path) -> None:
    source = open_source(write_tar(tmp_path / "x.tar", shard(dict.fromkeys(range(50), 1))))
    content = pickle.dumps(source)
    assert len(content) < 600
    copy = pickle.loads(content)  # noqa: S301 - our own
    np.testing.assert_array_equal(np.asarray(copy.read(49)), np.asarray(picture(49)))
    assert copy.fingerprint() == source.fingerprint()


def test_the_index_is_used_until_the_archive_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "_YOUNG", 0)
    path = write_tar(tmp_path / "x.tar", shard({1: 0, 2: 1}))
    time.sleep(0.02)
    first = open_source(path)
    before = first.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr("resnext.data.shards.entries", lambda *_: pytest.fail("read again"))
        assert open_source(path).fingerprint() == before
    write_tar(path, shard({1: 0, 2: 1, 3: 1}))
    time.sleep(0.02)
    assert len(open_source(path)) == 3
    assert open_source(path).fingerprint() != before
    with pytest.raises(DataError, match=r"x\.tar: 000001\.png: expected the indexed archive"):
        first.read(0)


# ---- what is refused


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(BadArchiveError) as caught:
        open_source(path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"found {len(caught.value.problems)} entries to refuse, the first: " in message
    assert caught.value.problems[0] in message
    assert caught.value.exit_code == 3
    return caught.value.problems


def hostile(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        add(archive, "cat/0.png", image(0))
        add(archive, "../../x", b"escape")
        add(archive, "dog/../../../y.png", b"escape")
        add(archive, "/etc/z.png", b"escape")
        add(archive, "dog/link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "dog/hard.png", type=tarfile.LNKTYPE, linkname="cat/0.png")
        add(archive, "dog/device.png", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add(archive, "dog/pipe.png", type=tarfile.FIFOTYPE)
        add(archive, "cat/0.png", image(1))
        add(archive, "C:\\windows.png", b"escape")
        add(archive, "dog", type=tarfile.DIRTYPE)
        add(archive, "dog/1.png", image(2))


def test_hostile_members_are_each_named_and_nothing_is_written(tmp_path: Path) -> None:
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    hostile(inner / "x.tar")
    before = sorted(tmp_path.rglob("*"))
    assert problems(inner / "x.tar") == (
        "x.tar: ../../x: a path that leaves the archive",
        "x.tar: dog/../../../y.png: a path that leaves the archive",
        "x.tar: /etc/z.png: an absolute path",
        "x.tar: dog/link.png: a symbolic link",
        "x.tar: dog/hard.png: a hard link",
        "x.tar: dog/device.png: a character device",
        "x.tar: dog/pipe.png: a pipe",
        "x.tar: cat/0.png: twice in the archive",
        "x.tar: C:\\windows.png: an absolute path",
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_labels_and_images_that_do_not_pair(tmp_path: Path) -> None:
    files = shard({1: 0, 2: 1})
    files |= {
        "3.png": image(3),
        "4.cls": b"1",
        "000001.jpg": image(5),
        "6.png": image(6),
        "6.json": b'{"caption": "no label"}',
        "7.png": image(7),
        "7.json": b"{broken",
        "8.png": image(8),
        "8.cls": b"\xff\xfe",
    }
    assert problems(write_tar(tmp_path / "x.tar", files)) == (
        "x.tar: 3.png: an image without a label",
        "x.tar: 000001.jpg: a second image named 000001",
        "x.tar: 6.png: an image without a label",
        "x.tar: 7.png: an image without a label",
        "x.tar: 8.png: an image without a label",
        "x.tar: 4.cls: a label without an image",
    )


def test_images_without_folders_or_labels(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"0.png": image(0), "1.png": image(1)})
    assert problems(path)[0] == "x.tar: 0.png: an image without a label"


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_a_shard_is_left_alone(tmp_path: Path) -> None:
    hostile = pickle.dumps(Canary(tmp_path / "canary"))
    files = shard({1: 0, 2: 1})
    files |= {"000001.pkl": hostile, "000001.pyd": hostile, "000001.npy": hostile}
    source = open_source(write_tar(tmp_path / "x.tar", files))
    source.read(0)
    files |= {"000003.png": image(3), "000003.cls": hostile}
    open_failure = problems(write_tar(tmp_path / "y.tar", files))
    assert open_failure == ("y.tar: 000003.png: an image without a label",)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("left", [0, 100, 511, 512, 700, 1024, 1500, 2048, 3000, -513, -1024, -1])
def test_truncated_archives(left: int, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a/0.png": image(0), "b/1.png": image(1)})
    with path.open("rb") as file:  # without the padding that follows the two blocks of zeros
        last = list(members(file.fileno(), 0, path.stat().st_size))[-1]
    content = path.read_bytes()[: -(-(last.offset + last.size) // 512) * 512]
    path.write_bytes(content[:left] if left >= 0 else content[: left or None])
    with pytest.raises(DataError, match="truncated") as caught:
        open_source(path)
    assert "x.tar" in str(caught.value)
    path.write_bytes(content)
    with pytest.raises(DataError, match="expected the blocks of zeros that end a tar file"):
        open_source(path)


def test_other_files_named_tar(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(image(0) * 4)
    assert problems(tmp_path / "x.tar") == (
        "x.tar: expected the header of a tar entry at byte 0, found other bytes",
    )
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"expected a plain \.tar, found a compressed one"):
        open_source(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("name", ["{}.tar.gz", "train-{}.TGZ", "train/{}.tar.gz"])
def test_a_folder_of_compressed_shards(name: str, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / name.format(number)).parent.mkdir(exist_ok=True)
        (tmp_path / name.format(number)).write_bytes(b"\x1f\x8b")
    found = f"expected plain .tar files, found 2 compressed ones such as {name.format(0)}; unpack"
    with pytest.raises(DataError, match=re.escape(found)):
        open_data(tmp_path)
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    if "/" not in name:
        assert open_data(tmp_path).classes == ("cat", "dog")


def test_an_archive_without_images(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"readme.txt": b"text"})
    with pytest.raises(DataError, match="expected images in tar files, found none"):
        open_source(path)


@pytest.mark.parametrize("label", [2, 999_999_999])
def test_a_label_above_the_number_of_images(label: int, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", shard({1: 0, 2: label}))
    with pytest.raises(DataError, match=rf"below the number of images \(2\), .* found {label}; "):
        open_source(path)
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    if label == 2:
        assert open_source(path).classes == ("ant", "bee", "cat")
    else:
        with pytest.raises(DataError, match=f"expected labels 0 to 2, found {label} in row 1"):
            open_source(path)


def test_a_label_above_the_number_of_images_of_both_parts(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", shard({1: 0, 2: 1}))
    write_tar(tmp_path / "val-0.tar", shard({3: 2}))
    assert open_data(tmp_path).classes == ("0", "1", "2")
    write_tar(tmp_path / "val-0.tar", shard({3: 3}))
    with pytest.raises(DataError, match=r"below the number of images \(3\), .*classes\.txt can"):
        open_data(tmp_path)


def test_a_flat_folder_of_validation_images_is_no_class() -> None:
    names = [f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)]
    found, wrong = shards.by_folder([Entry(n, 0, 0, 0, shards.IN_FOLDER) for n in names], ["x"])
    assert ([entry.label for entry in found], wrong) == ([None, None], [])


def test_shards_of_different_kinds(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", shard({1: 0, 2: 1}))
    write_tar(tmp_path / "1.tar", {"cat/0.png": image(0)})
    with pytest.raises(DataError, match="expected labels of one kind"):
        open_source(tmp_path)


def test_names_that_speak_of_a_split_only_in_part(tmp_path: Path) -> None:
    write_tar(tmp_path / "val-0.tar", shard({1: 0, 2: 1}))
    write_tar(tmp_path / "other.tar", shard({3: 0}))
    with pytest.raises(DataError, match="names that speak of train, val or test"):
        open_data(tmp_path)


def test_names_that_would_command_a_terminal(tmp_path: Path) -> None:
    files = {"\x1b[2Jcat/0\n.png": image(0), "dog/0.png": image(1)}
    source = open_source(write_tar(tmp_path / "x.tar", files))
    assert source.classes == ("\\x1b[2Jcat", "dog")
    assert source.describe(0) == "x.tar: \\x1b[2Jcat/0\\n.png"


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    files = shard({1: 0, 2: 1}) | {"000002.png": image(2)[:-40]}
    source = open_source(write_tar(tmp_path / "x.tar", files))
    with pytest.raises(DataError, match=r"x\.tar: 000002\.png: expected an image, found"):
        source.read(1)
    (tmp_path / "x.tar").unlink()
    with pytest.raises(DataError, match=r"000001\.png: expected an image, found no such file"):
        source.read(0)


# ---- headers, against the standard library's reader


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\\", exclude_categories=("Cs",)),
    min_size=1,
    max_size=300,
).filter(lambda name: name.strip("/.") and not name.startswith("/") and not name.endswith("/"))


@given(
    files=st.dictionaries(names, st.binary(max_size=1500), max_size=8),
    kind=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_are_those_of_the_standard_library(files: Files, kind: int) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=kind) as archive:
        for name, data in files.items():
            add(archive, name, data)
    theirs: list[tuple[str, int, int]] = []
    with tarfile.open(fileobj=io.BytesIO(content.getvalue())) as archive:
        theirs += [(info.name, info.offset_data, info.size) for info in archive]
    handle = os.memfd_create("x")
    try:
        os.write(handle, content.getvalue())
        found = list(members(handle, 0, len(content.getvalue())))
    finally:
        os.close(handle)
    assert [(plain(m.name), m.offset, m.size) for m in found] == [
        (plain(name), offset, size) for name, offset, size in theirs
    ]
    assert [m.problem for m in found if ".." not in m.name.split("/") and ":" not in m.name] == [
        None
    ] * sum(".." not in m.name.split("/") and ":" not in m.name for m in found)


def plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def old_style(path: Path) -> None:
    write_tar(path, {f"{'d' * 60}/{'e' * 60}/x.png": b"content"}, kind=tarfile.USTAR_FORMAT)


def large(path: Path) -> None:
    """An entry of more than 8 GiB, whose size is binary; the file has a hole for it."""
    info = tarfile.TarInfo("x.png")
    info.size = 9 * 2**30
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + info.size + 1024)


@pytest.mark.parametrize("write", [old_style, large])
def test_other_headers(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as archive:
        theirs = [(info.name, info.offset_data, info.size) for info in archive]
    with (tmp_path / "x.tar").open("rb") as file:
        found = list(members(file.fileno(), 0, (tmp_path / "x.tar").stat().st_size))
    assert [(m.name, m.offset, m.size) for m in found] == theirs


@given(st.binary(min_size=512, max_size=2048), st.integers(0, 2000), st.binary(max_size=64))
def test_noise_ends_in_one_error_or_none(noise: bytes, at: int, patch: bytes) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        add(archive, "é" * 80, b"x" * 600)
        add(archive, "b.png", b"y")
    changed = bytearray(content.getvalue()[:4096])
    changed[at : at + len(patch)] = patch
    for data in (bytes(noise), bytes(changed)):
        handle = os.memfd_create("x")
        os.write(handle, data)
        with contextlib.suppress(DataError):
            list(members(handle, 0, len(data)))
        os.close(handle)
