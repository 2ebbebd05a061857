"""Parquet files of image bytes and labels, as the datasets hub lays them out.

Random access goes by row group, the smallest piece that can be read alone. Row groups stay in
memory up to a budget, so CIFAR is read once; a shuffled set far above the budget reads a whole row
group for most images and is slow.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data import folder
from resnext.data.decode import decode
from resnext.data.index import printable
from resnext.data.source import Encoded, check_labels, digest
from resnext.errors import DataError

CACHE_BYTES = 256 * 2**20
"""What one process keeps of the image bytes; at least one row group, however large."""

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """One file, opened anew for every read: nothing of it stays open, so it can be pickled.

    Attributes:
        path: absolute.
        name: for messages and the fingerprint; relative to the folder that the user named.
        image: path of the column of bytes: "img.bytes" inside a struct, or "img".
        group_rows: rows of each row group.
        footer: SHA-256 of the footer, which holds sizes and statistics of every column.
    """

    path: Path
    name: str
    image: str
    group_rows: tuple[int, ...]
    footer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """What opening a file tells; `names` are the class names, None where none are stored."""

    shard: _Shard
    labels: NDArray[np.int64]
    names: tuple[str, ...] | None


class _Cache:
    """The row groups used last, up to `CACHE_BYTES`; arrives empty in another process.

    Threads share it: whoever misses a group loads it while the others wait, so each is loaded once.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["_Cache"], tuple[()]]:
        return _Cache, ()

    def get(self, number: int, load: Callable[[], Any]) -> Any:
        """Row group `number`, loaded if it is not here."""
        with self._lock:
            if number not in self._groups:
                self._groups[number] = load()
                while len(self._groups) > 1 and self.nbytes > CACHE_BYTES:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(number)
            return self._groups[number]

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return sum(rows.nbytes for rows in self._groups.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSource:
    """Images in parquet files, read on demand.

    Attributes:
        shards: the files.
        classes: see `Source`.
        labels: see `Source`.
        groups: for every row group of all files, the number of its file and its number there.
        starts: the first image of each row group, and the end.
    """

    shards: tuple[_Shard, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[tuple[int, int], ...]
    starts: NDArray[np.int64]
    _cache: _Cache = field(default_factory=_Cache)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """See `Source.read`."""
        return decode(self._bytes(index), self.describe(index))

    def encoded(self, index: int) -> Encoded:
        """See `Source.encoded`: in memory, since the columns are compressed."""
        return Encoded(data=self._bytes(index))

    def describe(self, index: int) -> str:
        """See `Source.describe`: the file, and the row counted from 0."""
        number = self._group_of(index)
        shard, inner = self.groups[number]
        row = index - int(self.starts[number - inner])
        return f"{self.shards[shard].name} row {row}"

    def fingerprint(self) -> str:
        """See `Source.fingerprint`: over names, labels and footers, not over the image bytes."""
        parts = [part for shard in self.shards for part in (shard.name, shard.footer)]
        return digest(*self.classes, self.labels, *parts)

    def _bytes(self, index: int) -> bytes:
        number = self._group_of(index)
        rows = self._cache.get(number, lambda: self._load(number))
        content: bytes | None = rows[index - int(self.starts[number])].as_py()
        if content is None:
            raise DataError(f"{self.describe(index)}: expected image bytes, found none")
        return content

    def _group_of(self, index: int) -> int:
        return int(np.searchsorted(self.starts, index, side="right")) - 1

    def _load(self, number: int) -> Any:
        """A row group's image bytes, as an Arrow column of binary values."""
        which, inner = self.groups[number]
        shard = self.shards[which]
        table = _with_file(
            shard.path,
            lambda file: file.read_row_group(inner, columns=[shard.image], use_threads=False),
        )
        return table.flatten().column(0)


def find(location: Path) -> tuple[Path, ...]:
    """The parquet files that a location names: itself, or those up to two folders below it.

    Raises:
        DataError: class folders of images beside them.
    """
    if location.is_file():
        return (location,) if location.suffix == ".parquet" else ()
    for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet"):
        found = sorted(location.glob(pattern))
        if found:
            folder.refuse_mixture(location, found[0])
            return tuple(found)
    return ()


def read(files: Sequence[Path], root: Path) -> ParquetSource:
    """All rows of these files as one source; `root` is what the user named.

    Raises:
        DataError: a file that is not parquet, without images or labels, or with a bad label.
    """
    scans = [_scan(file, root) for file in files]
    return _source(scans, _named(scans))


def read_parts(files: Sequence[Path], root: Path) -> tuple[ParquetSource, ParquetSource | None]:
    """The rows to train on and those to score on, the latter None if no name speaks of them.

    A split is named by how its files' names, or those of their folders, begin: train, val, test.
    Where there are both, val is preferred to test, whose labels are often withheld.

    Raises:
        DataError: as `read`; names of which only some speak of a split; nothing to train on.
    """
    splits = _splits(files, root)
    validation = splits.get("val") or splits.get("test")
    if not validation:
        return read(files, root), None
    if None in splits or "train" not in splits:
        odd = splits.get(None, validation)[0]
        raise DataError(
            f"{root}: expected file names that begin with train, val or test, train among them;"
            f" found {odd.relative_to(root)} ({len(files)} files)"
        )
    train_scans = [_scan(file, root) for file in splits["train"]]
    validation_scans = [_scan(file, root) for file in validation]
    return _sources(train_scans, validation_scans)


def read_validation(files: Sequence[Path], root: Path) -> ParquetSource | None:
    """The rows to score on, with or without files to train on; None if no name speaks of them.

    Raises:
        DataError: as `read`.
    """
    splits = _splits(files, root)
    validation = splits.get("val") or splits.get("test")
    if not validation:
        return None
    return read_parts(files, root)[1] if "train" in splits else read(validation, root)


def trains(files: Sequence[Path], root: Path) -> bool:
    """Whether any of the files is named as one to train on."""
    return "train" in _splits(files, root)


def _splits(files: Sequence[Path], root: Path) -> dict[str | None, list[Path]]:
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file.relative_to(root)), []).append(file)
    return splits


