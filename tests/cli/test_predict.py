import csv
import io
import json

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from resnext.cli.main import run
from resnext.deploy import artifact_of_model, save
from unit.deploy.networks import settled

NETWORK = "ResNeXt-11 (2x4d, CIFAR, 10 classes, 1 channel)"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with an artifact, three digits and a file that is none."""
    monkeypatch.chdir(tmp_path)
    save(artifact_of_model(settled(NETWORK)), "a")
    (tmp_path / "pictures").mkdir()
    for number, pixels in enumerate(load_digits().images[:3]):
        Image.fromarray((pixels * 15).astype("uint8")).save(f"pictures/{number}.png")
    (tmp_path / "pictures" / "bad.jpg").write_text("no picture")
    return tmp_path


def resnext(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        run(words)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_the_table_names_pictures_classes_and_what_is_unusable(here, capsys):
    code, out, err = resnext(capsys, "predict", "a", "pictures", "--top", "2")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:6:2]] == [f"pictures/{n}.png" for n in range(3)]
    assert all(line.split()[-2] == "%" for line in lines[:6])
    assert lines[6].startswith("3 pictures, 1 unusable: ResNeXt-11 (2×4d, CIFAR, 1 channel), ")
    assert code == 3
    assert "unusable: pictures/bad.jpg: expected an image, found none of" in err
    assert "found 1 of 4 that cannot be used" in err


def test_json_and_csv_say_the_same(here, capsys):
    words = ("predict", "a", "pictures/0.png", "pictures/1.png", "--top", "3")
    code, out, _ = resnext(capsys, *words, "--json")
    found = json.loads(out)
    assert (code, found["unusable"], len(found["pictures"])) == (0, [], 2)
    _, out, _ = resnext(capsys, *words, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    said = [each for picture in found["pictures"] for each in picture["classes"]]
    assert [row["class"] for row in rows] == [each["class"] for each in said]
    assert [float(row["probability"]) for row in rows] == pytest.approx(
        [each["probability"] for each in said], rel=1e-5
    )


def test_one_picture_comes_by_standard_input(here, capsys, monkeypatch):
    class Stdin:
        buffer = io.BytesIO((here / "pictures" / "1.png").read_bytes())

    monkeypatch.setattr("sys.stdin", Stdin)
    code, out, _ = resnext(capsys, "predict", "a", "-", "pictures/1.png", "--json")
    first, second = json.loads(out)["pictures"]
    assert (code, first["picture"]) == (0, "standard input")
    assert first["classes"] == second["classes"]


def test_maps_are_drawn_beside_each_other(here, capsys):
    (here / "more").mkdir()
    (here / "more" / "0.png").write_bytes((here / "pictures" / "0.png").read_bytes())
    words = ("predict", "a", "pictures/0.png", "more", "--explain", "maps")
    assert resnext(capsys, *words)[0] == 0
    assert sorted(path.name for path in (here / "maps").iterdir()) == ["0-2.png", "0.png"]
    with Image.open(here / "maps" / "0.png") as drawn:
        assert drawn.size == (224, 224)
    code, _, err = resnext(capsys, *words)
    assert (code, "expected a new or empty folder for --explain, found maps" in err) == (2, True)
    code, _, err = resnext(capsys, *words[:-1], "pictures/0.png/maps")
    assert (code, "cannot make pictures/0.png/maps: Not a directory" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a", "nowhere.png"], 3, "expected a picture or a folder, found no such thing"),
        (["nowhere", "pictures"], 2, "no run folder, artifact or file of weights is at"),
        (["a", "pictures", "--engine", "abacus"], 2, "expected an engine out of auto, torch"),
        (["a", "pictures", "--json", "--csv"], 2, "expected --json or --csv, found both"),
        (["a", "-", "-"], 2, "expected - once, found it twice"),
        (["a", "pictures", "--top", "0"], 2, "expected a whole number of at least 1 for --top"),
        (["a", "pictures", "--profile", "pil-64"], 2, "expected a profile of 1 channels"),
        (
            ["a", "pictures", "--calibrate", "digits"],
            2,
            "expected --precision int8 or --engine auto",
        ),
        (["a", "pictures", "--weights", "none"], 2, "for the 0 networks by name, found 1; a run"),
        (["a"], 2, "expected the argument"),
    ],
)
def test_what_cannot_be_done_is_one_line(here, capsys, words, code, message):
    ended, out, err = resnext(capsys, "predict", *words)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert message in err
