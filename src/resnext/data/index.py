"""Which image files lie in a folder of class folders: found by threads, kept in an index file.

A folder is listed again only if it changed since: its times and its inode tell. Two things they do
not tell: a change within the clock's tick (so a folder younger than two seconds is not trusted),
and new content in an old file (so of small sets every file is looked at each time; a large set
keeps the sizes that it was indexed with until its folder changes or `resnext data index --rescan`).
"""

import itertools
import os
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnext.data import store
from resnext.data.decode import EXTENSIONS
from resnext.data.source import digest
from resnext.data.store import Table
from resnext.errors import DataError

SMALL = 10_000
"""Up to so many images are listed anew each time: that takes 0.1 s and notices everything."""

_THREADS = 8
_YOUNG = 2_000_000_000
"""In nanoseconds; the coarsest clock of a file system in use (FAT)."""

State = tuple[int, int, int]
"""A folder's times of modification and of status change, and its inode; zeros match nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """How far a scan has come: class folders done, of how many, and images found in them."""

    folders: int
    total: int
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The image files directly in one folder.

    Attributes:
        folder: path relative to the root.
        label: its class.
        state: of the folder before it was listed.
        names: file names, sorted, without anything between them.
        lengths: bytes of each name.
        sizes: bytes of each file; -1 for a dangling link.
    """

    folder: str
    label: int
    state: State
    names: bytes
    lengths: NDArray[np.int64]
    sizes: NDArray[np.int64]


def scan(root: Path, classes: Sequence[str], *, rescan: bool = False) -> Iterator[Scanned | Table]:
    """List the image files of these class folders, at any depth; the index comes last.

    Images are in the order of torchvision's ImageFolder. With `rescan`, nothing known is trusted.

    Raises:
        DataError: a folder that cannot be listed, or a class without images.
    """
    name = store.key("folder", str(root))
    known = None if rescan else _trusted(store.newest(name))
    if known is not None and _unchanged(root, classes, known):
        yield known
        return
    prior = _Prior(known)
    found: list[Listing] = []
    images = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        listed = pool.map(partial(_class, root, prior), range(len(classes)), classes)
        for number, listings in enumerate(listed, 1):
            found += listings
            images += sum(len(listing.sizes) for listing in listings)
            yield Scanned(folders=number, total=len(classes), images=images)
    yield write(root, classes, found)


def current(root: Path, classes: Sequence[str]) -> Table:
    """The index of these class folders as they are now; raises as `scan`."""
    return last(scan(root, classes))


def is_current(root: Path, classes: Sequence[str]) -> bool:
    """Whether there is an index of these class folders as they are now."""
    known = _trusted(store.unverified(store.key("folder", str(root))))
    return known is not None and _unchanged(root, classes, known)


def last(steps: Iterable[Any]) -> Table:
    """Pull a scan to its end."""
    for step in steps:
        if isinstance(step, Table):
            return step
    raise AssertionError("a scan ends with its index")


def flat(root: Path) -> Table:
    """The index of the image files directly in a folder, which have no class by their place."""
    listing, _ = _list(root, "", 0)
    return write(root, (), [listing], kind="flat")


def write(
    root: Path, classes: Sequence[str], listings: Sequence[Listing], *, kind: str = "folder"
) -> Table:
    """Store listings, in the order of their images, as the index of a folder."""
    folders, folder_starts = store.pack(os.fsencode(listing.folder) for listing in listings)
    counts = np.array([len(listing.sizes) for listing in listings], dtype=np.int64)
    labels = np.array([listing.label for listing in listings], dtype=np.int64)
    content: dict[str, NDArray[Any]] = {
        "folders": folders,
        "folder_starts": folder_starts,
        "starts": store.offsets(counts),
        "names": store.joined(b"".join(listing.names for listing in listings)),
        "name_starts": store.offsets(_concatenated(listing.lengths for listing in listings)),
        "sizes": _concatenated(listing.sizes for listing in listings),
        "labels": np.repeat(labels, counts),
    }
    meta = {
        "location": str(root),
        "classes": list(classes),
        "fingerprint": digest(*classes, *content.values()),
    }
    states = np.array([listing.state for listing in listings], dtype=np.int64).reshape(-1)
    return store.save(store.key(kind, str(root)), meta, {**content, "states": states})


def path(table: Table, index: int) -> str:
    """The path of an image, relative to the root."""
    arrays = table.arrays
    number = int(np.searchsorted(arrays["starts"], index, side="right")) - 1
    folder = store.text(arrays["folders"], arrays["folder_starts"], number)
    name = store.text(arrays["names"], arrays["name_starts"], index)
    return f"{folder}/{name}" if folder else name


def folder_names(table: Table) -> list[str]:
    """The listed folders, relative to the root."""
    starts = table.arrays["folder_starts"].tolist()
    blob = table.arrays["folders"].tobytes()
    return [os.fsdecode(blob[a:b]) for a, b in itertools.pairwise(starts)]


