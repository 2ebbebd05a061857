import json

import pytest
from PIL import Image

from resnext import build
from resnext.cli.main import run
from resnext.training.checkpoint import save_weights

NETWORK = "ResNeXt-11 (2x2d, CIFAR)"


def outcome(capsys, *words):
    """The exit code, stdout and stderr of the command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Twelve pictures of two classes, of two shapes, and two files of weights."""
    monkeypatch.chdir(tmp_path)
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(6):
            size = (48, 40) if number % 2 else (40, 60)
            shade = tuple(value + 5 * number for value in colour)
            Image.new("RGB", size, shade).save(folder / f"{number}.png")
    for seed in (1, 2):
        model = build(NETWORK, classes=2, seed=seed)
        save_weights(tmp_path / f"w{seed}.safetensors", model.state_dict())
    return tmp_path


USUAL = ("--data", "photos", "--profile", "pil-32", "--device", "cpu", "--workers", 0)


def scored(capsys, *words):
    status, out, err = outcome(capsys, "evaluate", *words, *USUAL, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize(
    ("protocol", "profile", "others"),
    [
        ("center-32", "pil-32", 0),
        ("center-32@36,flip", "pil-32@36", 1),
        ("ten-crop-32", "pil-32", 1),
        ("dense-32+48", "pil-32", 1),
        ("dense-48,no-flip,probabilities", "pil-32", 1),
    ],
)
def test_every_protocol_scores_every_image_and_says_so(place, capsys, protocol, profile, others):
    record = scored(capsys, "w1.safetensors", "--protocol", protocol)
    assert (record["samples"], record["protocol"], record["profile"]) == (12, protocol, profile)
    assert len(record["others"]) == others
    assert record["interval"] == "Wilson 95 %"
    assert {row[0] for row in record["confusion"]} <= {"red", "blue"}


def test_tables_of_one_and_of_several(place, capsys):
    status, out, err = outcome(capsys, "evaluate", "w1.safetensors", *USUAL)
    assert (status, err) == (0, "")
    for text in ("95 % from", "calibration", "worst", "images/s", "single view, profile pil-32"):
        assert text in out
    words = ("evaluate", "w1.safetensors", NETWORK, "--weights", "w2.safetensors", "--ensemble")
    status, out, err = outcome(capsys, *words, *USUAL)
    assert (status, err) == (0, "")
    head, first, second, both, *_ = out.splitlines()
    assert head.split()[:2] == ["top-1", "95"]
    assert "ResNeXt-11 (2×2d, CIFAR, 2 classes)" in first
    assert "ResNeXt-11 (2×2d, CIFAR, 2 classes)" in second
    assert "ensemble of 0.5 ResNeXt-11" in both


def test_weights_that_are_no_numbers_are_said_to_be(place, capsys):
    weights = build(NETWORK, classes=2, seed=1).state_dict()
    weights["fc.bias"].fill_(float("nan"))
    save_weights(place / "broken.safetensors", weights)
    warning = "the scores of 12 images are no numbers"
    assert warning in outcome(capsys, "evaluate", "broken.safetensors", *USUAL)[1]
    both = outcome(capsys, "evaluate", "broken.safetensors", "w1.safetensors", *USUAL)[1]
    assert both.count(warning) == 1
    assert scored(capsys, "broken.safetensors")["not_finite"] == 12
    assert scored(capsys, "w1.safetensors")["not_finite"] == 0


def test_scores_are_saved_read_again_and_joined(place, capsys):
    for seed in (1, 2):
        scored(capsys, f"w{seed}.safetensors", "--save-scores", f"s{seed}.safetensors")
    status, out, _ = outcome(capsys, "evaluate", "s1.safetensors", "--json")
    assert status == 0
    again, first = json.loads(out), scored(capsys, "w1.safetensors")
    for name in ("top1_error", "loss", "calibration_error", "confusion", "fingerprint"):
        assert again[name] == first[name]
    words = ("s1.safetensors", "s2.safetensors", "--ensemble", "--shares", "3,1", "--json")
    status, out, _ = outcome(capsys, "evaluate", *words)
    assert status == 0
    joined = json.loads(out)[-1]
    models = scored(capsys, "w1.safetensors", "w2.safetensors", "--ensemble", "--shares", "3,1")[-1]
    assert joined["loss"] == models["loss"]


@pytest.fixture
def scores(place, capsys):
    """The scores of both files of weights, under pil-32, each image seen once."""
    for seed in (1, 2):
        scored(capsys, f"w{seed}.safetensors", "--save-scores", f"s{seed}.safetensors")
    return place


@pytest.mark.parametrize(
    "words",
    [
        ["--data", "nowhere"],
        ["--protocol", "single view"],
        ["--profile", "pil-32"],
        ["--class-names", "names.txt"],
        ["--engine", "auto"],
        ["--precision", "fp32"],
        ["--compile"],
        ["--batch-size", "4"],
        ["--device", "cpu"],
        ["--workers", "0"],
    ],
    ids=lambda words: words[0],
)
def test_what_was_measured_is_not_measured_in_another_way(scores, capsys, words):
    (scores / "names.txt").write_text("blue\nred\n")
    for given in (["s1.safetensors"], ["s1.safetensors", "s2.safetensors", "--ensemble"]):
        code, out, err = outcome(capsys, "evaluate", *given, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert (
            f"expected no {words[0]} for scores that were measured before, found {' '.join(words)};"
        ) in err


@pytest.mark.parametrize(
    "given", ["s1.safetensors w2.safetensors", "w2.safetensors s1.safetensors"]
)
def test_beside_a_network_scores_are_of_the_protocol_and_profile_asked_for(scores, capsys, given):
    assert len(scored(capsys, *given.split(), "--protocol", "single view", "--ensemble")) == 3
    for words, message in (
        (["--protocol", "center-32"], "of protocol center-32, found single view in s1.safetensors"),
        (["--profile", "pil-48"], "of profile pil-48, found pil-32 in s1.safetensors"),
    ):
        code, out, err = outcome(capsys, "evaluate", *given.split(), *USUAL, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"expected scores {message}; " in err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (
            ["w1.safetensors", "--protocol", "centre"],
            2,
            "expected a protocol: 'single view', center",
        ),
        (["resnext50_32x4d"], 2, "nothing is downloaded; say --weights FILE"),
        (["nothing.pth"], 2, "no run folder, artifact or file of weights is at"),
        (["resnet18", "--weights", "w1.safetensors"], 4, "they look like ResNeXt-11 (2×2d, CIFAR,"),
        (
            ["w1.safetensors", "w2.safetensors", "--save-scores", "s.safetensors"],
            2,
            "or --ensemble",
        ),
        (["w1.safetensors", "--save-scores", "s.json"], 2, "a new .safetensors file, found s.json"),
        (["w1.safetensors", "--save-scores", "w2.safetensors"], 2, "found w2.safetensors"),
        (["w1.safetensors", "--save-scores", "no/s.safetensors"], 2, "found none at no"),
        (["w1.safetensors", "--ensemble", "--shares", "a"], 2, "expected --shares as numbers"),
        (
            ["w1.safetensors", "w2.safetensors", "--shares", "2,1"],
            2,
            "expected --ensemble beside --shares 2,1, found none",
        ),
        (
            ["w1.safetensors", "w2.safetensors", "--average", "logits"],
            2,
            "expected --ensemble beside --average logits, found none",
        ),
        (["w1.safetensors", "--classes", "1k"], 2, "expected a network of 1000 classes for 1k"),
        (["w1.safetensors", "--class-names", "none.txt"], 3, "none.txt: expected class names"),
        (["w1.safetensors", "--protocol", "dense-16"], 2, "last map is at least"),
    ],
)
def test_what_cannot_be_scored_is_one_line(place, capsys, words, status, message):
    before = sorted(place.rglob("*"))
    code, out, err = outcome(capsys, "evaluate", *words, *USUAL)
    assert (code, out) == (status, "")
    assert err.startswith("resnext: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_an_empty_folder_and_other_classes_are_errors_of_data(place, capsys):
    (place / "photos" / "green").mkdir()
    Image.new("RGB", (40, 40)).save(place / "photos" / "green" / "0.png")
    code, _, err = outcome(capsys, "evaluate", "w1.safetensors", *USUAL)
    assert code == 3
    assert "expected the 2 classes of w1.safetensors, found 3 in photos" in err


def test_the_benchmark_prints_both(capsys):
    words = ("--network", NETWORK, "--side", 32, "--slices", 3, "--json")
    status, out, _ = outcome(capsys, "benchmark", "evaluation", *words)
    assert status == 0
    assert [row["method"] for row in json.loads(out)] == ["bare loop", "resnext"]
