"""Looking at every image: each kind of damage and oddity is found, and named."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnext.data import class_list, native
from resnext.data.checking import Checked, CheckReport, Finding, check
from resnext.data.class_list import ClassList
from resnext.data.decode import MAX_BYTES
from resnext.data.opening import open_parts
from unit.data.pictures import encoded, picture, write_folder, write_parquet
from unit.data.test_tar import shard, write_tar


def outcome(location: Path | str) -> tuple[list[Finding], CheckReport]:
    steps = list(check(open_parts(location), location=Path(location), threads=2))
    report = steps[-1]
    assert isinstance(report, CheckReport)
    findings = [step for step in steps if isinstance(step, Finding)]
    done = [step for step in steps if isinstance(step, Checked)]
    assert done[-1].images == done[-1].total == sum(p.images for p in report.parts.values())
    counts = {kind: [f.kind for f in findings].count(kind) for kind in report.findings}
    assert counts == report.findings
    return findings, report


def photo(*, size: int = 64, quality: int = 90, **options: object) -> bytes:
    noise = np.random.default_rng(5).integers(0, 255, (size, size, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), "JPEG", quality=quality, **options)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return photo(exif=exif)


def deep() -> bytes:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 256
    return encoded(Image.fromarray(values))


def animated() -> bytes:
    return encoded(picture(1), "GIF", save_all=True, append_images=[picture(2)])


def pages() -> bytes:
    return encoded(picture(1), "TIFF", save_all=True, append_images=[picture(2)])


CASES: list[tuple[str, Callable[[], bytes], str, str]] = [
    ("empty.jpg", lambda: b"", "unreadable", "found an empty file|found no bytes"),
    ("text.jpg", lambda: b"<html>not found</html>", "unreadable", "found none of JPEG"),
    ("cut.jpg", lambda: photo()[:-900], "unreadable", "truncated"),
    ("cut.png", lambda: encoded(picture(1))[:-50], "unreadable", "expected an image, found"),
    ("png.JPEG", lambda: encoded(picture(1)), "misnamed", "a PNG file named .jpeg"),
    ("grey.jpg", lambda: encoded(picture(1, mode="L"), "JPEG"), "grey", "mode L instead of RGB"),
    ("cmyk.jpg", lambda: encoded(picture(1).convert("CMYK"), "JPEG"), "CMYK", "mode CMYK"),
    ("palette.png", lambda: encoded(picture(1).quantize(16)), "palette", "mode P"),
    ("alpha.png", lambda: encoded(picture(1).convert("RGBA")), "transparent", "mode RGBA"),
    ("deep.png", deep, "16-bit", "16 bits per pixel"),
    ("moving.gif.png", animated, "animated", "several pictures"),
    ("pages.tiff", pages, "animated", "several pictures"),
    ("rotated.jpg", rotated, "rotated", "EXIF orientation 6"),
    ("huge.png", lambda: encoded(Image.new("RGB", (5000, 4100))), "huge", "5000 x 4100 pixels"),
    ("bomb.png", lambda: encoded(Image.new("1", (9000, 9000))), "unreadable", "9000 x 9000"),
]


@pytest.mark.parametrize(("name", "make", "kind", "detail"), CASES, ids=[c[0] for c in CASES])
def test_each_kind_is_found(
    name: str, make: Callable[[], bytes], kind: str, detail: str, tmp_path: Path
) -> None:
    root = write_folder(tmp_path, {"a": 1, "b": 1})
    (root / "a" / name).write_bytes(make())
    findings, report = outcome(root)
    (found,) = [finding for finding in findings if finding.kind == kind]
    assert found.where == str(root / "a" / name)
    assert any(part in found.detail for part in detail.split("|"))
    assert found.where not in found.detail
    assert report.bad == (kind == "unreadable")
    assert report.parts["all"].classes == {"a": 2, "b": 1}


@pytest.mark.skipif(native.reason() is not None, reason="needs the native loader")
def test_damage_that_pillow_passes_over_is_found(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 1, "b": 1})
    content = bytearray(photo(size=256))
    middle = len(content) // 2
    del content[middle : middle + 512]  # of 63 photos cut so, all were found; Pillow shows them
    (root / "a" / "hole.jpg").write_bytes(content)
    (root / "a" / "whole.jpg").write_bytes(photo(size=256))
    findings, report = outcome(root)
    assert [(f.kind, Path(f.where).name) for f in findings] == [("damaged", "hole.jpg")]
    assert report.bad == 1


def test_duplicates_within_and_between_parts(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": 3, "b": 2})
    write_folder(tmp_path / "val", {"a": 1, "b": 1}, seed=50)
    first = (tmp_path / "train" / "a" / "1.png").read_bytes()
    for copy in ("train/a/2.png", "train/b/0.png", "val/a/0.png"):
        (tmp_path / copy).write_bytes(first)
    findings, report = outcome(tmp_path)
    original = tmp_path / "train" / "a" / "1.png"
    found = {
        str(Path(f.where).relative_to(tmp_path)): f.detail.removeprefix(
            f"the same content as {original}"
        )
        for f in findings
    }
    assert found == {
        "train/a/2.png": "",
        "train/b/0.png": ", of another class",
        "val/a/0.png": ", which is in train",
    }
    assert report.bad == 0
    assert report.findings == {"duplicate": 3}
    assert {name: part.images for name, part in report.parts.items()} == {
        "train": 5,
        "validation": 2,
    }


def test_every_kind_of_source(tmp_path: Path) -> None:
    assert outcome("digits")[1].bad == 0
    broken = encoded(picture(3))[:60]
    contents = [encoded(picture(0)), encoded(picture(0)), broken]
    write_parquet(tmp_path / "x.parquet", contents, [0, 1, 1])
    findings, _ = outcome(tmp_path / "x.parquet")
    assert [(f.kind, f.where) for f in findings] == [
        ("unreadable", "x.parquet row 2"),
        ("duplicate", "x.parquet row 1"),
    ]
    files = shard({1: 0, 2: 1}) | {"000002.png": broken}
    findings, _ = outcome(write_tar(tmp_path / "x.tar", files))
    assert [(f.kind, f.where) for f in findings] == [("unreadable", "x.tar: 000002.png")]


def test_a_file_that_vanishes_is_found(tmp_path: Path) -> None:
    parts = open_parts(write_folder(tmp_path, {"a": 2, "b": 1}))
    (tmp_path / "a" / "1.png").unlink()
    (found,) = [step for step in check(parts) if isinstance(step, Finding)]
    assert (found.kind, Path(found.where).name) == ("unreadable", "1.png")
    assert found.detail == "expected an image, found no such file"


def test_a_pipe_is_found_and_nobody_waits_for_it(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 1, "b": 1})
    pipe = root / "a" / "x.png"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(outcome, root)
        try:
            (found,), report = checked.result(timeout=60)
        finally:
            os.close(os.open(pipe, os.O_RDWR))  # wakes whoever waits all the same
    assert (found.kind, found.where) == ("unreadable", str(pipe))
    assert found.detail == "expected an image, found: no regular file"
    assert report.bad == 1


def test_an_archive_that_is_not_the_indexed_one_is_found(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", shard({1: 0, 2: 1}))
    parts = open_parts(path)
    write_tar(path, shard({1: 0, 2: 1, 3: 1}))
    found = [step for step in check(parts) if isinstance(step, Finding)]
    assert [(f.kind, f.where) for f in found] == [
        ("unreadable", f"x.tar: {number:06d}.png") for number in (1, 2)
    ]
    assert {f.detail for f in found} == {"expected the indexed archive, found another"}


def test_a_file_too_large_for_an_image_is_found_and_not_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 1, "b": 1})
    with (root / "a" / "x.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (found,), _ = outcome(root)
    assert found.kind == "unreadable"
    assert found.detail == "expected at most 256 MiB, found 268435457 bytes"


def test_a_lone_folder_to_score_on(tmp_path: Path) -> None:
    write_folder(tmp_path / "val", {"a": 1, "b": 1})
    assert list(outcome(tmp_path)[1].parts) == ["validation"]


def ignored(location: Path) -> tuple[list[str], int]:
    steps = list(check(open_parts(location), location=location))
    report = steps[-1]
    assert isinstance(report, CheckReport)
    assert report.bad == 0
    found = [step for step in steps if isinstance(step, Finding) and step.kind == "ignored"]
    lines = [f"{step.where}: {step.detail.split(', ')[0]}" for step in found]
    return lines, report.findings.get("ignored", 0)


def test_files_that_are_not_indexed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "train", {"cat": 2, "dog": 2})
    write_folder(tmp_path / "val", {"cat": 1, "dog": 1}, seed=9)
    assert ignored(tmp_path) == ([], 0)
    for name in ("cat/x.gif", "cat/y.JPE", "dog/extensionless", "loose.png", "cat/.hidden"):
        (root / name).write_bytes(encoded(picture(7)))
    (root / "dog" / "inner").mkdir()
    (root / "dog" / "inner" / "x\n.txt").write_text("text")
    (root / "dog" / "linked").symlink_to(root / "cat")
    assert ignored(tmp_path) == ([f"{root}: 6 files such as cat/x.gif"], 6)
    (root / "cat" / "x.gif").unlink()
    (root / "cat" / "y.JPE").unlink()
    assert ignored(tmp_path) == ([f"{root}: 4 files such as dog/linked/"], 4)


def test_members_of_archives_that_are_not_indexed(tmp_path: Path) -> None:
    files = {f"{part}/{name}/0.png": b"" for part in ("train", "val") for name in ("a", "b")}
    files = {name: encoded(picture(seed)) for seed, name in enumerate(files)}
    files |= {"train/a/x.gif": b"x", "val/b/\x1b": b"x", "train/.hidden": b"x"}
    path = write_tar(tmp_path / "x.tar", files)
    assert ignored(path) == ([f"{tmp_path}: 2 files such as x.tar: train/a/x.gif"], 2)
    assert ignored(write_tar(tmp_path / "y.tar", shard({1: 0, 2: 1}))) == ([], 0)


def test_files_above_the_parts_and_a_third_part(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for part in ("train", "val"):
        write_folder(root / part, {"a": 1, "b": 1}, seed=len(part))
    (root / "LOC_val_solution.csv").write_text("answers, which are read")
    (root / ".hidden").write_text("x")
    (root / "devkit").mkdir()
    (root / "devkit" / "readme.txt").write_text("x")
    (root / "empty").mkdir()
    assert ignored(root) == ([], 0)
    write_folder(root / "test", {"a": 2, "b": 1}, seed=20)
    (root / "loose.png").write_bytes(encoded(picture(7)))
    (root / "train.tar.gz").write_bytes(b"x")
    lines = [f"{root / 'test'}: 3 files such as a/0.png", f"{root}: 2 files such as loose.png"]
    assert ignored(root) == (lines, 5)
    assert ignored(root / "train") == ([], 0)


def test_shards_of_a_third_part_and_compressed_ones(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", shard({1: 0, 2: 1}))
    write_tar(tmp_path / "val-0.tar", shard({3: 0, 4: 1}))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert ignored(tmp_path) == ([], 0)
    write_tar(tmp_path / "test-0.tar", shard({5: 0, 6: 1}))
    for ending in ("tar.gz", "tgz", "tar.zst"):
        (tmp_path / f"train-1.{ending}").write_bytes(b"x")
    assert ignored(tmp_path) == ([f"{tmp_path}: 4 files such as test-0.tar"], 4)
    assert ignored(tmp_path / "train-0.tar") == ([], 0)


def test_a_third_part_in_an_archive(tmp_path: Path) -> None:
    names = [f"{part}/{name}/0.png" for part in ("train", "val", "test") for name in ("a", "b")]
    files = {name: encoded(picture(seed)) for seed, name in enumerate(names)}
    path = write_tar(tmp_path / "x.tar", files)
    assert ignored(path) == ([f"{tmp_path}: 2 images such as x.tar: test/a/0.png"], 2)


def test_parquet_files_of_a_third_part(tmp_path: Path) -> None:
    contents = [encoded(picture(number)) for number in range(6)]
    (tmp_path / "data").mkdir()
    for number, part in enumerate(("train", "validation", "test")):
        rows = contents[2 * number : 2 * number + 2]
        write_parquet(tmp_path / "data" / f"{part}-0.parquet", rows, [0, 1])
    assert ignored(tmp_path) == ([f"{tmp_path / 'data'}: 1 file such as test-0.parquet"], 1)


def test_a_list_of_classes_leaves_out_on_purpose(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 1, "b": 1, "c": 1})
    (root / "readme.txt").write_text("x")
    chosen = tmp_path / "list.json"
    names = ClassList(classes=("a", "b"), counts=(1, 1), leading=2, data=str(root), validation=None)
    class_list.write(chosen, names)
    assert ignored(chosen) == ([f"{root}: 1 file such as readme.txt"], 1)
