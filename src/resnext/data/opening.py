"""From what the user typed to a data set: looks at what is there and picks the reader."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resnext.data import cifar, class_list, folder, parquet, tar
from resnext.data.digits import HELD_OUT as DIGITS_HELD_OUT
from resnext.data.digits import digits
from resnext.data.source import DataSet, Source
from resnext.data.subset import Subset, hold_out
from resnext.errors import DataError

HELD_OUT = 0.2
"""The part of each class that is held out where the data has no validation part of its own."""


def open_data(location: str | Path = "digits") -> DataSet:
    """The data set at a location, with a part to train on and a part to score on.

    Understood are the word `digits`; a folder that holds CIFAR-10 or CIFAR-100 as published; a
    parquet or tar file, or a folder of them with splits in their names; a folder of class folders,
    with or without train/ and val/ above them; ILSVRC's folders with its flat val/; a list of
    classes out of any of these (.json, see `class_list.py`). Without a split, a fixed fifth of each
    class is held out (a quarter of the digits). A folder of the name digits is `./digits`.

    Raises:
        DataError: nothing there, or nothing of these kinds; the message says what was found.
    """
    text = str(location)
    if text == "digits":
        train, validation = hold_out(digits(), DIGITS_HELD_OUT)
        return DataSet(name="digits", location=text, train=train, validation=validation)
    path = _existing(text)
    name = cifar.find(path) or _name(path)
    whole, kept = _reader(path).parts()
    if kept is not None:
        return DataSet(name=name, location=text, train=whole, validation=kept)
    try:
        train, validation = hold_out(whole, HELD_OUT)
    except DataError as error:
        raise DataError(f"{text}: {error}") from error
    return DataSet(name=name, location=text, train=train, validation=validation)


def _name(path: Path) -> str:
    whole = path.absolute()
    return whole.name if whole.is_dir() else whole.stem


def open_evaluation(location: str | Path = "digits") -> Source:
    """The images to score on: those kept for that where there are any, else all images.

    Unlike `open_data` this needs nothing to train on: a lone val/ folder will do, and so will one
    image per class. Of the digits, the quarter that is never trained on. Where a location has no
    validation part of its own, all images include those that a run may have trained on.

    Raises:
        DataError: as for `open_data`.
    """
    text = str(location)
    if text == "digits":
        return open_data(text).validation
    reader = _reader(_existing(text))
    kept = reader.kept()
    return reader.whole() if kept is None else kept


def open_source(location: str | Path) -> Source:
    """All images at a location as one source, without a split: parquet or tar files, or folders.

    Raises:
        DataError: as for `open_data`.
    """
    return _reader(_existing(str(location))).whole()


def open_parts(location: str | Path) -> dict[str, Source]:
    """What is stored at a location, as it is stored: "train", "validation", or one part "all".

    Raises:
        DataError: as for `open_data`; a part of a single class.
    """
    text = str(location)
    parts = _parts(text)
    for part, source in parts.items():
        if len(source.classes) < 2:
            found = f"only {source.classes[0]!r}" if source.classes else "none"
            where = "" if part == "all" else f" to find in {part}"
            raise DataError(f"{text}: expected at least 2 classes{where}, found {found}")
    return parts


def _parts(text: str) -> dict[str, Source]:
    if text == "digits":
        return {"all": digits()}
    reader = _reader(_existing(text))
    kept = reader.kept()
    if kept is None:
        return {"all": reader.parts()[0]}
    if not reader.trains():
        return {"validation": kept}
    train, validation = reader.parts()
    assert validation is not None
    return {"train": train, "validation": validation}


@dataclass(frozen=True, slots=True)
class _Reader:
    """How to read one kind of location.

    Attributes:
        whole: all images.
        parts: those to train on and those to score on; all and None if nothing is kept for scoring.
        kept: those to score on, if they are stored apart, without looking at the others.
        trains: whether there are any to train on beside those.
    """

    whole: Callable[[], Source]
    parts: Callable[[], tuple[Source, Source | None]]
    kept: Callable[[], Source | None]
    trains: Callable[[], bool]


def _reader(path: Path) -> _Reader:
    if class_list.find(path):
        return _listed(path)
    if name := cifar.find(path):
        return _Reader(
            whole=lambda: cifar.read(name, path)[0],
            parts=lambda: cifar.read(name, path),
            kept=lambda: cifar.read(name, path)[1],
            trains=lambda: True,
        )
    images = folder.known(path, archives=(".parquet", ".tar", *tar.COMPRESSED))
    if not images and (files := parquet.find(path)):
        return _Reader(
            whole=lambda: parquet.read(files, path),
            parts=lambda: parquet.read_parts(files, path),
            kept=lambda: parquet.read_validation(files, path),
            trains=lambda: parquet.trains(files, path),
        )
    if not images and (files := tar.find(path)):
        return _Reader(
            whole=lambda: tar.read(files, path),
            parts=lambda: tar.read_parts(files, path),
            kept=lambda: tar.read_validation(files, path),
            trains=lambda: tar.trains(files, path),
        )
    return _Reader(
        whole=lambda: folder.read(path),
        parts=lambda: folder.read_parts(path),
        kept=lambda: folder.read_validation(path),
        trains=lambda: folder.trains(path),
    )


def _listed(path: Path) -> _Reader:
    """The chosen classes of another location."""

    def whole() -> Subset:
        chosen = class_list.read(path)
        return _selected(chosen, open_source(_other(path, chosen.data)), chosen.classes, path)

    def kept() -> Subset | None:
        chosen = class_list.read(path)
        if chosen.validation is None:
            return None
        source = open_evaluation(_other(path, chosen.validation))
        return _selected(chosen, source, chosen.classes[: chosen.leading], path)

    return _Reader(whole=whole, parts=lambda: (whole(), kept()), kept=kept, trains=lambda: True)


def _selected(
    chosen: class_list.ClassList, source: Source, needed: tuple[str, ...], path: Path
) -> Subset:
    try:
        return class_list.select(source, chosen, needed=needed)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _other(path: Path, location: str) -> Path:
    """What a list names, from its own folder on; not another list, which might name this one."""
    found = path.parent / Path(location).expanduser()
    if class_list.find(found):
        raise DataError(f"{path}: expected images at {location}, found a list of classes")
    return found


def _existing(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.exists():
        raise DataError(
            "expected data: the word digits, a folder, a .parquet or .tar file;"
            f" found nothing at {text}"
        )
    kinds = (class_list.find, parquet.find, tar.find)
    if path.is_file() and not any(find(path) for find in kinds):
        raise DataError(
            f"{text}: expected a folder, a .parquet or a .tar file, found another kind of file"
        )
    return path
