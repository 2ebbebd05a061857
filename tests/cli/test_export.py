import json

import pytest

from resnext.cli.main import run
from resnext.deploy import artifact_of_model, load, save
from unit.deploy.networks import settled

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

NETWORK = "ResNeXt-11 (2x4d, CIFAR, 10 classes, 1 channel)"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(artifact_of_model(settled(NETWORK)), "a")
    return tmp_path


def resnext(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        run(words)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_without_a_format_it_is_an_artifact(here, capsys):
    (here / "names.txt").write_text("".join(f"digit-{n}\n" for n in range(10)))
    _, out, _ = resnext(capsys, "evaluate", "a", "--data", "digits", "--json")
    (here / "scores.json").write_text(out)
    code, out, _ = resnext(
        capsys, "export", "a", "--out", "deep/b", "--class-names", "names.txt", "--licence", "mit",
        "--scores", "scores.json", "--description", "Digits of many hands.",
    )  # fmt: skip
    assert code == 0
    assert out.splitlines()[-1] == "next      resnext predict deep/b PICTURE"
    found = load("deep/b")
    assert found.classes[3] == "digit-3"
    assert (found.record.licence, found.record.description) == ("mit", "Digits of many hands.")
    assert found.record.scores[0].samples == 450
    card = (here / "deep" / "b" / "README.md").read_text()
    assert "Digits of many hands." in card


def test_a_file_comes_with_its_report(here, capsys):
    words = ("export", "a", "--out", "x", "--format", "torch", "--calibrate", "digits")
    code, out, _ = resnext(capsys, *words)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["images", "side"]
    assert len([line for line in out.splitlines() if line.endswith("100.0 %")]) == 6
    assert "accuracy  100.00 % of 450 images in the same class; top-1 accuracy" in out
    report = json.loads((here / "x.pt2.parity.json").read_text())
    assert (report["format"], report["precision"], report["folded"]) == ("torch", "fp32", True)
    code, out, _ = resnext(capsys, *words, "--replace", "--keep-bn", "--json")
    found = json.loads(out)
    assert (code, found["file"], found["folded"]) == (0, "x.pt2", False)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a"], 2, "expected the option --out"),
        (["a", "--out", "a"], 2, "found the artifact a; nothing was changed, say --replace"),
        (["nowhere", "--out", "x"], 2, "no run folder, artifact or file of weights is at"),
        (["a", "--out", "x", "--format", "tflite"], 2, "expected a format out of artifact, torch"),
        (["a", "--out", "x", "--precision", "bf16"], 2, "expected a --format out of torch, onnx"),
        (["a", "--out", "x", "--format", "onnx", "--precision", "int8"], 2, "say --calibrate"),
        (["a", "--out", "x", "--format", "onnx", "--calibrate", "nowhere"], 3, "expected data"),
        (
            ["a", "--out", "x", "--scores", "a/config.json"],
            3,
            "what resnext evaluate --json prints",
        ),
        (["a", "--out", "x", "--scores", "nowhere"], 3, "expected JSON of resnext evaluate"),
        (["a", "--out", "a/README.md/x"], 2, "cannot make a/README.md"),
        (["a", "--out", "hub:me/x", "--format", "onnx"], 2, "only an artifact goes to the hub"),
        (["a", "--out", "hub:me/x", "--replace"], 2, "expected a folder or file beside --replace"),
        (["a", "--out", "x", "--public"], 2, "expected --out hub:OWNER/NAME beside --public, "),
        (["a", "--out", "x", "--keep-bn"], 2, "beside --precision, --calibrate, --fold-bn or --ke"),
        (["a", "--out", "x", "--fold-bn"], 2, "beside --precision, --calibrate, --fold-bn or --ke"),
        (
            ["a", "--out", "x", "--format", "onnx", "--description", "A b."],
            2,
            "expected --format artifact beside --description, found --format onnx",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(here, capsys, words, code, message):
    ended, out, err = resnext(capsys, "export", *words)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert message in err
    assert [path.name for path in here.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["x.pt2", "x.onnx", "x.pth"])
def test_no_file_of_a_stranger_runs_code(here, capsys, name):
    import pickle

    class Harm:
        def __reduce__(self):
            return (open, ("canary", "w"))

    (here / name).write_bytes(pickle.dumps(Harm()))
    code, _, err = resnext(capsys, "predict", name, "a")
    assert (code, err.count("\n")) == (4, 1)
    assert not (here / "canary").exists()
