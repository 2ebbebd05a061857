"""The index of a folder: what it notices, what it survives, and that processes share it."""

import multiprocessing
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resnext.data import folder, index, open_data, open_source, store
from resnext.data.subset import Subset
from resnext.errors import DataError, ResourceError
from unit.data.pictures import encoded, picture, write_folder
from unit.data.synthetic import opening, write_index


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("RESNEXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def trusting(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Small and young folders are trusted as large and old ones are; the folders listed anew."""
    monkeypatch.setattr(index, "SMALL", 0)
    monkeypatch.setattr(index, "_YOUNG", 0)
    listed: list[str] = []
    listing = index._list

    def counted(root: Path, name: str, label: int) -> object:
        listed.append(name)
        return listing(root, name, label)

    monkeypatch.setattr(index, "_list", counted)
    return listed


def paths(root: Path) -> list[str]:
    source = folder.read(root)
    return [str(Path(source.describe(n)).relative_to(root)) for n in range(len(source))]


def settle() -> None:
    time.sleep(0.02)  # more than a tick of the clock of file times


def index_files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*.index"))


def test_an_unchanged_folder_is_not_listed_again(trusting: list[str], tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 3, "b": 2, "c/deep": 1})
    settle()
    first = folder.read(root)
    assert sorted(trusting) == ["a", "b", "c", "c/deep"]
    trusting.clear()
    again = folder.read(root)
    assert trusting == []
    assert again.table.path == first.table.path
    assert again.fingerprint() == first.fingerprint()


def add_file(root: Path) -> list[str]:
    (root / "b" / "new.png").write_bytes(b"x")
    return ["b"]


def remove_file(root: Path) -> list[str]:
    (root / "b" / "1.png").unlink()
    return ["b"]


def rename_file(root: Path) -> list[str]:
    (root / "b" / "1.png").rename(root / "b" / "9.png")
    return ["b"]


def add_below(root: Path) -> list[str]:
    (root / "c" / "deep" / "new.png").write_bytes(b"x")
    return ["c/deep"]


def add_folder_below(root: Path) -> list[str]:
    (root / "c" / "deep" / "deeper").mkdir()
    (root / "c" / "deep" / "deeper" / "x.png").write_bytes(b"x")
    return ["c/deep", "c/deep/deeper"]


def add_class(root: Path) -> list[str]:
    (root / "aa").mkdir()
    (root / "aa" / "0.png").write_bytes(b"x")
    return ["aa"]


def remove_class(root: Path) -> list[str]:
    shutil.rmtree(root / "b")
    return []


def rename_class(root: Path) -> list[str]:
    (root / "b").rename(root / "d")
    return ["d"]


def swap_classes(root: Path) -> list[str]:
    (root / "a").rename(root / "x")
    (root / "b").rename(root / "a")
    (root / "x").rename(root / "b")
    return ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        add_file,
        remove_file,
        rename_file,
        add_below,
        add_folder_below,
        add_class,
        remove_class,
        rename_class,
        swap_classes,
    ],
)
def test_only_what_changed_is_listed_again(
    change: Callable[[Path], list[str]], trusting: list[str], tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "data", {"a": 3, "b": 2, "c/deep": 1})
    settle()
    before = folder.read(root)
    settle()
    trusting.clear()
    expected = change(root)
    settle()
    found = paths(root)
    assert sorted(trusting) == expected
    on_disk = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    assert sorted(found) == on_disk
    labels = [sorted({name.split("/")[0] for name in found}).index(n.split("/")[0]) for n in found]
    assert folder.read(root).labels.tolist() == labels
    assert folder.read(root).fingerprint() != before.fingerprint()
    # The older index goes on to serve whoever has it open.
    assert len(pickle.loads(pickle.dumps(before))) == 6  # noqa: S301 - our own


