"""Indexing a whole location: its parts one after the other, with the steps between."""

from collections.abc import Iterator
from pathlib import Path

from resnext.data import folder, parquet, tar
from resnext.data.index import Scanned
from resnext.data.store import Table
from resnext.errors import DataError


class NeedsNoIndexError(DataError):
    """Data that is opened at once as it is, so that there is nothing to do."""


def index_parts(location: Path, *, rescan: bool = False) -> Iterator[Scanned | Table]:
    """Index what has an index: folders of class folders and tar files; a table ends each part.

    Raises:
        NeedsNoIndexError: parquet files, which say themselves what is where.
        DataError: nothing there, or files of another kind.
    """
    if not location.exists():
        raise DataError(f"expected a folder or a .tar file, found nothing at {location}")
    if parquet.find(location):
        raise NeedsNoIndexError(
            f"{location}: expected a folder or a .tar file, found parquet, which needs no index"
        )
    if files := tar.find(location):
        for part in tar.parts(files, location):
            yield from tar.scan(part, location, rescan=rescan)
        return
    if location.is_file():
        raise DataError(f"{location}: expected a folder or a .tar file, found another kind of file")
    for root in folder.parts(location):
        yield from folder.scan(root, rescan=rescan)
