"""From what the user typed to a data set: looks at what is there and picks the reader."""

from pathlib import Path

from resnext.data import cifar, folder, parquet, tar
from resnext.data.digits import HELD_OUT as DIGITS_HELD_OUT
from resnext.data.digits import digits
from resnext.data.source import DataSet, Source
from resnext.data.subset import hold_out
from resnext.errors import DataError

HELD_OUT = 0.2
"""The part of each class that is held out where the data has no validation part of its own."""


def open_data(location: str | Path = "digits") -> DataSet:
    """The data set at a location, with a part to train on and a part to score on.

    Understood are the word `digits`; a folder that holds CIFAR-10 or CIFAR-100 as published; a
    parquet or tar file, or a folder of them with splits in their names; a folder of class folders,
    with or without train/ and val/ above them; ILSVRC's folders with its flat val/. Without a
    split, a fixed fifth of each class is held out (a quarter of the digits). A folder of the name
    digits is `./digits`.

    Raises:
        DataError: nothing there, or nothing of these kinds; the message says what was found.
    """
    text = str(location)
    if text == "digits":
        return _data_set("digits", text, *hold_out(digits(), DIGITS_HELD_OUT))
    path = _existing(text)
    name = cifar.find(path)
    if name:
        return _data_set(name, text, *cifar.read(name, path))
    return _data_set(path.absolute().stem, text, *_parts(path))


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
    path = _existing(text)
    name = cifar.find(path)
    if name:
        return cifar.read(name, path)[1]
    kept: Source | None
    if files := parquet.find(path):
        kept = parquet.read_validation(files, path)
    elif files := tar.find(path):
        kept = tar.read_validation(files, path)
    else:
        kept = folder.read_validation(path)
    return open_source(path) if kept is None else kept


def open_source(location: str | Path) -> Source:
    """All images at a location as one source, without a split: parquet or tar files, or folders.

    Raises:
        DataError: as for `open_data`.
    """
    path = _existing(str(location))
    if files := parquet.find(path):
        return parquet.read(files, path)
    if files := tar.find(path):
        return tar.read(files, path)
    return folder.read(path)


def _existing(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.exists():
        raise DataError(
            "expected data: the word digits, a folder, a .parquet or .tar file;"
            f" found nothing at {text}"
        )
    if path.is_file() and not parquet.find(path) and not tar.find(path):
        raise DataError(
            f"{text}: expected a folder, a .parquet or a .tar file, found another kind of file"
        )
    return path


def _parts(path: Path) -> tuple[Source, Source]:
    train: Source
    validation: Source | None
    if files := parquet.find(path):
        train, validation = parquet.read_parts(files, path)
    elif files := tar.find(path):
        train, validation = tar.read_parts(files, path)
    else:
        train, validation = folder.read_parts(path)
    if validation is not None:
        return train, validation
    try:
        return hold_out(train, HELD_OUT)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _data_set(name: str, location: str, train: Source, validation: Source) -> DataSet:
    return DataSet(name=name, location=location, train=train, validation=validation)
