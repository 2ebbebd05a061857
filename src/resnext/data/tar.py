"""Images in tar files, read at random by an index of where each begins.

Three layouts are understood. Shards as webdataset writes them: NAME.jpg beside NAME.cls or
NAME.json with its label. One folder per class: n01440764/x.JPEG, or an inner n01440764.tar, as
ILSVRC and ImageNet-22K are published; folders above that all images share do not count, and train/
and val/ with class folders in them are the parts of the set. ILSVRC's flat validation images, their
answers in a file beside. Nothing in an archive is ever unpacked, unpickled or run.
"""

import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data import folder, ilsvrc, shards, store
from resnext.data.decode import decode
from resnext.data.index import Scanned, last, printable
from resnext.data.shards import Entry
from resnext.data.source import Encoded, Source, check_labels, digest, fetch
from resnext.data.store import Table
from resnext.data.subset import Subset
from resnext.errors import DataError

_YOUNG = 2_000_000_000
"""Nanoseconds: an archive younger than the clock's tick is not trusted, see `index.py`."""

_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Endings of archives in which nothing can be read without all before it."""


CLASS_NAMES = "classes.txt"
"""A file beside the shards with one class name per line, where their labels are numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TarSource:
    """Images in tar files; pickled as the path of the index.

    Attributes:
        root: the folder of the files, absolute.
        table: the index: names, offsets, sizes, file numbers and labels.
        classes: see `Source`.
        labels: see `Source`.
    """

    root: Path
    table: Table
    classes: tuple[str, ...]
    labels: NDArray[np.int64]

    def __reduce__(self) -> tuple[Any, ...]:
        own = None if self.labels is self.table.arrays["labels"] else self.labels
        return _source, (self.root, self.table, self.classes, own)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """See `Source.read`."""
        where = self.describe(index)
        return decode(fetch(self.encoded(index), where), where)

    def encoded(self, index: int) -> Encoded:
        """See `Source.encoded`: a piece of an archive."""
        arrays = self.table.arrays
        shard = int(arrays["shards"][index])
        size, changed = self.table.meta["states"][shard][:2]
        return Encoded(
            path=self.root / self.table.meta["files"][shard],
            offset=int(arrays["offsets"][index]),
            size=int(arrays["sizes"][index]),
            state=(size, changed),
        )

    def describe(self, index: int) -> str:
        """See `Source.describe`: the archive and the name in it."""
        arrays = self.table.arrays
        name = store.text(arrays["names"], arrays["name_starts"], index)
        return printable(f"{self.table.meta['files'][int(arrays['shards'][index])]}: {name}")

    def fingerprint(self) -> str:
        """See `Source.fingerprint`: over names and sizes, not contents."""
        return digest(str(self.table.meta["fingerprint"]), *self.classes, self.labels)


def find(location: Path) -> tuple[Path, ...]:
    """The tar files that a location names: itself, or those in a folder without class folders.

    Raises:
        DataError: a compressed archive, in which nothing can be read without all before it; class
            folders that hold images and archives.
    """
    if location.is_file():
        if location.name.lower().endswith(COMPRESSED):
            raise DataError(f"{location}: expected a plain .tar, found a compressed one; unpack it")
        return (location,) if location.suffix == ".tar" else ()
    inner = sorted(location.glob("*/*.tar"))
    if inner:
        folder.refuse_mixture(location, inner[0])
        return tuple(inner)
    names = [
        entry for entry in location.iterdir() if not entry.name.startswith((".", *ilsvrc.DEVKITS))
    ]
    folders = [entry for entry in names if entry.is_dir()]
    found = () if folders else tuple(sorted(location.glob("*.tar")))
    if not found:
        _refuse_compressed(location, names)
    return found


def _refuse_compressed(location: Path, entries: Sequence[Path]) -> None:
    """Refuse a folder with nothing but compressed archives, or folders of those."""
    folders = [entry for entry in entries if entry.is_dir()]
    if folders and folder.holds_images(location):
        return
    inner = itertools.chain.from_iterable(one.iterdir() for one in folders) if folders else entries
    found = sorted(path for path in inner if path.name.lower().endswith(COMPRESSED))
    if found:
        what = printable(f"{len(found)} compressed ones such as {found[0].relative_to(location)}")
        raise DataError(f"{location}: expected plain .tar files, found {what}; unpack them")


def read(files: Sequence[Path], root: Path) -> TarSource:
    """All images of these files as one source; `root` is what the user named.

    Raises:
        DataError: a damaged archive, members to refuse (see `shards.BadArchiveError`), no images.
    """
    return _named(root, last(scan(files, root)), None)


