"""Which images are scored on, and where the bytes of each image are."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnext.data import Encoded, Source, open_data, open_evaluation, open_source
from resnext.data.subset import Subset
from resnext.errors import DataError
from unit.data.pictures import encoded, picture, write_folder, write_parquet


def test_the_digits_that_are_never_trained_on() -> None:
    assert open_evaluation().fingerprint() == open_data().validation.fingerprint()


@pytest.mark.parametrize("name", ["val", "test"])
@pytest.mark.parametrize("beside", ["train", None])
def test_a_folder_kept_for_it(name: str, beside: str | None, tmp_path: Path) -> None:
    write_folder(tmp_path / name, {"a": 1, "b": 1})
    if beside:
        write_folder(tmp_path / beside, {"a": 3, "b": 3})
    source = open_evaluation(tmp_path)
    assert source.labels.tolist() == [0, 1]
    assert source.describe(1) == str(tmp_path / name / "b" / "0.png")


def test_all_images_where_none_are_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "one of each", {"a": 1, "b": 1, "c": 1})
    assert len(open_evaluation(tmp_path / "one of each")) == 3
    write_folder(tmp_path / "cars", {"car": 2, "test": 1})
    assert len(open_evaluation(tmp_path / "cars")) == 3


def test_parquet_files_kept_for_it(tmp_path: Path) -> None:
    contents = [encoded(picture(number)) for number in range(4)]
    write_parquet(tmp_path / "test.parquet", contents[:2], [0, 1])
    assert open_evaluation(tmp_path).labels.tolist() == [0, 1]
    write_parquet(tmp_path / "train.parquet", contents, [0, 1, 2, 2])
    assert open_evaluation(tmp_path).classes == ("0", "1", "2")
    (tmp_path / "test.parquet").unlink()
    (tmp_path / "train.parquet").rename(tmp_path / "all.parquet")
    assert len(open_evaluation(tmp_path)) == 4


def test_nothing_to_score_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder per class, found nothing"):
        open_evaluation(tmp_path)


def image_of(place: Encoded | None) -> Image.Image:
    assert place is not None
    if place.data is not None:
        return Image.open(io.BytesIO(place.data))
    assert place.path is not None
    with place.path.open("rb") as file:
        file.seek(place.offset)
        return Image.open(io.BytesIO(file.read(place.size)))


def test_the_bytes_are_those_of_the_image(tmp_path: Path) -> None:
    folder = open_source(write_folder(tmp_path / "folder", {"a": 2, "b": 2}))
    contents = [encoded(picture(number)) for number in range(4)]
    rows = open_source(write_parquet(tmp_path / "x.parquet", contents, [0, 0, 1, 1]))
    part = Subset(folder, np.array([3, 1]))
    sources: list[tuple[Source, list[int]]] = [
        (folder, [0, 1, 2, 3]),
        (rows, [0, 1, 2, 3]),
        (part, [3, 1]),
    ]
    for source, seeds in sources:
        for index, seed in enumerate(seeds):
            expected = np.asarray(picture(seed))
            np.testing.assert_array_equal(np.asarray(image_of(source.encoded(index))), expected)
            np.testing.assert_array_equal(np.asarray(source.read(index)), expected)


def test_pixels_in_memory_have_no_bytes() -> None:
    assert open_data().train.encoded(0) is None
