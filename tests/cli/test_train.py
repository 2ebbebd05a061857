import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from resnext.cli.main import run
from resnext.data import open_data
from resnext.runs import RunFolder


def outcome(capsys, *words):
    """The exit code, stdout and stderr of the command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of two classes of 32 x 32 pictures, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(10):
            shade = tuple(value + number for value in colour)
            Image.new("RGB", (32, 32), shade).save(folder / f"{number}.png")
    return tmp_path / "photos"


TINY = ("--network", "ResNeXt-11 (2x2d, CIFAR)", "--recipe", "small", "--device", "cpu")


def test_training_and_evaluation_of_own_images(photos, capsys):
    status, out, err = outcome(
        capsys, "train", *TINY, "--data", "photos", "--epochs", 2, "--seed", 5
    )
    assert (status, err) == (0, "")
    assert out.splitlines()[7].split()[5] == "–"  # of two classes the fifth best says nothing
    assert "epochs   2 instead of 30: the rate's curve is scaled too" in out
    path = "runs/resnext11_2x2d-photos-seed5"
    assert out.endswith(f"next     resnext evaluate {path}\n")
    lines = (photos.parent / path / "metrics.jsonl").read_text().splitlines()
    errors = [json.loads(line)["validation_error"] for line in lines]
    assert len(errors) == 2

    status, out, err = outcome(capsys, "evaluate", path, "--json")
    assert (status, err) == (0, "")
    record = json.loads(out)
    assert record["top1_error"] == min(errors)
    assert record["samples"] == 4
    assert record["profile"] == "cifar10"

    status, out, _ = outcome(capsys, "evaluate", path)
    assert status == 0
    assert f"{min(errors):.2f} %" in out
    assert "top-5 error  – (of 2)\n" in out
    assert record["fingerprint"] in out

    (photos / "red" / "0.png").unlink()
    status, out, err = outcome(capsys, "evaluate", path)
    assert (status, out) == (3, "")
    assert "photos has changed since runs/" in err
    status, out, _ = outcome(capsys, "evaluate", path, "--data", "photos")
    assert status == 0
    assert "other images than the run's" in out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--epochs", "0"], 2, "expected at least 1 epoch, found 0"),
        (["--epochs", "-2"], 2, "expected at least 1 epoch, found -2"),
        (["--recipe", "cifer"], 2, "found 'cifer' (did you mean 'cifar'?)"),
        (["--device", "tpu"], 2, "expected device cpu, cuda, cuda:N or mps, found 'tpu'"),
        (["--device", "cpu:3"], 5, "expected device 'cpu:3' on this machine"),
        (["--network", "ResNeXt-12 (2x2d, CIFAR)"], 2, "12"),
        (["--backend", "triton", "--device", "cpu"], 2, "a GPU and triton for backend triton"),
        (["--seed", "-1"], 2, "expected a seed from 0 to 2^64 - 1, found -1"),
        (["--data", "nowhere"], 3, "nowhere"),
        (["--out", "photos"], 2, "expected a new run folder, found photos; nothing was changed"),
        (["--workers", "-1"], 2, "workers on this machine, found -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_one_line_and_writes_nothing(
    photos, capsys, words, status, message
):
    before = sorted(photos.parent.rglob("*"))
    code, out, err = outcome(capsys, "train", *TINY, "--data", "photos", *words)
    assert (code, out) == (status, "")
    assert err.startswith("resnext: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(photos.parent.rglob("*")) == before


@pytest.mark.parametrize(("words", "times"), [((), []), (("--resolution", 224), ["13"])])
def test_where_there_is_no_gpu_photos_are_told_what_to_begin_with(
    photos, capsys, monkeypatch, words, times
):
    monkeypatch.setattr("resnext.cli.train._train", interrupted)
    _, out, _ = outcome(capsys, "train", "--data", "photos", "--device", "cpu", *words)
    assert (
        re.findall(r"^hint .*--network ResNet-18 --resolution 96 takes (\d+)", out, re.M) == times
    )


def test_a_broken_image_is_named_with_what_finds_all_of_them(photos, capsys):
    for broken in ("red/3.png", "blue/4.png"):
        (photos / broken).write_bytes(b"")
    code, _, err = outcome(capsys, "train", *TINY, "--data", "photos", "--epochs", 1)
    assert code == 3
    assert err.count("\n") == 1
    assert "4.png" in err or "3.png" in err
    assert "resnext data check photos names all such images, --bad-limit PERCENT" in err
    code, out, _ = outcome(capsys, "data", "check", "photos")
    assert code == 3
    assert "3.png" in out
    assert "4.png" in out


def test_a_run_that_continues_tolerates_what_it_began_with(photos, capsys, monkeypatch):
    (photos / open_data("photos").train.describe(0)).write_bytes(b"")
    words = (*TINY, "--data", "photos", "--epochs", 1, "--out", "run", "--bad-limit", 50)
    with monkeypatch.context() as first:
        first.setattr("resnext.cli.train._train", interrupted)
        assert outcome(capsys, "train", *words)[0] == 130
    assert outcome(capsys, "train", "--resume", "run", "--bad-limit", 0)[0] == 3
    assert outcome(capsys, "train", "--resume", "run")[0] == 0


def test_the_backend_is_said_and_recorded_and_a_run_goes_on_with_another(photos, capsys):
    words = (*TINY, "--data", "photos", "--epochs", 1, "--out", "run")
    status, out, _ = outcome(capsys, "train", *words, "--backend", "merged")
    assert status == 0
    assert "grouped convolutions by merged" in out
    assert RunFolder.open(Path("run")).record.backend == "merged"
    status, out, _ = outcome(capsys, "train", "--resume", "run", "--backend", "auto")
    assert status == 0
    assert "grouped convolutions" not in out


def test_what_comes_next_can_be_pasted(photos, capsys):
    words = (*TINY, "--data", "photos", "--epochs", 1, "--out", "my run's")
    status, out, _ = outcome(capsys, "train", *words)
    assert status == 0
    pasted = shlex.split(out.splitlines()[-1].removeprefix("next"))
    assert pasted == ["resnext", "evaluate", "my run's"]
    assert outcome(capsys, *pasted[1:])[0] == 0


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("resnext.runs.plan", "no run was begun"),
        ("resnext.cli.train._print_plan", "nothing was saved yet in run"),
        ("resnext.cli.train._print_summary", "run keeps all up to step-00000001, the best"),
    ],
)
def test_an_interrupt_says_what_there_is_whenever_it_comes(
    photos, capsys, monkeypatch, place, said
):
    monkeypatch.setattr(place, interrupted)
    words = (*TINY, "--data", "photos", "--epochs", 1, "--out", "run")
    status, _, err = outcome(capsys, "train", *words)
    assert status == 130
    assert err.startswith(f"resnext: interrupted; {said}")
    assert err.count("\n") == 1
    assert (photos.parent / "run").exists() == (said != "no run was begun")


def test_an_interrupted_evaluation_is_no_error(capsys, monkeypatch):
    monkeypatch.setattr("resnext.runs.compare", interrupted)
    status, out, err = outcome(capsys, "evaluate", "run")
    assert (status, out, err) == (130, "", "resnext: interrupted; run is as it was\n")


def test_damage_is_refused_with_the_file_named(photos, capsys):
    assert outcome(capsys, "train", *TINY, "--data", photos, "--epochs", 1, "--out", "run")[0] == 0
    weights = photos.parent / "run" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    status, out, err = outcome(capsys, "evaluate", "run")
    assert (status, out) == (4, "")
    assert err.startswith("resnext: error: run/weights.safetensors is damaged")
    assert err.count("\n") == 1
    status, _, err = outcome(capsys, "evaluate", "photos")
    assert status == 4
    assert "expected a run folder, found photos: it holds no run.json" in err


def test_a_diverging_run_says_so_and_keeps_its_folder(photos, capsys, monkeypatch):
    from resnext.training import recipe

    wild = recipe.small().model_copy(update={"learning_rate": 1e30, "warmup_epochs": 0.0})
    monkeypatch.setattr(recipe, "RECIPES", {"small": lambda: wild})
    status, _, err = outcome(capsys, "train", *TINY, "--data", photos, "--out", "run")
    assert status == 2
    assert "training stopped: the gradient of update " in err
    assert "nothing was saved yet in run" in err or "run keeps all up to step-" in err
    assert err.count("\n") == 1


def test_an_interrupt_keeps_what_is_finished(photos, capsys):
    command = [sys.executable, "-m", "resnext.cli.main", "train", *TINY, "--data", "photos"]
    words = [*command, "--epochs", "10000", "--out", "run"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as process:
        for line in process.stdout:
            if line.strip().startswith("2/10000"):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.match(r"resnext: interrupted; all .* is saved; continue with: ", err)
    assert err.count("\n") == 1
    assert outcome(capsys, "evaluate", "run")[::2] == (0, "")