def ignored(source: TarSource) -> Iterator[str]:
    """What is in the archives of a source and is neither an image nor a label."""
    for name in source.table.meta["files"]:
        yield from (f"{name}: {inner}" for inner in shards.ignored(source.root / name))


def read_parts(files: Sequence[Path], root: Path) -> tuple[Source, Source | None]:
    """The images to train on and those to score on, the latter None if no name speaks of them.

    The names are those of the files, else those of the folders in them.

    Raises:
        DataError: as `read`; names of which only some speak of a split; nothing to train on.
    """
    splits = _splits(files, root)
    validation = splits.get("val") or splits.get("test")
    if not validation:
        return _parts_within(read(files, root), root)
    if None in splits or "train" not in splits:
        odd = splits.get(None, validation)[0]
        raise DataError(
            f"{root}: expected file names that speak of train, val or test, train among them;"
            f" found {odd.relative_to(root)} ({len(files)} files)"
        )
    tables = [last(scan(part, root)) for part in (splits["train"], validation)]
    if all(table.meta["classes"] is None for table in tables):
        classes = _class_names(root, tables)
        return _source(root, tables[0], classes, None), _source(root, tables[1], classes, None)
    train = _named(root, tables[0], None)
    return train, _named(root, tables[1], train.classes)


def _parts_within(source: TarSource, root: Path) -> tuple[Source, Source | None]:
    """The parts that folders in the archives name; the whole and None where they name none."""
    inside = _inside(source)
    kept = _kept(inside)
    if kept is None:
        return source, None
    if "train" not in inside:
        raise DataError(f"{root}: expected train/ beside {', '.join(inside)}, found none")
    return _part(source, inside["train"]), _part(source, kept)


def _inside(source: TarSource) -> dict[str, int]:
    """The parts that folders in the archives name, and their numbers."""
    numbers = np.unique(source.table.arrays["splits"]).tolist()
    return {shards.SPLITS[number]: number for number in numbers if number >= 0}


def _kept(inside: dict[str, int]) -> int | None:
    return next((number for name, number in inside.items() if name != "train"), None)


def _part(source: TarSource, split: int) -> Subset:
    """One part, with its own classes, so that another part's must be the same."""
    rows = np.flatnonzero(source.table.arrays["splits"] == split)
    present = np.unique(source.labels[rows])
    numbers = np.full(len(source.classes), -1, dtype=np.int64)
    numbers[present] = np.arange(len(present))
    return Subset(source, rows, tuple(source.classes[label] for label in present), numbers)


def read_validation(files: Sequence[Path], root: Path) -> Source | None:
    """The images to score on, with or without files to train on; None if no name speaks of them.

    Raises:
        DataError: as `read`.
    """
    splits = _splits(files, root)
    validation = splits.get("val") or splits.get("test")
    if not validation:
        source = read(files, root)
        kept = _kept(_inside(source))
        return None if kept is None else _part(source, kept)
    return read_parts(files, root)[1] if "train" in splits else read(validation, root)


def scan(files: Sequence[Path], root: Path, *, rescan: bool = False) -> Iterator[Scanned | Table]:
    """The steps of indexing these files, the index last; raises as `read`."""
    base = _folder(root)
    names = [str(file.relative_to(base)) for file in files]
    key = store.key("tar 2", str(base.absolute()), *names)
    limit = time.time_ns() - _YOUNG
    states = [_state(file) for file in files]
    young = any(max(times) > limit for _, *times, _ in states)
    known = None if rescan else store.newest(key)
    if known is not None and known.meta["states"] == states and not known.meta["young"]:
        yield known
        return
    entries: list[Entry] = []
    problems: list[str] = []
    for number, file in enumerate(files):
        images, more = shards.entries(file, names[number], number)
        entries += images
        problems += more
        yield Scanned(folders=number + 1, total=len(files), images=len(entries))
    entries, more = shards.by_folder(entries, names)
    problems += more
    if problems:
        raise shards.BadArchiveError(str(root), problems)
    if not entries:
        raise DataError(f"{root}: expected images in tar files, found none")
    yield _write(key, root, {"files": names, "states": states, "young": young}, entries)