def _split_of(name: Path) -> str | None:
    for part in reversed(name.parts):
        for split in ("train", "val", "test"):
            if part.lower().startswith(split):
                return split
    return None


def _sources(
    train: Sequence[_Scan], validation: Sequence[_Scan]
) -> tuple[ParquetSource, ParquetSource]:
    """Two sources that share class numbers if the files store no names."""
    if any(scan.names for scan in (*train, *validation)):
        return _source(train, _named(train)), _source(validation, _named(validation))
    classes = _numbered((*train, *validation))
    return _source(train, classes), _source(validation, classes)


def _named(scans: Sequence[_Scan]) -> tuple[str, ...]:
    """The class names that all files agree on."""
    first = scans[0]
    for scan in scans:
        if scan.names != first.names:
            raise DataError(
                f"{scan.shard.name}: expected the class names of {first.shard.name}, found others"
            )
    return first.names or _numbered(scans)


def _numbered(scans: Sequence[_Scan]) -> tuple[str, ...]:
    """Class names "0", "1", ... up to the highest label."""
    filled = [scan for scan in scans if len(scan.labels)]
    highest, name = max(((int(s.labels.max()), s.shard.name) for s in filled), default=(-1, ""))
    images = sum(len(scan.labels) for scan in filled)
    if filled and highest >= images:
        raise DataError(
            f"{name}: expected labels below the number of images ({images}), since no class names"
            f" are stored, found {highest}; a ClassLabel in the schema's huggingface metadata"
            " names the classes"
        )
    return tuple(str(label) for label in range(highest + 1))


def _source(scans: Sequence[_Scan], classes: tuple[str, ...]) -> ParquetSource:
    for scan in scans:
        check_labels(scan.labels, classes, scan.shard.name)
    shards = tuple(scan.shard for scan in scans)
    rows = [rows for shard in shards for rows in shard.group_rows]
    if not sum(rows):
        raise DataError(f"{shards[0].name}: expected images, found no rows")
    return ParquetSource(
        shards=shards,
        classes=classes,
        labels=np.concatenate([scan.labels for scan in scans]),
        groups=tuple(
            (n, g) for n, shard in enumerate(shards) for g in range(len(shard.group_rows))
        ),
        starts=np.cumsum([0, *rows], dtype=np.int64),
    )


def _scan(path: Path, root: Path) -> _Scan:
    return _with_file(path, lambda file: _scanned(file, path, root))


def _scanned(file: Any, path: Path, root: Path) -> _Scan:
    schema = file.schema_arrow
    name = printable(path.name if path == root else str(path.relative_to(root)))
    label = _column(schema, _LABEL_COLUMNS, name)
    image = _column(schema, _IMAGE_COLUMNS, name)
    groups = range(file.num_row_groups)
    shard = _Shard(
        path=path.absolute(),
        name=name,
        image=_bytes_column(schema.field(image), name),
        group_rows=tuple(file.metadata.row_group(group).num_rows for group in groups),
        footer=_footer(path, file.metadata.serialized_size),
    )
    return _Scan(shard=shard, labels=_labels(file, label, name), names=_names(schema, label))


def _column(schema: Any, wanted: tuple[str, ...], name: str) -> str:
    found: str | None = next((column for column in wanted if column in schema.names), None)
    if found is None:
        raise DataError(
            f"{name}: expected a column {' or '.join(wanted)}, found {', '.join(schema.names)}"
        )
    return found


def _bytes_column(column: Any, name: str) -> str:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return str(column.name)
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return f"{column.name}.bytes"
    raise DataError(f"{name}: expected image bytes in column {column.name}, found {kind}")


def _labels(file: Any, column: str, name: str) -> NDArray[np.int64]:
    import pyarrow as pa

    stored = file.read(columns=[column], use_threads=False).column(0)
    if not pa.types.is_integer(stored.type) or stored.null_count:
        found = f"{stored.null_count} empty ones" if stored.null_count else str(stored.type)
        raise DataError(f"{name}: expected whole numbers in column {column}, found {found}")
    return np.asarray(stored.to_numpy(), dtype=np.int64)


def _names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Class names as the hub's library stores them: in JSON, in the schema's metadata."""
    stored = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(stored)["info"]["features"][label]["names"] if stored else None
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(printable(str(name)) for name in names) if names else None


def _footer(path: Path, size: int) -> str:
    """SHA-256 of the footer, its length and the closing mark: 8 bytes."""
    with path.open("rb") as file:
        file.seek(-(size + 8), 2)
        return digest(file.read())


def _with_file(path: Path, use: Callable[[Any], _Read]) -> _Read:
    """What `use` makes of the opened file; damage becomes one line."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return use(file)
    except (pa.ArrowException, OSError) as error:
        what = " ".join(str(error).split())
        raise DataError(f"{path}: expected a readable parquet file, found: {what}") from error
