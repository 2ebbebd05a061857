"""Which images one tar file holds and what their labels are, and what in it must be refused."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from resnext.data import ilsvrc
from resnext.data.decode import EXTENSIONS
from resnext.data.index import printable
from resnext.data.members import Member, members
from resnext.errors import DataError

Label = int | str | None
"""A number, the name of a class, or None for ILSVRC's images, whose answers are in another file."""

_LABELS = (".cls", ".json")
"""Files that hold a label, the preferred first."""

_LARGEST_LABEL = 2**16
SPLITS = ("train", "val", "validation", "valid", "test")
"""Folders that are parts of a set if each has class folders; those to score on as preferred."""

IN_FOLDER = ""
"""The label of an image that its folders will tell; no class is named so."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image in a tar file, `shard` being the file's number, `split` a position in `SPLITS`."""

    name: str
    shard: int
    offset: int
    size: int
    label: Label
    split: int = -1


class BadArchiveError(DataError):
    """Archives with members that cannot be taken for images with labels.

    Attributes:
        problems: one line each: the archive, the member, and why.
    """

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        found = f"{len(problems)} entries to refuse, the first: {problems[0]}"
        super().__init__(f"{where}: expected tar files of images with a label each, found {found}")


def entries(path: Path, name: str, shard: int) -> tuple[list[Entry], list[str]]:
    """The images of a tar file, and what is wrong with it; `name` is what messages call it.

    Where folders are the labels, `by_folder` tells them when all files have been read.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{path}: expected to read it, found: {error.strerror}") from error
    try:
        found, problems = _sorted_out(handle)
        labelled, more = _labelled(handle, found, PurePosixPath(name).stem)
    finally:
        os.close(handle)
    images = [
        Entry(member.name, shard, member.offset, member.size, label) for member, label in labelled
    ]
    return images, [printable(f"{name}: {problem}") for problem in (*problems, *more)]


def ignored(path: Path) -> Iterator[str]:
    """The names in a tar file that are neither images nor labels."""
    with path.open("rb") as file:
        found, _ = _sorted_out(file.fileno())
    for member in found:
        base = _base(member)
        if not base.startswith(".") and not base.lower().endswith((*EXTENSIONS, *_LABELS)):
            yield member.name


def _sorted_out(handle: int) -> tuple[list[Member], list[str]]:
    """The files to use, and a line for everything else but folders."""
    found: dict[str, Member] = {}
    problems: list[str] = []
    try:
        for member in _walk(handle, 0, os.fstat(handle).st_size):
            if member.problem is not None:
                problems.append(f"{member.name or '(no name)'}: {member.problem}")
            elif member.is_file and member.name in found:
                problems.append(f"{member.name}: twice in the archive")
            elif member.is_file:
                found[member.name] = member
    except DataError as error:
        problems.append(str(error))
    return list(found.values()), problems


def _walk(handle: int, start: int, end: int) -> Iterator[Member]:
    """The members, those of an inner tar file as if it were a folder; that is ILSVRC's layout."""
    for member in members(handle, start, end):
        if not (member.is_file and member.problem is None and member.name.endswith(".tar")):
            yield member
            continue
        folder = member.name.removesuffix(".tar")
        for inner in members(handle, member.offset, member.offset + member.size):
            if inner.name.endswith(".tar"):
                raise DataError(f"{folder}.tar: expected images, found another tar file in it")
            yield Member(
                f"{folder}/{inner.name}", inner.offset, inner.size, inner.problem, inner.is_file
            )


def _labelled(
    handle: int, found: Sequence[Member], stem: str
) -> tuple[list[tuple[Member, Label]], list[str]]:
    """Each image with its label, and a line for each without one."""
    visible = [member for member in found if not _base(member).startswith(".")]
    images = [member for member in visible if _base(member).lower().endswith(EXTENSIONS)]
    labels = [member for member in visible if _base(member).lower().endswith(_LABELS)]
    if labels:
        return _paired(handle, images, labels)
    pairs: list[tuple[Member, Label]] = []
    problems: list[str] = []
    for image in images:
        if "/" in image.name:
            pairs.append((image, IN_FOLDER))
        elif ilsvrc.WNID.fullmatch(stem):  # an archive per class
            pairs.append((image, stem))
        elif ilsvrc.is_validation_image(image.name):
            pairs.append((image, None))
        else:
            problems.append(f"{image.name}: an image without a label")
    return pairs, problems