class _Prior:
    """What an earlier index knows of a folder, by its relative path."""

    def __init__(self, table: Table | None) -> None:
        self._table = table
        self._numbers: dict[str, int] = {}
        self._inside: dict[str, list[str]] = {}
        if table is not None:
            for number, name in enumerate(folder_names(table)):
                self._numbers[name] = number
                self._inside.setdefault(name.rpartition("/")[0], []).append(name)

    def listing(self, folder: str, label: int, state: State) -> tuple[Listing, list[str]] | None:
        """The folder's listing and its inner folders, if it is in the same state as then."""
        number = self._numbers.get(folder)
        if number is None or self._table is None:
            return None
        arrays = self._table.arrays
        if state == (0, 0, 0) or tuple(arrays["states"][3 * number : 3 * number + 3]) != state:
            return None
        first, end = int(arrays["starts"][number]), int(arrays["starts"][number + 1])
        bounds = arrays["name_starts"][first : end + 1]
        listing = Listing(
            folder=folder,
            label=label,
            state=state,
            names=arrays["names"][int(bounds[0]) : int(bounds[-1])].tobytes(),
            lengths=np.diff(bounds),
            sizes=arrays["sizes"][first:end],
        )
        return listing, self._inside.get(folder, [])


def _trusted(table: Table | None) -> Table | None:
    return table if table is not None and len(table.arrays["sizes"]) > SMALL else None


def _unchanged(root: Path, classes: Sequence[str], known: Table) -> bool:
    """Whether every listed folder is as it was, and no class came or went."""
    if list(classes) != known.meta["classes"]:
        return False
    names = folder_names(known)
    parts = [names[at : at + 1024] for at in range(0, len(names), 1024)]
    with ThreadPoolExecutor(_THREADS) as pool:
        # Texts: to make a Path takes longer than to ask for its state.
        states = pool.map(lambda part: [_state(f"{root}/{name}") for name in part], parts)
        now = [state for part in states for state in part]
    stored = known.arrays["states"].reshape(-1, 3)
    return (0, 0, 0) not in now and bool((np.array(now, dtype=np.int64) == stored).all())


def _class(root: Path, prior: _Prior, label: int, name: str) -> list[Listing]:
    """All folders of one class."""
    found: list[Listing] = []
    waiting = [name]
    while waiting:
        folder = waiting.pop()
        listing, inside = prior.listing(folder, label, _state(root / folder)) or _list(
            root, folder, label
        )
        found.append(listing)
        waiting += inside
    if not any(len(listing.sizes) for listing in found):
        raise DataError(f"{printable(str(root / name))}: {_no_images(root / name)}")
    return sorted(found, key=lambda listing: listing.folder)


def _list(root: Path, folder: str, label: int) -> tuple[Listing, list[str]]:
    """A folder's images and inner folders; links to folders are not followed."""
    inside: list[str] = []
    files: list[tuple[str, int]] = []
    try:
        state = _state(root / folder)
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if not entry.is_symlink():
                        inside.append(f"{folder}/{entry.name}")
                elif entry.name.lower().endswith(EXTENSIONS):
                    files.append((entry.name, _size(entry)))
    except OSError as error:
        where = printable(str(root / folder))
        raise DataError(f"{where}: expected a folder to read, found: {error.strerror}") from error
    files.sort()
    names = [os.fsencode(name) for name, _ in files]
    listing = Listing(
        folder=folder,
        label=label,
        state=state,
        names=b"".join(names),
        lengths=np.fromiter(map(len, names), np.int64, len(names)),
        sizes=np.fromiter((size for _, size in files), np.int64, len(files)),
    )
    return listing, inside


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return -1


def _state(folder: Path | str) -> State:
    """Zeros where the folder changed so lately that it may change again within the same tick."""
    now = time.time_ns()
    try:
        found = os.stat(folder)  # noqa: PTH116 - of a text too
    except OSError:
        return 0, 0, 0
    young = max(found.st_mtime_ns, found.st_ctime_ns) > now - _YOUNG
    return (0, 0, 0) if young else (found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _no_images(folder: Path) -> str:
    others = sorted(entry.name for entry in folder.iterdir())
    found = f"{len(others)} other entries such as {others[0]}" if others else "an empty folder"
    return f"expected images ({', '.join(EXTENSIONS)}) of this class, found {printable(found)}"


def printable(name: str) -> str:
    """A name that any terminal and any JSON file can hold, on one line.

    Spelled out are bytes outside UTF-8 and Unicode's category C: control and invisible characters.
    """
    if name.isascii() and name.isprintable():
        return name
    return "".join(map(_spelled, name))


def _spelled(character: str) -> str:
    if not unicodedata.category(character).startswith("C"):
        return character
    if "\udc80" <= character <= "\udcff":  # a byte outside UTF-8, see os.fsdecode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _concatenated(arrays: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *arrays])