def _state(file: Path) -> list[int]:
    """Size, times and inode."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _write(key: str, root: Path, meta: dict[str, Any], entries: list[Entry]) -> Table:
    """Store the entries; `classes` are their names, or None where labels are numbers."""
    kinds = {type(entry.label) for entry in entries}
    if len(kinds) > 1:
        raise DataError(f"{root}: expected labels of one kind, found numbers, names or none mixed")
    (kind,) = kinds
    classes: list[str] | None = None
    if kind is str:  # in the order of a folder of class folders
        entries = sorted(entries, key=_place)
        classes = sorted({str(entry.label) for entry in entries})
    numbers = {name: number for number, name in enumerate(classes or ())}
    labels = [
        entry.label if isinstance(entry.label, int) else numbers.get(str(entry.label), -1)
        for entry in entries
    ]
    names, name_starts = store.pack(os.fsencode(entry.name) for entry in entries)
    content: dict[str, NDArray[Any]] = {
        "names": names,
        "name_starts": name_starts,
        "shards": np.array([entry.shard for entry in entries], dtype=np.int64),
        "sizes": np.array([entry.size for entry in entries], dtype=np.int64),
        "labels": np.array(labels, dtype=np.int64),
    }
    splits = np.array([entry.split for entry in entries], dtype=np.int64)
    offsets = np.array([entry.offset for entry in entries], dtype=np.int64)
    meta |= {
        "location": str(root),
        "classes": classes,
        "flat": kind is type(None),
        "fingerprint": digest(*meta["files"], *content.values()),
    }
    return store.save(key, meta, {**content, "offsets": offsets, "splits": splits})


def _place(entry: Entry) -> tuple[str, str, str]:
    above, _, base = entry.name.rpartition("/")
    return str(entry.label), above, base


def _named(root: Path, table: Table, classes: tuple[str, ...] | None) -> TarSource:
    """A source with the class names that its own archive gives; `classes` are those of train."""
    if table.meta["flat"]:
        truth = ilsvrc.ground_truth(_folder(root))
        names = [name.rpartition("/")[2] for name in _names(table)]
        known = classes or truth.classes
        return _source(root, table, known, truth.labels(names, known))
    if table.meta["classes"] is None:
        return _source(root, table, _class_names(root, [table]), None)
    return _source(root, table, tuple(printable(name) for name in table.meta["classes"]), None)


def _names(table: Table) -> list[str]:
    starts = table.arrays["name_starts"]
    return [store.text(table.arrays["names"], starts, row) for row in range(len(starts) - 1)]


def _class_names(root: Path, tables: Sequence[Table]) -> tuple[str, ...]:
    """What stands in `CLASS_NAMES` beside the archives, else "0", "1", ... to the highest label."""
    path = _folder(root) / CLASS_NAMES
    if path.is_file():
        lines = path.read_text(encoding="utf-8-sig", errors="backslashreplace").splitlines()
        return tuple(printable(line.strip()) for line in lines if line.strip())
    highest = max(int(table.arrays["labels"].max()) for table in tables)
    images = sum(len(table.arrays["labels"]) for table in tables)
    if highest >= images:
        raise DataError(
            f"{root}: expected labels below the number of images ({images}), since there are no"
            f" class names, found {highest}; {path} can name the classes, one per line"
        )
    return tuple(str(number) for number in range(highest + 1))


def _source(
    root: Path, table: Table, classes: tuple[str, ...], labels: NDArray[np.int64] | None
) -> TarSource:
    labels = table.arrays["labels"] if labels is None else labels
    check_labels(labels, classes, str(root))
    return TarSource(root=_folder(root).absolute(), table=table, classes=classes, labels=labels)


def _folder(root: Path) -> Path:
    return root if root.is_dir() else root.parent


def parts(files: Sequence[Path], root: Path) -> list[list[Path]]:
    """The files of each part that is opened: to train on and to score on, or all."""
    splits = _splits(files, root)
    kept = splits.get("val") or splits.get("test")
    if kept is None:
        return [list(files)]
    return [splits["train"], kept] if "train" in splits else [kept]


def trains(files: Sequence[Path], root: Path) -> bool:
    """Whether any of the files, or else a folder in them, is named as one to train on."""
    splits = _splits(files, root)
    if "train" in splits or "val" in splits or "test" in splits:
        return "train" in splits
    return "train" in _inside(read(files, root))


def _splits(files: Sequence[Path], root: Path) -> dict[str | None, list[Path]]:
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        name = file.relative_to(_folder(root))
        splits.setdefault(_split_of(name), []).append(file)
    return splits


def _split_of(name: Path) -> str | None:
    """By a word in the file's name, as in imagenet1k-train-0000.tar, or in its folder's."""
    for part in reversed(name.parts):
        words = re.split(r"[^a-z]+", part.lower())
        for split, spellings in _SPLITS.items():
            if any(word in spellings for word in words):
                return split
    return None
