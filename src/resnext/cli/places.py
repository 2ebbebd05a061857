"""Where a command may write: looked at before there is any work that could be lost."""

from pathlib import Path

from resnext.errors import UsageError


def check_new_file(path: Path | None, option: str) -> None:
    """Refuse a file that is there, or a place in no folder.

    Raises:
        UsageError: the message names the option.
    """
    if path is None:
        return
    if path.exists():
        raise UsageError(
            f"expected a new file for {option}, found {path}; move it or choose another"
        )
    if not path.parent.is_dir():
        raise UsageError(f"expected {option} in a folder that exists, found none at {path.parent}")


def check_new_folder(folder: Path | None, option: str) -> None:
    """Refuse a folder whose files would be replaced.

    Raises:
        UsageError: the message names the option.
    """
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"expected a new or empty folder for {option}, found {folder}")


def free_name(stem: str, taken: set[str]) -> str:
    """The name of the next file, numbered if its stem is taken; it is taken from now on."""
    free, number = stem, 1
    while free in taken:
        number += 1
        free = f"{stem}-{number}"
    taken.add(free)
    return free
