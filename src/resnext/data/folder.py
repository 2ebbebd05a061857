"""Images as files: in one folder per class, or ILSVRC's validation images in a single one."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnext.data import ilsvrc, index, store
from resnext.data.decode import EXTENSIONS, decode
from resnext.data.index import Scanned, printable
from resnext.data.source import Encoded, digest
from resnext.data.store import Table
from resnext.errors import DataError

_VALIDATION = ("val", "validation", "valid", "test")
"""Names of the folder to score on, the preferred first: a test folder often has no labels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FolderSource:
    """Image files below `root`; pickled as the paths of the folder and of its index.

    Attributes:
        root: absolute.
        table: the index: names, sizes and, for class folders, labels.
        classes: see `Source`.
        labels: see `Source`; of class folders, those of the index.
    """

    root: Path
    table: Table
    classes: tuple[str, ...]
    labels: NDArray[np.int64]

    def __reduce__(self) -> tuple[Any, ...]:
        if self.labels is self.table.arrays["labels"]:
            return _of_classes, (self.root, self.table)
        return _labelled, (self.root, self.table, self.classes, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image.Image:
        """See `Source.read`."""
        return decode(self._path(index), self.describe(index))

    def encoded(self, index: int) -> Encoded:
        """See `Source.encoded`: a file of its own."""
        return Encoded(path=self._path(index))

    def describe(self, index: int) -> str:
        """See `Source.describe`: the path."""
        return printable(str(self._path(index)))

    def fingerprint(self) -> str:
        """See `Source.fingerprint`: over names and sizes when indexed, not contents."""
        stored = str(self.table.meta["fingerprint"])
        if self.labels is self.table.arrays["labels"]:
            return stored
        return digest(stored, *self.classes, self.labels)

    def _path(self, number: int) -> Path:
        if not -len(self) <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        return self.root / index.path(self.table, number % len(self))


def read_parts(location: Path) -> tuple[FolderSource, FolderSource | None]:
    """The images to train on and those to score on, the latter None if there is no such folder.

    Raises:
        DataError: as `read`; a folder to score on without one to train on; both the same folder.
    """
    location = ilsvrc.home(location)
    folders = {folder.name: folder for folder in _folders(location)}
    validation = _kept(folders)
    train = folders.get("train")
    if train is None:
        if folders and folders.keys() <= set(_VALIDATION):
            raise DataError(f"{location}: expected train/ beside {', '.join(folders)}, found none")
        return read(location), None
    if validation is None:  # train/ may also be the class of pictures of trains
        return read(train if _folders(train) else location), None
    if train.samefile(validation):
        raise DataError(
            f"{location}: expected two folders, found train/ again as {validation.name}/"
        )
    return read(train), _validation(validation, train)


def read_validation(location: Path) -> FolderSource | None:
    """The images to score on, with or without a folder to train on beside; None if there are none.

    Raises:
        DataError: as `read`.
    """
    location = ilsvrc.home(location)
    folders = {folder.name: folder for folder in _folders(location)}
    if not folders:
        return _validation(location, None) if ilsvrc.is_flat(location) else None
    validation = _kept(folders)
    if validation is None or not ("train" in folders or folders.keys() <= set(_VALIDATION)):
        return None
    return _validation(validation, folders.get("train"))


def parts(location: Path) -> list[Path]:
    """The folders of class folders at a location: train/ and the one to score on, or itself."""
    location = ilsvrc.home(location)
    folders = {folder.name: folder for folder in _folders(location)}
    kept = _kept(folders)
    if "train" not in folders or not _folders(folders["train"]):
        return [location] if kept is None or folders.keys() - set(_VALIDATION) else [kept]
    return [folders["train"], *([] if kept is None or ilsvrc.is_flat(kept) else [kept])]


def trains(location: Path) -> bool:
    """Whether there is a folder to train on."""
    return (ilsvrc.home(location) / "train").is_dir()


def known(location: Path, archives: tuple[str, ...]) -> bool:
    """Whether an index says that class folders lie here and no file with one of these endings.

    To look for such files in the folders of millions of images takes longer than all else.
    """
    try:
        return location.is_dir() and _known(location, archives)
    except (DataError, OSError):  # whoever reads that folder says so, if anyone does
        return False


def _known(location: Path, archives: tuple[str, ...]) -> bool:
    roots = parts(location)
    others = [] if roots == [location] else [f for f in _folders(location) if f not in roots]
    if any(_names(inner) for inner in others):
        return False
    if any(_has_file(place, archives) for place in (location, *roots, *others)):
        return False
    return all(index.is_current(root.absolute(), _names(root)) for root in roots)


def _has_file(location: Path, endings: tuple[str, ...]) -> bool:
    with os.scandir(location) as entries:
        return any(entry.name.lower().endswith(endings) for entry in entries)


def read(root: Path) -> FolderSource:
    """The images below a folder of class folders.

    Raises:
        DataError: no class folders, images beside them, or a class without images.
    """
    root = root.absolute()
    return _of_classes(root, index.current(root, class_names(root)))


def scan(root: Path, *, rescan: bool = False) -> Iterator[Scanned | Table]:
    """The steps of indexing a folder of class folders, the index last; raises as `read`."""
    root = root.absolute()
    return index.scan(root, class_names(root), rescan=rescan)


def class_names(root: Path) -> list[str]:
    """The class folders, sorted.

    Raises:
        DataError: there are none.
    """
    names = _names(root)
    if not names:
        raise DataError(f"{printable(str(root))}: {_what_instead(root)}")
    return names


def ignored(source: FolderSource) -> Iterator[str]:
    """Paths below the root of a source that it does not have: other files, linked folders (x/)."""
    indexed: list[str] = source.table.meta["classes"]
    for name in indexed:
        yield from _others(source.root, name)
    for entry in sorted(source.root.iterdir()):  # of a flat folder, the images are indexed
        is_image = entry.name.lower().endswith(EXTENSIONS)
        if not entry.name.startswith(".") and not entry.is_dir() and (indexed or not is_image):
            yield entry.name


def _others(root: Path, name: str) -> Iterator[str]:
    for above, folders, files in os.walk(root / name):
        inside = Path(above).relative_to(root)
        folders.sort()
        linked = [f"{each}/" for each in folders if (root / inside / each).is_symlink()]
        folders[:] = [each for each in folders if not each.startswith(".")]
        for other in (*linked, *sorted(files)):
            if not other.startswith(".") and not other.lower().endswith(EXTENSIONS):
                yield f"{inside}/{other}"


def refuse_mixture(location: Path, archive: Path) -> None:
    """Refuse an archive of images where there are class folders of image files too.

    One folder of images is let be: pictures for a README lie beside many published archives.

    Raises:
        DataError: naming one of each.
    """
    found = list(itertools.islice(_folders_of_images(location, 3), 2))
    if len(found) == 2:
        image, other = (path.relative_to(location) for path in (found[0], archive))
        what = printable(f"both, such as {image} and {other}")
        raise DataError(
            f"{location}: expected images in class folders or in archives, found {what}"
        )


def holds_images(location: Path) -> bool:
    """Whether there are image files in folders, at most three levels below."""
    return next(_folders_of_images(location, 3), None) is not None


def _folders_of_images(location: Path, depth: int) -> Iterator[Path]:
    """An image of each folder that holds some, at most so many levels below."""
    for inner in _folders(location):
        try:
            with os.scandir(inner) as entries:
                names = (entry.name for entry in entries if not entry.name.startswith("."))
                image = next((name for name in names if name.lower().endswith(EXTENSIONS)), None)
        except OSError as error:
            where = printable(str(inner))
            raise DataError(f"{where}: expected to read it, found: {error.strerror}") from error
        if image is not None:
            yield inner / image
        elif depth > 1:
            yield from _folders_of_images(inner, depth - 1)


def _of_classes(root: Path, table: Table) -> FolderSource:
    classes = tuple(printable(name) for name in table.meta["classes"])
    return FolderSource(root=root, table=table, classes=classes, labels=table.arrays["labels"])


def _labelled(
    root: Path, table: Table, classes: tuple[str, ...], labels: NDArray[np.int64]
) -> FolderSource:
    return FolderSource(root=root, table=table, classes=classes, labels=labels)


def _validation(folder: Path, train: Path | None) -> FolderSource:
    """A folder to score on: of class folders, or ILSVRC's flat one with its ground truth beside."""
    if not ilsvrc.is_flat(folder):
        return read(folder)
    folder = folder.absolute()
    table = index.flat(folder)
    names = [
        store.text(table.arrays["names"], table.arrays["name_starts"], number)
        for number in range(len(table.arrays["sizes"]))
    ]
    truth = ilsvrc.ground_truth(folder)
    classes = truth.classes if train is None else tuple(map(printable, class_names(train)))
    return _labelled(folder, table, classes, truth.labels(names, classes))


def _kept(folders: dict[str, Path]) -> Path | None:
    return next((folders[name] for name in _VALIDATION if name in folders), None)


def _folders(location: Path) -> list[Path]:
    """Folders directly below, sorted; hidden ones (.git, .ipynb_checkpoints) are no classes."""
    return [location / name for name in _names(location)]


def _names(location: Path) -> list[str]:
    try:
        with os.scandir(location) as entries:
            names = [entry.name for entry in entries if _is_folder(entry)]
    except OSError as error:
        raise DataError(
            f"{location}: expected a folder to read, found: {error.strerror}"
        ) from error
    return sorted(name for name in names if not name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _what_instead(root: Path) -> str:
    expected = "expected a folder per class"
    images = sum(1 for entry in root.iterdir() if entry.name.lower().endswith(EXTENSIONS))
    if images:
        return f"{expected}, found {images} images without one"
    return f"{expected}, found {'nothing' if not any(root.iterdir()) else 'no folder and no image'}"