@pytest.mark.parametrize("parts", [("",), ("train", "val")], ids=["plain", "train and val"])
def test_an_unchanged_set_is_opened_without_a_look_into_its_folders(
    parts: tuple[str, ...],
    trusting: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "data"
    for part in parts:
        write_folder(root / part, {"a": 3, "b": 2})
    settle()
    before = open_data(root)
    looked: list[Path] = []
    for name in ("scandir", "listdir"):
        look = getattr(os, name)
        monkeypatch.setattr(os, name, lambda where, look=look: looked.append(where) or look(where))
    again = open_data(root)
    inside = {Path(where) for where in looked if Path(where).is_relative_to(root)}
    assert inside <= {root, *(root / part for part in parts)}
    assert again.fingerprint == before.fingerprint
    assert folder.known(root, (".tar",))


@pytest.mark.parametrize(
    "place", ["x.tar", "a/x.tar", "more/x.tar", "train/x.tar", "train/a/x.tar", "more/a/x.tar"]
)
def test_an_archive_that_comes_later_is_found(
    place: str, trusting: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    for part in ("train", "val") if place.startswith(("train", "more")) else ("",):
        write_folder(root / part, {"a": 3, "b": 2})
    settle()
    open_data(root)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(bytes(1024))
    settle()
    assert not folder.known(root, (".tar",))
    found = outcome(root)
    monkeypatch.setenv("RESNEXT_CACHE", str(tmp_path / "other"))
    assert found == outcome(root)


def outcome(root: Path) -> str:
    try:
        return open_data(root).fingerprint
    except DataError as error:
        return str(error)


def test_new_content_in_an_old_file_is_noticed_in_a_small_set(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 2, "b": 2})
    time.sleep(2.1)
    before = open_source(root).fingerprint()
    assert open_source(root).fingerprint() == before
    (root / "a" / "0.png").write_bytes(b"longer than before, or shorter")
    assert open_source(root).fingerprint() != before


def test_a_folder_that_changed_just_now_is_listed_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SMALL", 0)
    root = write_folder(tmp_path / "data", {"a": 2, "b": 2})
    folder.read(root)
    states = folder.read(root).table.arrays["states"]
    assert not states.any()


def test_opening_again_writes_nothing(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 2, "b": 2})
    time.sleep(2.1)
    open_data(root)
    files = index_files(cache)
    assert len(files) == 1
    open_data(root)
    assert index_files(cache) == files


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_label(content: bytes) -> bytes:
    at = content.rindex(b"\x01\0\0\0\0\0\0\0")
    return content[:at] + b"\x00" + content[at + 1 :]


def flip_header(content: bytes) -> bytes:
    return content.replace(b'"classes": ["a"', b'"classes": ["z"', 1)


def other_version(content: bytes) -> bytes:
    return b"RXINDEX0" + content[8:]


def nothing(content: bytes) -> bytes:
    return content[:0]


def noise(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(content))


@pytest.mark.parametrize("damage", [cut, flip_label, flip_header, other_version, nothing, noise])
def test_a_damaged_index_is_made_again(
    damage: Callable[[bytes], bytes], trusting: list[str], cache: Path, tmp_path: Path
) -> None:
    root = write_folder(tmp_path / "data", {"a": 3, "b": 2})
    settle()
    source = folder.read(root)
    expected, labels = paths(root), source.labels.tolist()
    fingerprint = source.fingerprint()
    del source
    (file,) = index_files(cache)
    content = file.read_bytes()
    assert damage(content) != content
    file.unlink()  # a mapped file must not shrink
    file.write_bytes(damage(content))
    trusting.clear()
    assert paths(root) == expected
    assert sorted(trusting) == ["a", "b"]
    again = folder.read(root)
    assert again.labels.tolist() == labels
    assert again.fingerprint() == fingerprint


def test_a_source_is_pickled_as_paths(cache: Path, tmp_path: Path) -> None:
    source = open_source(write_folder(tmp_path / "data", {"a": 30, "b": 20}))
    content = pickle.dumps(source)
    assert len(content) < 500
    copy = pickle.loads(content)  # noqa: S301 - our own
    assert copy.describe(49) == source.describe(49)
    np.testing.assert_array_equal(copy.labels, source.labels)
    assert not copy.labels.flags.writeable
    shutil.rmtree(cache)
    with pytest.raises(DataError, match="expected the index file of a data set in use, found none"):
        pickle.loads(content)  # noqa: S301 - our own


