"""CIFAR-10 and CIFAR-100 in the files that their authors publish and torchvision downloads."""

from pathlib import Path
from typing import Any

import numpy as np

from resnext.data.arrays import ArraySource
from resnext.errors import DataError

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
"""Name of the set -> name of the folder that holds its files."""


def find(location: Path) -> str | None:
    """Which set lies in this folder, or is this folder; None for neither."""
    for name, folder in FOLDERS.items():
        if location.name == folder or (location / folder).is_dir():
            return name
    return None


def read(name: str, location: Path) -> tuple[ArraySource, ArraySource]:
    """The training and the test part, 50000 and 10000 pictures of 32 x 32 pixels.

    The files are pickles, which run code when read: torchvision compares their MD5 first.

    Raises:
        DataError: a file is missing, or is not the published one.
    """
    root = location.parent if location.name == FOLDERS[name] else location
    return _part(name, root, train=True), _part(name, root, train=False)


def _part(name: str, root: Path, *, train: bool) -> ArraySource:
    from torchvision import datasets  # 7 s to import, needed for this format only

    reader: Any = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        stored = reader(root, train=train, download=False)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{root / FOLDERS[name]}: expected the published files of {name} (by their MD5),"
            " found one missing or changed; download the archive again"
        ) from error
    return ArraySource(
        title=f"{name} {'train' if train else 'test'}",
        pixels=np.ascontiguousarray(stored.data),
        labels=np.asarray(stored.targets, dtype=np.int64),
        classes=tuple(stored.classes),
    )
