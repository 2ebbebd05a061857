"""ILSVRC's folders as they are downloaded: a flat val/ whose classes stand in another file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import io

from resnext.data import DataSet, open_data, open_evaluation, open_source
from resnext.errors import DataError
from unit.data.pictures import encoded, picture, write_folder
from unit.data.test_tar import write_tar

WNIDS = ("n01440764", "n01443537", "n01484850")
ANSWERS = (2, 0, 1, 2)
"""Class of each validation image, as a position in `WNIDS`."""

NUMBERS = {"n01440764": 3, "n01443537": 1, "n01484850": 2}
"""The devkit counts in an order of its own."""


def image_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}"


def write_images(root: Path) -> Path:
    write_folder(root / "train", dict.fromkeys(WNIDS, 2))
    (root / "val").mkdir()
    for number in range(1, len(ANSWERS) + 1):
        content = encoded(picture(50 + number), "JPEG")
        (root / "val" / f"{image_name(number)}.JPEG").write_bytes(content)
    return root


def write_solution(folder: Path) -> None:
    rows = [f"{image_name(n)},{WNIDS[a]} 85 1 499 272" for n, a in enumerate(ANSWERS, 1)]
    lines = ["ImageId,PredictionString", *reversed(rows)]
    (folder / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")


def write_numbers(folder: Path) -> None:
    lines = "".join(f"{NUMBERS[WNIDS[answer]]}\n" for answer in ANSWERS)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)


def write_devkit(folder: Path) -> None:
    """With meta.mat: a table of synsets, the inner nodes of the hierarchy among them."""
    write_numbers(folder)
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, "a fish", 0) for wnid, number in NUMBERS.items()]
    synsets = np.array([*rows, (1001, "n00001740", "entity", 2)], dtype=kind).reshape(-1, 1)
    io.savemat(folder / "meta.mat", {"synsets": synsets})


def write_map(folder: Path) -> None:
    write_numbers(folder)
    lines = "".join(f"{wnid} {number} a_fish\n" for wnid, number in NUMBERS.items())
    (folder / "map_clsloc.txt").write_text(lines)


def write_synset_labels(folder: Path) -> None:
    lines = "".join(f"{WNIDS[answer]}\n" for answer in ANSWERS)
    (folder / "imagenet_2012_validation_synset_labels.txt").write_text(lines)


def check(data: DataSet) -> None:
    assert data.classes == WNIDS
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.validation.labels.tolist() == list(ANSWERS)
    for index in range(len(ANSWERS)):
        assert data.validation.describe(index).endswith(f"{image_name(index + 1)}.JPEG")


@pytest.mark.parametrize("write", [write_solution, write_devkit, write_map, write_synset_labels])
@pytest.mark.parametrize("where", [".", "val", "ILSVRC2012_devkit_t12/data"])
def test_where_the_answers_may_be(write: object, where: str, tmp_path: Path) -> None:
    root = write_images(tmp_path)
    (root / where).mkdir(parents=True, exist_ok=True)
    assert callable(write)
    write(root / where)
    check(open_data(root))
    for location in (root, root / "val"):
        source = open_evaluation(location)
        assert source.labels.tolist() == list(ANSWERS)
        assert source.classes == WNIDS


@pytest.mark.parametrize("write", [write_solution, write_map, write_synset_labels])
def test_answers_may_begin_with_a_byte_order_mark(write: object, tmp_path: Path) -> None:
    root = write_images(tmp_path)
    assert callable(write)
    write(root)
    for path in [*root.glob("*.txt"), *root.glob("*.csv")]:
        path.write_text(path.read_text(), encoding="utf-8-sig")
    check(open_data(root))


def test_kaggles_archive_by_its_top_or_by_its_images(tmp_path: Path) -> None:
    inner = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    write_images(inner)
    (inner / "test").mkdir()
    write_solution(tmp_path)
    check(open_data(tmp_path))
    check(open_data(inner))


def test_a_val_folder_of_class_folders_needs_no_answers(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    shutil.rmtree(root / "val")
    write_folder(root / "val", dict.fromkeys(WNIDS, 1))
    assert open_data(root).validation.labels.tolist() == [0, 1, 2]


def test_a_part_of_the_images_has_their_own_answers(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    write_map(root)
    (root / "val" / f"{image_name(1)}.JPEG").unlink()
    assert open_data(root).validation.labels.tolist() == list(ANSWERS[1:])


def test_the_tar_files_as_downloaded(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images")
    inner = {}
    for wnid in WNIDS:
        files = {f"{wnid}_{p.name}": p.read_bytes() for p in (root / "train" / wnid).iterdir()}
        inner[f"{wnid}.tar"] = write_tar(tmp_path / "inner.tar", files).read_bytes()
    (tmp_path / "archives").mkdir()
    write_tar(tmp_path / "archives" / "ILSVRC2012_img_train.tar", inner)
    flat = {p.name: p.read_bytes() for p in (root / "val").iterdir()}
    write_tar(tmp_path / "archives" / "ILSVRC2012_img_val.tar", dict(sorted(flat.items())))
    write_solution(tmp_path / "archives")
    check(open_data(tmp_path / "archives"))


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_data(root)
    message = str(caught.value)
    assert "expected" in message
    assert "found" in message
    assert "\n" not in message
    return message


def test_without_answers_the_message_names_the_files(tmp_path: Path) -> None:
    message = refused(write_images(tmp_path))
    for name in (
        "a folder per class",
        "LOC_val_solution.csv",
        "ILSVRC2012_validation_ground_truth.txt (with meta.mat)",
        "imagenet_2012_validation_synset_labels.txt",
    ):
        assert name in message


def test_answers_that_cannot_be_read(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    write_numbers(root)
    assert "expected meta.mat or map_clsloc.txt beside it" in refused(root)
    (root / "meta.mat").write_bytes(b"no table" * 40)
    assert "meta.mat: expected the devkit's table of synsets, found" in refused(root)
    (root / "meta.mat").unlink()
    (root / "map_clsloc.txt").write_text("kit_fox\n")
    assert "map_clsloc.txt line 1: expected 'wnid number name', found 'kit_fox'" in refused(root)
    write_map(root)
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n7\n")
    assert "line 2: expected a class number of map_clsloc.txt, found '7'" in refused(root)
    write_solution(root)
    text = (root / "LOC_val_solution.csv").read_text()
    (root / "LOC_val_solution.csv").write_text(text.replace("n01484850", "shark", 1))
    assert "line 2: expected ILSVRC2012_val_... and a wnid" in refused(root)


def test_answers_that_do_not_fit(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    write_synset_labels(root)
    shutil.rmtree(root / "train" / WNIDS[2])
    message = refused(root)
    assert f"expected one of the 2 classes of train/, found {WNIDS[2]}" in message
    write_folder(root / "train", {WNIDS[2]: 1})
    path = root / "imagenet_2012_validation_synset_labels.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert f"expected the class of {image_name(4)}.JPEG, found none" in refused(root)
    (root / "val" / "other.JPEG").write_bytes(b"")
    write_synset_labels(root)
    assert "expected the class of other.JPEG, found none" in refused(root)


def test_a_flat_folder_of_other_images_is_no_validation_set(tmp_path: Path) -> None:
    (tmp_path / "x.JPEG").write_bytes(encoded(picture(0), "JPEG"))
    with pytest.raises(DataError, match="expected a folder per class, found 1 images without one"):
        open_source(tmp_path)
