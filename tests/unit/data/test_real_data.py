"""Real pictures, where RESNEXT_DATA names a folder that has some."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from resnext.data import (
    default_profile,
    evaluation_batches,
    open_data,
    open_source,
    profile,
    train_batches,
)
from resnext.errors import DataError
from unit.data.pictures import write_parquet


def real(name: str) -> Path:
    root = os.environ.get("RESNEXT_DATA")
    if root is None or not (Path(root) / name).exists():
        pytest.skip(f"RESNEXT_DATA names no folder with {name}")
    return Path(root) / name


def test_cifar10_from_parquet() -> None:
    data = open_data(real("cifar10-jpeg"))
    assert (len(data.train), len(data.validation)) == (50_000, 10_000)
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert default_profile(data).name == "cifar10"
    table = pq.read_table(real("cifar10-jpeg") / "train.parquet")
    for row in (0, 999, 1000, 49_999):
        stored = table.slice(row, 1).to_pylist()[0]
        assert int(data.train.labels[row]) == stored["label"]
        with Image.open(io.BytesIO(stored["img"]["bytes"])) as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(np.asarray(data.train.read(row)), expected)


def test_cifar10_has_the_authors_mean_and_deviation() -> None:
    data = open_data(real("cifar10-jpeg"))
    some = np.random.default_rng(0).permutation(50_000)[:2000]
    values = torch.stack([profile("cifar10").evaluate(data.train.read(int(i))) for i in some])
    # The constants are of all images before their encoding as JPEG; of 2000 the mean is known to
    # about 0.012 (deviation between images / sqrt(2000)), measured 0.005 and 0.013.
    assert float(values.mean().abs()) < 0.04
    assert abs(float(values.std()) - 1) < 0.04


def test_imagenet_pictures_through_a_folder_and_through_parquet(tmp_path: Path) -> None:
    folder = open_source(real("imagenet-samples") / "val")
    count = len(folder)
    assert count >= 60
    files = [Path(folder.describe(index)) for index in range(count)]
    assert [file.parent.name for file in files] == [folder.classes[n] for n in folder.labels]
    rows = open_source(
        write_parquet(
            tmp_path / "val.parquet",
            [file.read_bytes() for file in files],
            folder.labels.tolist(),
            names=list(folder.classes),
            group=10,
        )
    )
    assert rows.classes == folder.classes
    photo = profile("pil-64")
    views = [
        list(train_batches(source, photo, batch_size=16, seed=1, epoch=0))
        for source in (folder, rows)
    ]
    for ours, theirs in zip(*views, strict=True):
        assert ours.labels.equal(theirs.labels)
        assert ours.images.equal(theirs.images)


def test_imagenet_pictures_become_plausible_numbers() -> None:
    source = open_source(real("imagenet-samples") / "val")
    batches = evaluation_batches(source, profile("pil-224"), batch_size=32)
    images = torch.cat([batch.images for batch in batches])
    assert images.shape == (len(source), 3, 224, 224)
    # ImageNet's mean and deviation bring any 60 photos near 0 and 1; measured -0.17 and 1.20.
    assert abs(float(images.mean())) < 0.4
    assert 0.8 < float(images.std()) < 1.4


def test_one_picture_per_class_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least 2 images of class 'n0"):
        open_data(real("imagenet-samples") / "val")


def test_a_folder_of_photos_without_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"expected train/ beside|expected images"):
        open_data(real("coco-tiny"))
