"""The real pictures in every form that people have them in: the same labels, names and pixels."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnext.data import Source, open_data, open_evaluation, open_source
from resnext.data.arrays import ArraySource
from unit.data.pictures import write_parquet
from unit.data.test_tar import write_tar

CIFAR_ROWS = 400
"""Of each part; a test of forms needs no more."""


def real(name: str) -> Path:
    root = os.environ.get("RESNEXT_DATA")
    if root is None or not (Path(root) / name).exists():
        pytest.skip(f"RESNEXT_DATA names no folder with {name}")
    return Path(root) / name


def rows(source: Source) -> list[tuple[str, bytes]]:
    """Class name and pixels of every image, in an order that no form decides."""
    found = []
    for index in range(len(source)):
        image = source.read(index)
        pixels = f"{image.mode} {image.size} ".encode() + image.tobytes()
        found.append((source.classes[int(source.labels[index])], pixels))
    return sorted(found)


def files(source: Source) -> list[tuple[str, bytes]]:
    """Class name and bytes as stored, for a decoder of its own."""
    found = []
    for index in range(len(source)):
        place = source.encoded(index)
        assert place is not None
        if place.data is None:
            assert place.path is not None
            with place.path.open("rb") as file:
                file.seek(place.offset)
                content = file.read(place.size)
        else:
            content = place.data
        found.append((source.classes[int(source.labels[index])], content))
    return sorted(found)


@pytest.fixture(scope="module")
def photos() -> Source:
    return open_source(real("imagenet-samples") / "val")


def contents(source: Source) -> dict[str, bytes]:
    """Path below the class folders -> file."""
    paths = [Path(source.describe(index)) for index in range(len(source))]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def flat_val(photos: Source, root: Path) -> Path:
    """ILSVRC's: numbered images in one folder, answers in another file, train/ for the classes."""
    (root / "val").mkdir(parents=True)
    lines = ["ImageId,PredictionString"]
    for number, (name, content) in enumerate(sorted(contents(photos).items(), reverse=True), 1):
        image = f"ILSVRC2012_val_{number:08d}"
        (root / "val" / f"{image}.JPEG").write_bytes(content)
        lines.append(f"{image},{name.split('/')[0]} 1 2 3 4")
        (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "train" / name).write_bytes(content)
    (root / "LOC_val_solution.csv").write_text("\n".join(lines))
    return root


def class_folders_in_a_tar(photos: Source, root: Path) -> Path:
    return write_tar(root / "val.tar", contents(photos))


def a_tar_per_class_in_a_tar(photos: Source, root: Path) -> Path:
    inner: dict[str, dict[str, bytes]] = {}
    for name, content in contents(photos).items():
        folder, _, base = name.partition("/")
        inner.setdefault(folder, {})[base] = content
    archives = {
        f"{name}.tar": write_tar(root / "inner.tar", files).read_bytes()
        for name, files in inner.items()
    }
    return write_tar(root / "ILSVRC2012_img_val.tar", archives)


def shards(photos: Source, root: Path) -> Path:
    members: list[dict[str, bytes]] = [{}, {}, {}]
    for number, (name, content) in enumerate(contents(photos).items()):
        label = photos.classes.index(name.split("/")[0])
        members[number % 3] |= {
            f"{number:06d}.jpg": content,
            f"{number:06d}.cls": str(label).encode(),
        }
    for number, shard in enumerate(members):
        write_tar(root / f"val-{number:06d}.tar", shard)
    (root / "classes.txt").write_text("\n".join(photos.classes))
    return root


def parquet(photos: Source, root: Path) -> Path:
    stored = contents(photos)
    labels = [photos.classes.index(name.split("/")[0]) for name in stored]
    names = list(photos.classes)
    write_parquet(
        root / "validation-0.parquet", list(stored.values()), labels, names=names, group=10
    )
    return root


@pytest.mark.parametrize(
    "form", [flat_val, class_folders_in_a_tar, a_tar_per_class_in_a_tar, shards, parquet]
)
def test_imagenet_pictures(form: object, photos: Source, tmp_path: Path) -> None:
    assert len(photos) >= 60
    assert callable(form)
    source = open_evaluation(form(photos, tmp_path))
    assert source.classes == photos.classes
    assert rows(source) == rows(photos)
    assert files(source) == files(photos)


def test_flat_ilsvrc_beside_its_training_folder(photos: Source, tmp_path: Path) -> None:
    data = open_data(flat_val(photos, tmp_path))
    assert rows(data.train) == rows(data.validation) == rows(photos)


def cifar_rows(part: str) -> tuple[list[bytes], list[int]]:
    table = pq.read_table(real("cifar10-jpeg") / f"{part}.parquet").slice(0, CIFAR_ROWS)
    images = [row["bytes"] for row in table.column("img").to_pylist()]
    return images, table.column("label").to_pylist()


@pytest.fixture(scope="module")
def names() -> tuple[str, ...]:
    return open_source(real("cifar10-jpeg") / "test.parquet").classes


def small_parquet(root: Path, names: tuple[str, ...]) -> Path:
    for part in ("train", "test"):
        write_parquet(root / f"{part}.parquet", *cifar_rows(part), names=list(names), group=100)
    return root


def cifar_files(part: str, names: tuple[str, ...]) -> dict[str, bytes]:
    images, labels = cifar_rows(part)
    paired = enumerate(zip(images, labels, strict=True))
    return {f"{names[label]}/{row:05d}.jpg": image for row, (image, label) in paired}


def folders(root: Path, names: tuple[str, ...]) -> Path:
    for part in ("train", "test"):
        for name, content in cifar_files(part, names).items():
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
            (root / part / name).write_bytes(content)
    return root


def tars(root: Path, names: tuple[str, ...]) -> Path:
    for part in ("train", "test"):
        write_tar(root / f"{part}.tar", cifar_files(part, names))
    return root


def cifar_shards(root: Path, names: tuple[str, ...]) -> Path:
    for part in ("train", "test"):
        members: dict[str, bytes] = {}
        for row, (image, label) in enumerate(zip(*cifar_rows(part), strict=True)):
            members |= {f"{row:05d}.jpg": image, f"{row:05d}.json": b'{"label": %d}' % label}
        write_tar(root / f"{part}-000000.tar", members)
    (root / "classes.txt").write_text("\n".join(names))
    return root


@pytest.mark.parametrize("form", [folders, tars, cifar_shards])
def test_cifar10(form: object, names: tuple[str, ...], tmp_path: Path) -> None:
    assert callable(form)
    expected = open_data(small_parquet(tmp_path / "parquet", names))
    data = open_data(form(tmp_path / "form", names))
    assert data.classes == expected.classes == names
    assert len(data.train) == len(data.validation) == CIFAR_ROWS
    assert rows(data.train) == rows(expected.train)
    assert rows(data.validation) == rows(expected.validation)


def test_cifar10_as_pixels_in_memory(names: tuple[str, ...], tmp_path: Path) -> None:
    """The published binary files hold pixels: here the decoded ones, as the JPEGs are lossy."""
    expected = open_data(small_parquet(tmp_path, names)).train
    images, labels = cifar_rows("train")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])
    ours = ArraySource(
        title="cifar10 train", pixels=pixels, labels=np.array(labels, dtype=np.int64), classes=names
    )
    assert rows(ours) == rows(expected)