def test_a_large_part_is_shared_by_a_file(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnext.data.subset._PLAIN", 3)
    source = open_source(write_folder(tmp_path / "data", {"a": 3, "b": 2}))
    part = Subset(source, np.array([4, 2, 0, 1]))
    copy = pickle.loads(pickle.dumps(part))  # noqa: S301 - our own
    assert copy.labels.tolist() == [1, 0, 0, 0]
    assert copy.fingerprint() == part.fingerprint()
    assert [copy.describe(n) for n in range(4)] == [part.describe(n) for n in range(4)]
    assert len(pickle.dumps(part)) < 1000


@pytest.mark.timeout(60)
def test_several_processes_at_once(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 30, "b": 20})
    with multiprocessing.get_context("forkserver").Pool(3) as pool:
        found = pool.map(folder.read, [root] * 12)
    assert [source.labels.tolist() for source in found] == [[0] * 30 + [1] * 20] * 12
    assert not list(cache.glob("*/.*.part"))


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("RESNEXT_CACHE", str(tmp_path / "file" / "cache"))
    source = open_source(write_folder(tmp_path / "data", {"a": 2, "b": 2}))
    assert pickle.loads(pickle.dumps(source)).labels.tolist() == [0, 0, 1, 1]  # noqa: S301
    monkeypatch.setattr(store, "_private_folder", lambda: tmp_path / "file")
    with pytest.raises(ResourceError, match="expected room for an index file"):
        open_source(tmp_path / "data")


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNEXT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache_folder() == tmp_path / "resnext"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert store.cache_folder() == tmp_path / "home" / ".cache" / "resnext"


def test_an_index_that_nobody_opened_for_long_goes_when_a_newer_one_comes(cache: Path) -> None:
    import os

    arrays = {"x": np.arange(3)}
    old = store.save("k" * 64, {}, arrays).path
    os.utime(old, (0, 0))
    used = store.save("k" * 64, {"n": 1}, arrays).path
    assert not old.exists()
    newer = store.save("k" * 64, {"n": 2}, arrays).path
    assert used.exists()
    found = store.newest("k" * 64)
    assert found is not None
    assert found.path == newer


def test_dangling_links_and_links_to_folders(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 1, "b": 1})
    elsewhere = write_folder(tmp_path / "elsewhere", {"c": 2}) / "c"
    (root / "c").symlink_to(elsewhere)
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "file.png").symlink_to(elsewhere / "0.png")
    (root / "a" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = paths(root)
    assert found == ["a/0.png", "a/file.png", "a/lost.png", "b/0.png", "c/0.png", "c/1.png"]
    np.testing.assert_array_equal(np.asarray(folder.read(root).read(1)), np.asarray(picture(0)))
    with pytest.raises(DataError, match=r"lost\.png: expected an image, found no such file"):
        folder.read(root).read(2)


def test_positions_outside_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(encoded(picture(0)))
    source = folder.read(tmp_path)
    for position in (1, -2):
        with pytest.raises(IndexError):
            source.describe(position)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_200_000_images_open_from_the_index(cache: Path, tmp_path: Path) -> None:
    write_index(tmp_path / "data", 200_000, 100)
    found = opening(tmp_path / "data")
    assert found["images"] == 200_000
    assert found["last"].endswith("data/n00000099/n00000099_01999.JPEG")
    assert found["seconds"] < 1  # measured 0.02
    assert found["pickled"] < 500
    assert found["own"] < 4e6  # measured 0.5e6, of an index of 9e6
    assert found["copies_own"] < 4e6


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("n01440764/a b.JPEG", "n01440764/a b.JPEG"),
        ("Übung 猫 🐈 no\u00a0break", "Übung 猫 🐈 no\u00a0break"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r\t\x7f", "two\\nlines\\r\\t\\x7f"),
        ("\x9b1m \u202e \u200b", "\\x9b1m \\u202e \\u200b"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_names_that_any_terminal_can_show(name: str, shown: str) -> None:
    assert index.printable(name) == shown
