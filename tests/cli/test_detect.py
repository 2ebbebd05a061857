import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from cli.test_train import outcome
from resnext.errors import ResourceError
from unit.detection.scenes import write_scenes

FEW = ("shorter=[64]", "longer=96", "after=[40, 30]", "rois=8", "warmup=2")
SMALL = [word for setting in FEW for word in ("--set", setting)]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "data", "train2017", 6)
    write_scenes(tmp_path / "data", "val2017", 3, first=31)
    return tmp_path / "data"


@pytest.fixture
def run(data, capsys):
    status, out, err = outcome(
        capsys, "detect", "train", "--data", data, "--out", "run", "--steps", 8, "--batch-size", 2,
        "--device", "cpu", *SMALL,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "data     train2017: 6 of 6 pictures to train on" in out
    assert "nms 0.5" in out
    assert out.endswith("next     resnext detect evaluate run\n")
    return "run"


def test_evaluate_saves_and_scores_again(run, data, capsys):
    status, out, _ = outcome(capsys, "detect", "evaluate", run, "--save", "found.json")
    assert status == 0
    assert out.startswith("AP  ")
    assert "val2017 in" in out
    assert "the run's own" in out
    status, out, _ = outcome(capsys, "detect", "evaluate", run, "--json", "--backend", "faster")
    figures = json.loads(out)["boxes"]
    found = json.loads((data.parent / "found.json").read_text())
    assert figures["detections"] == len(found)
    status, out, _ = outcome(capsys, "detect", "evaluate", run, "--results", "found.json", "--json")
    again = json.loads(out)
    assert status == 0
    for field in ("ap", "ap50", "recall_100"):
        assert again[field] == pytest.approx(figures[field], abs=1e-12)
    status, out, _ = outcome(capsys, "detect", "evaluate", run, "--data", "data")
    assert status == 0


def test_a_page_shows_figures_and_pictures(run, data, capsys):
    status, out, err = outcome(capsys, "detect", "evaluate", run, "--report", "page")
    assert (status, err) == (0, "")
    assert out.endswith("report        page/detection.html\n")
    page = (data.parent / "page" / "detection.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3  # as many pictures as there are
    assert str(data.parent) not in page  # it may be sent to others
    assert (data.parent / "page" / "precision.csv").read_text().startswith("figure,")


def test_a_place_that_cannot_be_drawn_at_is_told(run, data, capsys):
    picture = next((data / "val2017").iterdir())
    status, _, err = outcome(capsys, "detect", "predict", run, picture, "--out", picture / "drawn")
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot make" in err
    assert err.endswith("Not a directory\n")


def test_predict_draws_and_prints_json(run, data, capsys):
    status, out, _ = outcome(
        capsys, "detect", "predict", run, data / "val2017", "--out", "drawn", "--least-score", 0
    )
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["file"].rpartition("/")[2] for line in lines] == [
        f"{number:012d}.jpg" for number in (31, 32, 33)
    ]
    assert json.loads((data.parent / "drawn" / "predictions.json").read_text()) == lines
    with Image.open(data.parent / "drawn" / "000000000031.jpg") as drawn:
        assert drawn.size == (96, 64)


@pytest.mark.parametrize("folder", [".", "data/val2017"])
def test_drawings_never_replace_pictures(data, capsys, folder):
    before = {path: path.read_bytes() for path in (data / "val2017").iterdir()}
    words = ("detect", "predict", "data", "data/val2017", "--out", folder)
    status, _, err = outcome(capsys, *words)
    assert (status, err.count("\n")) == (2, 1)  # though data is no detector: nothing was loaded
    assert f"expected a new or empty folder for --out, found {folder}" in err
    assert {path: path.read_bytes() for path in (data / "val2017").iterdir()} == before


def test_pictures_of_one_name_are_drawn_beside_each_other(run, data, capsys):
    with Image.open(data / "val2017" / "000000000031.jpg") as picture:
        for folder, form in (("a", "png"), ("b", "jpg")):
            (data.parent / folder).mkdir()
            picture.save(data.parent / folder / f"x.{form}")
    status, out, err = outcome(
        capsys, "detect", "predict", run, "a/x.png", "b", "--out", "drawn", "--device", "cpu"
    )
    assert (status, err) == (0, "")
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["a/x.png", "b/x.jpg"]
    assert sorted(path.name for path in (data.parent / "drawn").iterdir()) == [
        "predictions.json", "x-2.jpg", "x.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
def test_pictures_that_cannot_be_used_are_named_and_the_others_predicted(run, data, capsys, batch):
    folder = data / "val2017"
    (folder / "._000000000031.jpg").write_bytes(b"what a Mac leaves")
    (folder / "000000000030.jpg").write_bytes(b"\xff\xd8 no picture")
    Image.new("RGB", (1, 200)).save(folder / "thin.png")
    words = ("detect", "predict", run, folder, "--out", "drawn", "--device", "cpu")
    status, out, err = outcome(capsys, *words, "--batch-size", batch)
    lines = [json.loads(line) for line in out.splitlines()]
    names = [f"{number:012d}.jpg" for number in (31, 32, 33)]
    assert [Path(line["file"]).name for line in lines] == names
    assert status == 3
    broken, thin, end = err.splitlines()
    assert broken.startswith(f"unusable: {folder / '000000000030.jpg'}: expected an image, found ")
    assert thin.startswith(f"unusable: {folder / 'thin.png'}: expected sides of at least ")
    assert end.endswith("expected pictures, found 2 of 5 that cannot be used, named above")
    assert json.loads((data.parent / "drawn" / "predictions.json").read_text()) == lines
    assert {path.name for path in (data.parent / "drawn").iterdir()} == {*names, "predictions.json"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--save", "gone/found.json"), "expected --save in a folder that exists, found none at"),
        (("--save", "data"), "expected a new file for --save, found data"),
        (("--report", "few.json/page"), "cannot make few.json/page: Not a directory"),
        (
            ("--results", "few.json", "--save", "found.json"),
            "expected neither --save nor --report beside --results",
        ),
    ],
)
def test_places_are_looked_at_before_hours_of_scoring(run, data, capsys, words, said):
    (data.parent / "few.json").write_text("[]")
    status, out, err = outcome(capsys, "detect", "evaluate", run, *words, "--device", "cpu")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize("words", [("--save", "found.json"), ("--report", "page")])
def test_figures_are_printed_before_anything_is_written(run, capsys, monkeypatch, words):
    def full(path, data):
        raise ResourceError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("resnext.files.write_bytes", full)
    status, out, err = outcome(capsys, "detect", "evaluate", run, *words, "--device", "cpu")
    assert (status, err.count("\n")) == (5, 1)
    assert out.startswith("AP  ")


def test_propose_says_how_much_is_found(run, data, capsys):
    status, out, err = outcome(capsys, "detect", "propose", run, "--out", "proposals")
    assert status == 0
    assert out.startswith("AR@100 ")
    status, _, err = outcome(capsys, "detect", "propose", run, "--out", "proposals")
    assert status == 2
    assert "expected a new or empty folder for --out, found proposals" in err


def test_the_same_line_again_is_finished_at_once(run, data, capsys):
    status, out, _ = outcome(
        capsys, "detect", "train", "--data", data, "--out", "run", "--steps", 8, "--batch-size", 2,
        "--device", "cpu", *SMALL,
    )  # fmt: skip
    assert status == 0
    assert "joint" not in out.partition("run      ")[2]
    status, out, _ = outcome(capsys, "detect", "train", "--resume", "run", "--device", "cpu")
    assert status == 0


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ((), 2, "expected --data, or --annotations with --images, found neither"),
        (("--data", "nowhere"), 3, "expected annotations/instances_train2017.json in nowhere"),
        (("--data", "data", "--split", "minival"), 3, "expected 5,000 images in minival, found 3"),
        (("--data", "data", "--split", "val"), 2, "expected a split out of train2014"),
        (("--split", "val2017"), 2, "expected --data beside --split val2017, found none"),
        (
            ("--annotations", "a.json", "--images", "a", "--eval-split", "minival"),
            2,
            "expected --data beside --eval-split minival, found none",
        ),
        (("--annotations", "a.json"), 2, "expected --images beside --annotations a.json, found"),
        (("--data", "data", "--images", "a"), 2, "expected --annotations beside --images a, found"),
        (
            ("--data", "data", "--eval-annotations", "mine.json"),
            2,
            "expected --annotations beside --eval-annotations mine.json, found none",
        ),
        (
            ("--annotations", "a.json", "--images", "a", "--eval-images", "b"),
            2,
            "expected --eval-annotations beside --eval-images b, found none",
        ),
        (("--data", "data", "--set", "nms=2"), 2, "expected nms"),
        (("--data", "data", "--set", "nms"), 2, "expected FIELD=VALUE for --set"),
        (("--data", "data", "--network", "ResNeXt-29 (8x64d)"), 2, "expected"),
        (("--data", "data", "--network", "ResNeXt-29 (8x64d, CIFAR)"), 2, "stages at strides"),
        (("--data", "data", "--weights", "gone"), 2, "expected --network beside --weights gone"),
        (("--data", "data", "--steps", "0"), 2, "expected at least 1 for steps, found 0"),
        (("--data", "data", "--profile", "best"), 2, "expected small or paper or modern"),
        (("--resume", "data"), 4, "expected a detector's folder, found data"),
        (("--resume", "data", "--steps", "3"), 2, "expected --resume alone"),
    ],
)
def test_wrong_words_are_refused_in_one_line(data, capsys, given, status, said):
    found, _, err = outcome(capsys, "detect", "train", "--device", "cpu", *given)
    assert (found, err.count("\n")) == (status, 1)
    assert err.startswith("resnext: error: ")
    assert said in err
    assert not (data.parent / "runs").exists()


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (("evaluate", "data"), 4, "expected a detector's folder"),
        (("predict", "data", "gone.jpg"), 3, "expected a picture or a folder"),
        (("predict", "data", "data/val2017"), 4, "expected a detector's folder"),
        (("propose", "gone"), 4, "no such folder"),
        (("propose", "gone", "--out", "data"), 2, "new or empty folder for --out, found data"),
        (("evaluate", "gone", "--split", "minival"), 2, "expected --data beside --split minival"),
        (("propose", "gone", "--split", "minival"), 2, "expected --data beside --split minival"),
        (
            ("evaluate", "gone", "--annotations", "a", "--images", "b", "--split", "val2017"),
            2,
            "expected --data beside --split val2017, found none",
        ),
        (("evaluate", "gone", "--images", "b"), 2, "expected --annotations beside --images b"),
        (("propose", "gone", "--annotations", "a"), 2, "expected --images beside --annotations a"),
        (("find",), 2, "expected a command, found 'find'"),
    ],
)
def test_commands_without_a_detector_say_so(data, capsys, given, status, said):
    found, _, err = outcome(capsys, "detect", *given)
    assert (found, err.count("\n")) == (status, 1)
    assert said in err


def test_a_broken_picture_ends_training_with_its_name(data, capsys):
    (data / "train2017" / "000000000003.jpg").write_bytes(b"\xff\xd8 no picture")
    status, _, err = outcome(
        capsys, "detect", "train", "--data", data, "--out", "run", "--steps", 8, "--device", "cpu",
        *SMALL,
    )  # fmt: skip
    assert status == 3
    assert "000000000003.jpg: expected an image" in err


def documented():
    """The commands for a first detector in docs/detect.md."""
    page = (Path(__file__).parents[2] / "docs" / "detect.md").read_text()
    block = page.partition("takes a minute:\n\n```console\n")[2].partition("```")[0]
    return [shlex.split(line)[1:] for line in block.splitlines()]


def test_the_commands_of_the_documentation_work(data, capsys):
    (data / "annotations" / "instances_train2017.json").rename("few.json")
    (data / "train2017").rename("pictures")
    train, evaluate = documented()
    status, _, err = outcome(capsys, *train, "--steps", 2, "--device", "cpu", *SMALL)
    assert (status, err) == (0, "")
    status, out, err = outcome(capsys, *evaluate)
    assert (status, err) == (0, "")
    assert out.startswith("AP ")
