"""Index files: named arrays in one file, written once, mapped into memory by every process.

They lie in the user's cache folder, since a data folder may be read-only. A file never changes
under its name: a newer index of the same data is another file, so a run that goes on for weeks
keeps the one that it began with. What is damaged, or of another version, counts as not there.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import mmap
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnext.errors import DataError, ResourceError

_MAGIC = b"RXINDEX1"
"""The format and its version: the first 8 bytes; then the header's length and CRC-32, 8 bytes."""

_ALIGNMENT = 64
_KEPT_SECONDS = 30 * 86400
"""How long an index that has a successor is kept after it was last opened."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A mapped index file; pickled as its path.

    Attributes:
        path: the file.
        checksum: CRC-32 of everything in it.
        meta: what is not an array, as JSON holds it.
        arrays: read-only, backed by the file.
    """

    path: Path
    checksum: int
    meta: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    def __reduce__(self) -> tuple[Any, ...]:
        return mapped, (self.path,)


def key(kind: str, *parts: str) -> str:
    """The name under which all indexes of one thing are kept, such as of a folder and its path."""
    return hashlib.sha256("\0".join((kind, *parts)).encode(errors="surrogateescape")).hexdigest()


def newest(name: str) -> Table | None:
    """The index written last under a key, every byte verified; None if there is none to trust."""
    path = _newest(name)
    return None if path is None else _verified(path)


def unverified(name: str) -> Table | None:
    """The same, of which only the header was verified: for questions that are asked again."""
    path = _newest(name)
    return None if path is None else _open(path)


def _newest(name: str) -> Path | None:
    folder = cache_folder()
    files = _files(folder / name[:32]) if folder else []
    return files[-1] if files else None


def save(name: str, meta: Mapping[str, Any], arrays: Arrays) -> Table:
    """Write an index under a key, unless the newest one there is the same, and map it.

    Raises:
        ResourceError: neither the cache folder nor the temporary folder takes it.
    """
    header, checksum = _header(meta, arrays)
    failure: OSError | None = None
    for choose in (cache_folder, _private_folder):
        try:
            folder = choose()
            if folder is not None:
                return mapped(_publish(folder / name[:32], header, checksum, arrays))
        except OSError as error:
            failure = error
    raise ResourceError(
        f"{cache_folder()}: expected room for an index file here or in the temporary folder,"
        f" found: {failure}; RESNEXT_CACHE may name another folder"
    )


def mapped(path: Path) -> Table:
    """An index file by its path, taken as it is: it was verified by whoever hands out the path.

    Raises:
        DataError: the file is gone.
    """
    table = _open(path)
    if table is None:
        raise DataError(
            f"{path}: expected the index file of a data set in use, found none; restart"
        )
    with contextlib.suppress(OSError):
        os.utime(path)  # still in use: see _KEPT_SECONDS
    return table


def pack(names: Iterable[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Texts as one array of bytes, and where each begins, with the end."""
    parts = list(names)
    return joined(b"".join(parts)), offsets(np.fromiter(map(len, parts), np.int64, len(parts)))


def joined(content: bytes) -> NDArray[np.uint8]:
    """Bytes as an array."""
    return np.frombuffer(content, dtype=np.uint8)


def offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lengths -> where each piece begins, with the end."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def text(blob: NDArray[np.uint8], starts: NDArray[np.int64], index: int) -> str:
    """The packed text at a position, as a file name."""
    return os.fsdecode(blob[int(starts[index]) : int(starts[index + 1])].tobytes())


def cache_folder() -> Path | None:
    """RESNEXT_CACHE, or resnext/ in the user's cache folder; None for a user without a home."""
    chosen = os.environ.get("RESNEXT_CACHE")
    if chosen:
        return Path(chosen).absolute()
    standard = os.environ.get("XDG_CACHE_HOME", "")
    if Path(standard).is_absolute():
        return Path(standard) / "resnext"
    try:
        return Path.home() / ".cache" / "resnext"
    except RuntimeError:
        return None


@functools.cache
def _private_folder() -> Path:
    """Where indexes go if the cache folder is not to be written: gone when this process ends."""
    folder = tempfile.mkdtemp(prefix="resnext-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _files(folder: Path) -> list[Path]:
    """Index files of one key, the oldest first: their names begin with a running number."""
    return sorted(folder.glob("*.index"))


def _header(meta: Mapping[str, Any], arrays: Arrays) -> tuple[bytes, int]:
    """The file up to its first array, and the checksum of the whole."""
    places: dict[str, tuple[str, int, int]] = {}
    position, checksum = 0, 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, array.size, position)
        position += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        checksum = zlib.crc32(_bytes(array), checksum)
    stored = {"meta": dict(meta), "arrays": places, "bytes": position, "crc32": checksum}
    content = json.dumps(stored).encode()
    content += b" " * (-(len(content) + 16) % _ALIGNMENT)
    own = zlib.crc32(content)
    head = _MAGIC + len(content).to_bytes(4, "little") + own.to_bytes(4, "little")
    return head + content, own


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _publish(folder: Path, header: bytes, checksum: int, arrays: Arrays) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = _files(folder)
    if files and files[-1].stem.endswith(f"{checksum:08x}") and _verified(files[-1]):
        return files[-1]
    number = int(files[-1].stem.split("-")[0]) + 1 if files else 1
    target = folder / f"{number:08d}-{checksum:08x}.index"
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header)
            for array in arrays.values():
                file.write(_bytes(array))
                file.write(b"\0" * (-array.nbytes % _ALIGNMENT))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _prune(folder, keep=target)
    return target


def _prune(folder: Path, *, keep: Path) -> None:
    """Remove what nobody opened for long, and what a killed process left behind."""
    limit = time.time() - _KEPT_SECONDS
    for path in (*folder.glob("*.index"), *folder.glob(".*.part")):
        with contextlib.suppress(OSError):
            if path != keep and path.stat().st_mtime < limit:
                path.unlink()


def _verified(path: Path) -> Table | None:
    table = _open(path)
    if table is None:
        return None
    checksum = 0
    for array in table.arrays.values():
        checksum = zlib.crc32(_bytes(array), checksum)
    return table if checksum == table.meta["crc32"] else None


def _open(path: Path) -> Table | None:
    """The mapped file, its header verified; None for anything else."""
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length, own = (int.from_bytes(content[at : at + 4], "little") for at in (8, 12))
        begin = 16 + length
        if content[:8] != _MAGIC or zlib.crc32(content[16:begin]) != own:
            return None
        stored = json.loads(content[16:begin])
        if len(content) != begin + stored["bytes"]:
            return None
        arrays = {
            name: np.frombuffer(content, dtype=np.dtype(kind), count=count, offset=begin + offset)
            for name, (kind, count, offset) in stored["arrays"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Table(path, own, {**stored["meta"], "crc32": stored["crc32"]}, arrays)
