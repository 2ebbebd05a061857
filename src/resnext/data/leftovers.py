"""What lies where a data set is, and is in no part of it: what a user may miss."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnext.data import class_list, folder, ilsvrc, tar
from resnext.data.folder import FolderSource
from resnext.data.index import printable
from resnext.data.parquet import ParquetSource
from resnext.data.source import Source
from resnext.data.subset import Subset
from resnext.data.tar import TarSource

_COMPANIONS = (*ilsvrc.COMPANIONS, tar.CLASS_NAMES)
"""Files that are read beside the images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Files, or images in archives.

    Attributes:
        where: the folder or the archive.
        number: how many there are.
        detail: in words.
    """

    where: str
    number: int
    detail: str


def leftovers(parts: Iterable[Source], location: Path | None) -> Iterator[Leftover]:
    """What is in no part, place by place; without a location only what is below the sources."""
    indexed: dict[Path, list[Source]] = {}
    used: set[Path] = set()
    for part in parts:
        source = _whole(part)
        used |= _files(source)
        if isinstance(source, FolderSource | TarSource):
            indexed.setdefault(source.table.path, []).append(part)
    for sharing in indexed.values():
        yield from _not_indexed(_whole(sharing[0]))
    if location is None or class_list.find(location):  # a list leaves classes out on purpose
        return
    for sharing in indexed.values():
        yield from _in_archives(sharing)
    top = ilsvrc.home(location).absolute()
    if used and top not in used and top.is_dir():
        yield from _beside(top, used, {above for path in used for above in path.parents})


def _whole(part: Source) -> Source:
    while isinstance(part, Subset):
        part = part.whole
    return part


def _files(source: Source) -> set[Path]:
    """What a source reads: its files, or the folder of its class folders."""
    match source:
        case FolderSource():
            return {source.root}
        case TarSource():
            return {source.root / name for name in source.table.meta["files"]}
        case ParquetSource():
            return {shard.path.absolute() for shard in source.shards}
        case _:  # pixels in memory
            return set()


def _not_indexed(source: Source) -> Iterator[Leftover]:
    """Files among the images."""
    assert isinstance(source, FolderSource | TarSource)
    names = folder.ignored(source) if isinstance(source, FolderSource) else tar.ignored(source)
    yield from _counted(source.root, names, "file", "not taken for images")


def _in_archives(sharing: Sequence[Source]) -> Iterator[Leftover]:
    """Images whose folder in the archive names a part that is not used."""
    source = _whole(sharing[0])
    left = np.ones(len(source), dtype=np.bool_)
    for part in sharing:
        left[part.indices if isinstance(part, Subset) else slice(None)] = False
    rows = np.flatnonzero(left).tolist()
    if rows:
        assert isinstance(source, FolderSource | TarSource)
        names = map(source.describe, rows)
        yield from _counted(source.root, names, "image", "in no part")


def _beside(top: Path, used: set[Path], above: set[Path]) -> Iterator[Leftover]:
    """Files and folders beside those that are used, at any level above them."""
    files: list[str] = []
    for path in sorted(top.iterdir()):
        if path in used or path.name.startswith((".", *ilsvrc.DEVKITS)):
            continue
        if path in above:
            yield from _beside(path, used, above)
        elif path.is_dir():
            yield from _counted(path, _below(path), "file", "in no part")
        elif path.name not in _COMPANIONS:
            files.append(path.name)
    yield from _counted(top, iter(files), "file", "in no part")


def _below(root: Path) -> Iterator[str]:
    for above, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = sorted(name for name in files if not name.startswith("."))
        yield from (str((Path(above) / name).relative_to(root)) for name in visible)


def _counted(where: Path, names: Iterator[str], what: str, why: str) -> Iterator[Leftover]:
    """The names as one leftover, if there are any."""
    first = next(names, None)
    if first is not None:
        number = 1 + sum(1 for _ in names)
        what += "" if number == 1 else "s"
        detail = f"{number:,} {what} such as {printable(first)}, {why}"
        yield Leftover(where=printable(str(where)), number=number, detail=detail)
