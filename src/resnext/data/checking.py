"""Looking at every image of a data set: which cannot be read, and which are not what they seem.

Stricter than training: whole files are decoded, where a training crop would not notice damage below
it. Yields findings as they come, so that whoever pulls can show them.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data import native
from resnext.data.decode import BROKEN, FORMATS, decode
from resnext.data.leftovers import leftovers
from resnext.data.source import Source, fetch
from resnext.errors import DataError

BAD = ("unreadable", "damaged")
"""Kinds of findings about files that training would refuse, or read as something else."""

HUGE_PIXELS = 20_000_000
HUGE_BYTES = 20 * 2**20
"""More than any image of ImageNet has; each costs as much time as a hundred others."""

_CHUNK = 64
_KINDS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "PPM": (".ppm", ".pgm"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
}
_SUFFIXES = tuple(suffix for suffixes in _KINDS.values() for suffix in suffixes)
_MODES = {
    "1": "grey",
    "L": "grey",
    "LA": "grey",
    "CMYK": "CMYK",
    "YCCK": "CMYK",
    "P": "palette",
    "PA": "palette",
    "RGBA": "transparent",
}
_ORIENTATION = 0x0112
"""The EXIF tag; 1 is upright."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is odd about an image.

    Attributes:
        kind: "unreadable", "damaged", "misnamed", "grey", "duplicate", ...
        where: the image.
        detail: in words.
    """

    kind: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How many images have been looked at, of how many."""

    images: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """One part of a data set.

    Attributes:
        images: how many.
        classes: class name -> images of it.
    """

    images: int
    classes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found in all.

    Attributes:
        parts: "train", "validation" or "all" -> its sizes.
        findings: kind -> how many; of kind "ignored" the files, which one finding per place counts.
        damage_checked: whether JPEG files were also looked at for damage that decoders skip.
    """

    parts: dict[str, PartReport]
    findings: dict[str, int]
    damage_checked: bool

    @property
    def bad(self) -> int:
        """How many images cannot be read as what they were."""
        return sum(self.findings.get(kind, 0) for kind in BAD)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One image: its content's hash (None if unreadable), what is odd, and a JPEG's bytes."""

    digest: bytes | None
    findings: tuple[Finding, ...]
    jpeg: bytes | None = None
    size: tuple[int, int] = (0, 0)


def check(
    parts: Mapping[str, Source], *, location: Path | None = None, threads: int | None = None
) -> Iterator[Checked | Finding | CheckReport]:
    """Look at every image, and at what lies at the location beside them; the report comes last."""
    threads = threads or os.cpu_count() or 1
    total = sum(len(source) for source in parts.values())
    damage = _Damage(threads)
    counts: dict[str, int] = {}
    digests: list[NDArray[np.uint8]] = []
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        for source in parts.values():
            found = np.zeros((len(source), 16), dtype=np.uint8)
            digests.append(found)
            for start in range(0, len(source), _CHUNK):
                rows = range(start, min(start + _CHUNK, len(source)))
                seen = list(pool.map(lambda row, source=source: _inspect(source, row), rows))
                for row, one in zip(rows, seen, strict=True):
                    if one.digest is not None:
                        found[row] = np.frombuffer(one.digest, dtype=np.uint8)
                names = [source.describe(row) for row in rows]
                for finding in (*_flat(seen), *damage.findings(seen, names)):
                    counts[finding.kind] = counts.get(finding.kind, 0) + 1
                    yield finding
                done += len(rows)
                yield Checked(images=done, total=total)
    for finding in _duplicates(parts, digests):
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
        yield finding
    for left in leftovers(parts.values(), location):
        counts["ignored"] = counts.get("ignored", 0) + left.number
        yield Finding(kind="ignored", where=left.where, detail=left.detail)
    yield CheckReport(
        parts={name: _sizes(source) for name, source in parts.items()},
        findings=counts,
        damage_checked=damage.available,
    )


def _flat(seen: Sequence[_Seen]) -> Iterator[Finding]:
    for one in seen:
        yield from one.findings


def _sizes(source: Source) -> PartReport:
    counts = np.bincount(source.labels, minlength=len(source.classes)).tolist()
    return PartReport(images=len(source), classes=dict(zip(source.classes, counts, strict=True)))


def _inspect(source: Source, row: int) -> _Seen:
    where = source.describe(row)
    try:
        place = source.encoded(row)
        if place is None:
            image = source.read(row)
            pixels = f"{image.mode} {image.size} ".encode() + image.tobytes()
            return _Seen(_hash(pixels), ())
        content = fetch(place, where)
        decode(content, where)
    except DataError as error:
        detail = str(error).removeprefix(f"{where}: ")
        return _Seen(None, (Finding(kind="unreadable", where=where, detail=detail),))
    return _looked_at(content, where)


