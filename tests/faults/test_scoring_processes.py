"""Two and three processes score as one: every image once, and the same figures."""

import io
import json
import subprocess
import sys

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet as pq

from resnext import build
from resnext.evaluation.score_files import load_scores
from resnext.training.checkpoint import save_weights

EVALUATE = (
    *("evaluate", "w.safetensors", "--data", "photos", "--profile", "pil-32", "--device", "cpu"),
    *("--workers", "0", "--json"),
)
ONE_BY_ONE = ("--batch-size", "1")
"""Then no sum depends on which images go together, and the figures are equal to the bit."""


@pytest.fixture
def place(tmp_path):
    """Eleven pictures of four classes and weights."""
    for number in range(11):
        folder = tmp_path / "photos" / "abcd"[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        size = (40 + number, 48)
        Image.effect_noise(size, 20 * number + 5).convert("RGB").save(folder / f"{number}.png")
    model = build("ResNeXt-11 (2x2d, CIFAR)", classes=4, seed=0)
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    return tmp_path


def figures(ended):
    assert (ended.status, ended.err) == (0, "")
    record = json.loads(ended.out)
    return {name: value for name, value in record.items() if name != "images_per_second"}


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("protocol", ["single view", "dense-32+40", "ten-crop-32"])
def test_several_have_the_figures_of_one(injector, place, ranks, protocol):
    words = (*EVALUATE, *ONE_BY_ONE, "--protocol", protocol)
    alone = injector.run(place, (*words, "--save-scores", "one.safetensors"))
    words = (*words, "--save-scores", f"{ranks}.safetensors")
    first, *others = injector.run_all(place, words, ranks)
    assert figures(first) == figures(alone)
    assert [(end.status, end.out, end.err) for end in others] == [(0, "", "")] * (ranks - 1)
    one, several = (load_scores(place / f"{name}.safetensors") for name in ("one", ranks))
    assert several.scores.tolist() == one.scores.tolist()
    assert several.labels.tolist() == one.labels.tolist()


def test_more_processes_than_images_and_an_ensemble(injector, place):
    for number in range(2, 11):
        (place / "photos" / "abcd"[number % 4] / f"{number}.png").unlink()
    for name in "cd":
        (place / "photos" / name).rmdir()
    model = build("ResNeXt-11 (2x2d, CIFAR)", classes=2, seed=0)
    save_weights(place / "w.safetensors", model.state_dict())
    words = (*EVALUATE, *ONE_BY_ONE, "--ensemble")
    alone, (first, *_) = injector.run(place, words), injector.run_all(place, words, 3)
    without_rates = [
        [{**record, "images_per_second": None} for record in json.loads(end.out)]
        for end in (alone, first)
    ]
    assert without_rates[0] == without_rates[1]


def test_labels_and_files_that_are_wrong_end_all_with_one_line(injector, place):
    (place / "photos" / "d" / "7.png").write_bytes(b"none")
    ends = injector.run_all(place, (*EVALUATE, *ONE_BY_ONE), 2)
    assert [end.status for end in ends] == [3, 3]
    assert any("7.png" in end.err for end in ends)


@pytest.mark.slow
def test_launch_scores_as_one(place):
    def scored(*before):
        command = [sys.executable, "-m", "resnext", *before, *EVALUATE, *ONE_BY_ONE]
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=200, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        record = json.loads(done.stdout)
        return record | {"images_per_second": None}

    assert scored("launch", "--processes", "2") == scored()


IMAGES = 50_001
"""One more than ImageNet's validation images: no number of processes shares them out evenly."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_50001_images_have_one_error_whoever_counts(injector, tmp_path):
    def encoded(number):
        file = io.BytesIO()
        Image.effect_noise((16, 16), number).convert("RGB").save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    pictures = [encoded(number) for number in range(97)]
    labels = [number % 12 for number in range(IMAGES)]
    table = pa.table({"image": [pictures[n % 97] for n in range(IMAGES)], "label": labels})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "test.parquet")
    pq.write_table(table.slice(0, 12), tmp_path / "data" / "train.parquet")
    model = build("ResNeXt-11 (2x2d, CIFAR)", classes=12, seed=0)
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    words = (
        *("evaluate", "w.safetensors", "--data", "data", "--profile", "pil-16"),
        *("--device", "cpu", "--workers", "0", "--batch-size", "64", "--json"),
    )
    found = {}
    for ranks in (1, 2, 3, 8):
        first, *others = injector.run_all(tmp_path, words, ranks)
        assert [(end.status, end.err) for end in (first, *others)] == [(0, "")] * ranks
        record = json.loads(first.out)
        found[ranks] = (record["samples"], record["top1_error"], record["top5_error"])
    assert found[1][0] == IMAGES
    assert 80 < found[1][1] < 100
    assert found == dict.fromkeys((1, 2, 3, 8), found[1])
