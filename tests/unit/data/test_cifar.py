"""CIFAR's own files, read by torchvision behind its MD5 check."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnext.data import default_profile, open_data
from resnext.errors import DataError

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def pixels(rows: int, seed: int) -> np.ndarray:
    """As the files hold them: rows of 3072, the red plane first."""
    return np.random.default_rng(seed).integers(0, 256, (rows, 3072), dtype=np.uint8)


def write(path: Path, content: dict[str, Any]) -> list[str]:
    path.write_bytes(pickle.dumps(content))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


@pytest.fixture(params=["cifar10", "cifar100"])
def published(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Small files in the published layout, whose MD5 torchvision is told to expect."""
    from torchvision import datasets

    name = request.param
    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = tmp_path / "data" / FOLDERS[name]
    folder.mkdir(parents=True)
    key, meta, label_names = {
        "cifar10": ("labels", "batches.meta", "label_names"),
        "cifar100": ("fine_labels", "meta", "fine_label_names"),
    }[name]
    train = write(folder / "first", {"data": pixels(3, 0), key: [1, 0, 1]})
    more = write(folder / "second", {"data": pixels(2, 1), key: [0, 1]})
    test = write(folder / "test", {"data": pixels(2, 2), key: [1, 0]})
    _, md5 = write(folder / meta, {label_names: ["apple", "bear"]})
    monkeypatch.setattr(reader, "train_list", [train, more])
    monkeypatch.setattr(reader, "test_list", [test])
    monkeypatch.setattr(reader, "meta", {"filename": meta, "key": label_names, "md5": md5})
    return folder


def test_both_parts_are_read_as_published(published: Path) -> None:
    for location in (published, published.parent):
        data = open_data(location)
        assert FOLDERS[data.name] == published.name
        assert data.classes == ("apple", "bear")
        assert data.train.labels.tolist() == [1, 0, 1, 0, 1]
        assert data.validation.labels.tolist() == [1, 0]
        expected = pixels(2, 1)[1].reshape(3, 32, 32).transpose(1, 2, 0)
        image = data.train.read(4)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), expected)
        assert data.train.describe(4) == f"{data.name} train row 4"
        assert default_profile(data).name == "cifar10"  # by its two classes: not a hundred


def test_a_missing_file_is_refused(published: Path) -> None:
    (published / "second").unlink()
    with pytest.raises(DataError, match=r"expected the published files of cifar.*by their MD5"):
        open_data(published)


class Canary:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("pattern", ["first", "test", "*meta"])
def test_a_file_with_code_in_it_is_never_read(
    pattern: str, published: Path, tmp_path: Path
) -> None:
    (victim,) = published.glob(pattern)
    victim.write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(DataError, match="found one missing or changed"):
        open_data(published)
    assert not (tmp_path / "canary").exists()
