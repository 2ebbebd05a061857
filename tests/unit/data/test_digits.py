"""The bundled digits and their fixed held-out quarter."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from resnext.data import open_data
from resnext.data.digits import digits
from unit.data.pictures import write_folder


def test_pixels_and_labels_are_scikit_learns() -> None:
    stored, ours = load_digits(), digits()
    np.testing.assert_array_equal(ours.labels, stored.target)
    assert ours.classes == tuple("0123456789")
    for index in (0, 1000, 1796):
        image = ours.read(index)
        assert (image.mode, image.size) == ("L", (8, 8))
        sixteenths = np.rint(np.asarray(image, dtype=np.float64) / 255 * 16)
        np.testing.assert_array_equal(sixteenths, stored.images[index])


def test_a_quarter_of_each_digit_is_held_out() -> None:
    data = open_data()
    assert (data.name, data.location) == ("digits", "digits")
    assert (len(data.train), len(data.validation)) == (1347, 450)
    held, all_of = np.bincount(data.validation.labels), np.bincount(digits().labels)
    assert np.abs(held - all_of / 4).max() <= 0.5
    rows = {part.describe(i) for part in (data.train, data.validation) for i in range(len(part))}
    assert rows == {f"digits row {row}" for row in range(1797)}


def test_the_held_out_quarter_is_pinned() -> None:
    # Scores of all runs and versions compare only while these stay the same pictures.
    data = open_data()
    assert [data.validation.describe(i) for i in range(4)] == [
        f"digits row {row}" for row in (0, 10, 20, 32)
    ]
    assert data.fingerprint == ("8cae9ed56a499ff2d3eed71f017900678809b42c1bdbb4219632d51fb55d7673")


def test_a_folder_of_that_name_needs_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "digits", {"a": 2, "b": 2})
    monkeypatch.chdir(tmp_path)
    assert open_data("digits").classes == tuple("0123456789")
    assert open_data("./digits").classes == ("a", "b")