def by_folder(entries: Sequence[Entry], files: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Labels from folders: the first ones below the folders that all images of all files share.

    Where those are named as the parts of a set and have class folders, the class folders count.
    """
    if all(entry.label != IN_FOLDER for entry in entries):
        return list(entries), []
    depth = _shared([entry.name for entry in entries])
    folders = [entry.name.split("/")[depth:-1] for entry in entries]
    if _is_flat(entries):
        return [replace(entry, label=None) for entry in entries], []
    split = _is_split(folders)
    found: list[Entry] = []
    problems: list[str] = []
    for entry, below in zip(entries, folders, strict=True):
        if entry.label != IN_FOLDER:
            found.append(entry)
        elif not split:
            found.append(replace(entry, label=below[0]))
        elif len(below) > 1:
            found.append(replace(entry, label=below[1], split=SPLITS.index(below[0])))
        else:
            problem = f"expected a folder per class in {below[0]}/, found an image without one"
            problems.append(printable(f"{files[entry.shard]}: {entry.name}: {problem}"))
    return found, problems


def _shared(names: Sequence[str]) -> int:
    """How many leading folders all paths share, with a further folder below them."""
    first, last = (name.split("/")[:-1] for name in (min(names), max(names)))
    same = [one == other for one, other in zip(first, last, strict=False)]
    shared = same.index(False) if False in same else len(same)
    return max(min(shared, min(name.count("/") for name in names) - 1), 0)


def _is_flat(entries: Sequence[Entry]) -> bool:
    """Whether these are ILSVRC's validation images in a single folder, which is no class."""
    return len({entry.name.rpartition("/")[0] for entry in entries}) == 1 and all(
        ilsvrc.is_validation_image(entry.name.rpartition("/")[2]) for entry in entries
    )


def _is_split(folders: Sequence[Sequence[str]]) -> bool:
    """Whether the first folders are parts: all are named so, and there are folders in one."""
    return all(below and below[0] in SPLITS for below in folders) and any(
        len(below) > 1 for below in folders
    )


def _paired(
    handle: int, images: Sequence[Member], labels: Sequence[Member]
) -> tuple[list[tuple[Member, Label]], list[str]]:
    """Images and labels whose names are the same up to the first dot, in the images' order."""
    problems: list[str] = []
    files: dict[str, dict[str, Member]] = {}
    for member in labels:
        suffix = member.name[member.name.rindex(".") :]
        files.setdefault(_key(member), {}).setdefault(suffix, member)
    pairs: dict[str, tuple[Member, Label]] = {}
    for image in images:
        key = _key(image)
        if key in pairs:
            problems.append(f"{image.name}: a second image named {key}")
            continue
        label = _label(handle, files.pop(key, {}))
        if label is None:
            problems.append(f"{image.name}: an image without a label")
        pairs[key] = (image, label)
    for orphan in files.values():
        problems += [f"{member.name}: a label without an image" for member in orphan.values()]
    return list(pairs.values()), problems


def _label(handle: int, files: dict[str, Member]) -> Label:
    """What the .cls file says, else the "label" of the .json file; None for nothing usable."""
    for suffix in _LABELS:
        member = files.get(suffix)
        if member is None or member.size > _LARGEST_LABEL:
            continue
        content = os.pread(handle, member.size, member.offset)
        try:
            stored = (
                json.loads(content)["label"] if suffix == ".json" else content.decode("utf-8-sig")
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        text = str(stored).strip()
        if re.fullmatch(r"-?\d{1,9}", text):
            return int(text)
        if text and isinstance(stored, str):
            return text
    return None


def _key(member: Member) -> str:
    """The name up to the first dot of its last part, as webdataset has it."""
    folder, slash, base = member.name.rpartition("/")
    return folder + slash + base.split(".", 1)[0]


def _base(member: Member) -> str:
    return member.name.rpartition("/")[2]
