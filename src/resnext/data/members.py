"""What is in a tar file: names, places and sizes, read from its headers alone.

Nothing is extracted and nothing is followed, so a name can do no harm here; the names that would do
harm to a tool that extracts are refused all the same. The formats are those of POSIX (ustar and
pax) and GNU.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from resnext.errors import DataError

_BLOCK = 512
_LARGEST_HEADER = 2**20
"""Long names and pax records, in bytes; what claims more is no real archive."""

_FILES = b"0\0" + b"7"
_FOLDER = b"5"
_WITHOUT_DATA = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
}
_SPARSE = b"S"


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a tar file.

    Attributes:
        name: its path there, without ./ before it.
        offset: where its bytes begin.
        size: how many there are.
        problem: why it must not be used; None for a plain file or folder.
        is_file: not a folder, and nothing else either.
    """

    name: str
    offset: int
    size: int
    problem: str | None
    is_file: bool


@dataclass(frozen=True, slots=True)
class _Extra:
    """What headers before the actual one say about it."""

    name: bytes | None = None
    size: int | None = None
    sparse: bool = False


def members(handle: int, start: int, end: int) -> Iterator[Member]:
    """The entries of the tar file that lies at `start` to `end` of an open file.

    Raises:
        DataError: no tar file, or a truncated one; the message does not name it.
    """
    position = start
    extra = _Extra()
    while True:
        block = _read(handle, position, _BLOCK, end)
        if block is None:
            raise DataError("expected the blocks of zeros that end a tar file, found it truncated")
        if not block.strip(b"\0"):
            return
        size, kind = _size(block, position - start), block[156:157]
        position += _BLOCK
        if kind in (b"L", b"K", b"x", b"g"):
            extra = _extended(extra, kind, _content(handle, position, size, end))
            position += _padded(size)
            continue
        size = size if extra.size is None else extra.size
        member = _member(block, extra, position, size)
        if kind not in _WITHOUT_DATA and kind != _FOLDER:
            position += _padded(size)
            if member.offset + size > end:
                raise DataError(f"expected {size} bytes of {member.name}, found it truncated")
        extra = _Extra()
        yield member


def _member(block: bytes, extra: _Extra, offset: int, size: int) -> Member:
    kind = block[156:157]
    raw = extra.name if extra.name is not None else _name(block)
    name = os.fsdecode(raw)
    is_folder = kind == _FOLDER or (kind in _FILES and name.endswith("/"))
    is_file = kind in _FILES and not is_folder and not extra.sparse
    problem = _hostile(name)
    if problem is None and not is_file and not is_folder:
        sparse = kind == _SPARSE or extra.sparse
        problem = (
            "a sparse file" if sparse else _WITHOUT_DATA.get(kind, f"an entry of type {kind!r}")
        )
    return Member(_plain(name), offset, size, problem, is_file)


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _hostile(name: str) -> str | None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or (len(parts[0]) == 2 and parts[0][1] == ":"):
        return "an absolute path"
    if ".." in parts:
        return "a path that leaves the archive"
    return None if _plain(name).strip("/.") or name in (".", "./") else "no name"


def _name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _size(block: bytes, position: int) -> int:
    """The entry's size, if the block is a header at all: its checksum tells."""
    stored = _number(block[148:156])
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    size = _number(block[124:136])
    if stored is None or stored != total or size is None:
        raise DataError(f"expected the header of a tar entry at byte {position}, found other bytes")
    return size


def _number(field: bytes) -> int | None:
    """Octal digits, or from 8 GiB on a binary number."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return None


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _extended(extra: _Extra, kind: bytes, content: bytes) -> _Extra:
    if kind == b"L":
        return replace(extra, name=content.rstrip(b"\0"))
    if kind != b"x":  # a long link's target, or what holds for the whole archive: dates, a comment
        return extra
    records = dict(_records(content))
    size = records.get(b"size")
    if size is not None and not size.isdigit():
        raise DataError(f"expected the size of a tar entry, found {size[:40]!r}")
    return _Extra(
        name=records.get(b"path", extra.name),
        size=extra.size if size is None else int(size),
        sparse=any(key.startswith(b"GNU.sparse.") for key in records),
    )


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pax records: the record's length in decimal, a blank, key=value, a line feed."""
    while content.strip(b"\0"):
        length, _, rest = content.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(content):
            raise DataError(f"expected a pax record, found {content[:40]!r}")
        record = rest[: int(length) - len(length) - 1]
        key, _, value = record.removesuffix(b"\n").partition(b"=")
        yield key, value
        content = content[int(length) :]


def _content(handle: int, position: int, size: int, end: int) -> bytes:
    content = _read(handle, position, size, end) if size <= _LARGEST_HEADER else None
    if content is None:
        raise DataError(f"expected a long header of {size} bytes, found the file truncated")
    return content


def _read(handle: int, position: int, size: int, end: int) -> bytes | None:
    if position + size > end:
        return None
    content = os.pread(handle, size, position)
    return content if len(content) == size else None