def _looked_at(content: bytes, where: str) -> _Seen:
    """What is odd about an image that can be decoded."""
    odd: dict[str, str] = {}
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        suffix = PurePosixPath(where).suffix.lower()
        if suffix in _SUFFIXES and suffix not in _KINDS.get(image.format or "", ()):
            odd["misnamed"] = f"a {image.format} file named {suffix}"
        if image.mode in _MODES:
            odd[_MODES[image.mode]] = f"pixels of mode {image.mode} instead of RGB"
        elif image.mode.startswith("I;16"):
            odd["16-bit"] = "16 bits per pixel, of which 8 are used"
        if image.width * image.height > HUGE_PIXELS or len(content) > HUGE_BYTES:
            megabytes = len(content) / 2**20
            odd["huge"] = f"{image.width} x {image.height} pixels, {megabytes:.1f} MiB"
        rotated = _orientation(image)
        if rotated != 1:
            odd["rotated"] = f"EXIF orientation {rotated}, which training ignores"
        jpeg = content if image.format == "JPEG" else None
        size = image.size
        if _several(image):
            odd["animated"] = "several pictures, of which the first is used"
    findings = (Finding(kind=kind, where=where, detail=detail) for kind, detail in odd.items())
    return _Seen(_hash(content), tuple(findings), jpeg, size)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except BROKEN:  # a damaged block of EXIF; the pixels are not concerned
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _several(image: Image.Image) -> bool:
    """Whether more pictures follow the first; goes to the second page of a TIFF file."""
    if image.format != "TIFF":
        return bool(getattr(image, "is_animated", False))
    try:
        image.seek(1)
    except BROKEN:
        return False
    return True


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


class _Damage:
    """Finds the damage that JPEG decoders pass over, by libjpeg's warnings; needs the extension.

    Of 63 photos each, found were 63 with 512 bytes missing, 58 with 4 KiB of zeros (Pillow refuses
    few of them), and 1 with a bit flipped, which only a checksum would tell.
    """

    def __init__(self, threads: int) -> None:
        self.available = native.reason() is None
        self._loader = native.NativeLoader(threads=threads) if self.available else None

    def findings(self, seen: Sequence[_Seen], names: Sequence[str]) -> Iterator[Finding]:
        rows = [row for row, one in enumerate(seen) if one.jpeg is not None]
        if self._loader is None or not rows:
            return
        cuts = np.zeros(len(rows), dtype=native.CUT)
        for cut, row in zip(cuts, rows, strict=True):
            cut["width"], cut["height"] = seen[row].size
        contents = [seen[row].jpeg or b"" for row in rows]
        outcomes = self._loader.load(contents, native.Given(cuts=cuts), side=8).outcomes
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome["warnings"]:
                detail = f"decoders meet damage in it {outcome['warnings']} times, and fill in"
                yield Finding(kind="damaged", where=names[row], detail=detail)


def _duplicates(
    parts: Mapping[str, Source], digests: Sequence[NDArray[np.uint8]]
) -> Iterator[Finding]:
    """Every image whose content came before, in the order of the parts."""
    keys = np.concatenate(digests).view(np.uint64).reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal ones the first stays first
    ordered = keys[order]
    same = (ordered[1:] == ordered[:-1]).all(axis=1) & ordered[1:].any(axis=1)
    ends = np.cumsum([len(source) for source in parts.values()])
    first = 0
    for position in range(1, len(order)) if same.any() else ():
        if not same[position - 1]:
            first = position
            continue
        yield _duplicate(parts, ends, int(order[first]), int(order[position]))


def _duplicate(
    parts: Mapping[str, Source], ends: NDArray[np.int64], first: int, again: int
) -> Finding:
    (part, source, row), (other_part, other, other_row) = (
        _located(parts, ends, number) for number in (again, first)
    )
    detail = f"the same content as {other.describe(other_row)}"
    if part != other_part:
        detail += f", which is in {other_part}"
    if source.classes[int(source.labels[row])] != other.classes[int(other.labels[other_row])]:
        detail += ", of another class"
    return Finding(kind="duplicate", where=source.describe(row), detail=detail)


def _located(
    parts: Mapping[str, Source], ends: NDArray[np.int64], number: int
) -> tuple[str, Source, int]:
    which = int(np.searchsorted(ends, number, side="right"))
    name = list(parts)[which]
    return name, parts[name], number - int(ends[which]) + len(parts[name])
