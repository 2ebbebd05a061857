import json
from pathlib import Path

import pytest

from resnext import files
from resnext.deploy.serving.settings import Settings, keep, settings_of
from resnext.errors import ResourceError, UsageError


def test_the_command_line_stands_over_the_file_over_what_is_usual(tmp_path):
    file = tmp_path / "serve.json"
    keep(Settings(given="runs/x", batch=4, queue=9), file)
    found = settings_of({"given": None, "batch": 8, "wait_ms": None}, file)
    assert found == Settings(given="runs/x", batch=8, queue=9)


def test_what_is_of_one_network_is_not_kept_for_another(tmp_path):
    file = tmp_path / "serve.json"
    old = {"weights": "w.pt", "profile": "pil-64", "class_names": "n.txt", "calibrate": "photos"}
    keep(Settings(given="runs/x", batch=4, **old), file)
    assert settings_of({"given": "runs/y"}, file) == Settings(given="runs/y", batch=4)
    named = settings_of({"given": "runs/y", "class_names": "other.txt"}, file)
    assert named == Settings(given="runs/y", batch=4, class_names="other.txt")
    for same in (None, "runs/x", "./runs/x/", str(Path("runs/x").absolute())):
        found = settings_of({"given": same, "queue": 9}, file)
        assert found == Settings(given=same or "runs/x", batch=4, queue=9, **old)


def test_another_spelling_of_a_network_is_the_same_network(tmp_path):
    file = tmp_path / "s.json"
    keep(Settings(given="resnext50_32x4d", weights="w.safetensors"), file)
    assert settings_of({"given": "ResNeXt-50 (32×4d)"}, file).weights == "w.safetensors"
    assert settings_of({"given": "resnet50"}, file).weights is None


def test_a_file_that_is_not_there_yet_says_nothing(tmp_path):
    assert settings_of({"given": "x"}, tmp_path / "new.json") == Settings(given="x")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "serve.json"
    file.write_text('{"given": "x"}', encoding="utf-8-sig")
    assert settings_of({}, file) == Settings(given="x")


@pytest.mark.parametrize(
    ("words", "kept", "message"),
    [
        ({}, None, "expected a network to serve, found none$"),
        ({}, {"batch": 3}, "expected a network to serve, found none, and .*serve.json names none"),
        ({"given": "x", "batch": 0}, None, "greater than or equal to 1 for --batch, found 0"),
        ({"given": "x", "wait_ms": -1.0}, None, "for --wait-ms, found -1.0"),
        ({"given": "x", "port": 70000}, None, "for --port, found 70000"),
        ({"given": "x"}, {"queue": "many"}, "integer for queue in .*serve.json, found 'many'"),
        ({"given": "x"}, {"colour": 1}, "settings that there are in .*serve.json, found 'colour'"),
        ({"given": "x"}, [1], "expected an object of settings in .*, found list"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path, words, kept, message):
    file = tmp_path / "serve.json"
    if kept is not None:
        file.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match=message):
        settings_of(words, None if kept is None else file)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    file = tmp_path / "serve.json"
    file.write_text('{"given": "x", "ba')
    with pytest.raises(UsageError, match=r"expected settings as JSON in .*serve.json"):
        settings_of({"given": "x"}, file)


@pytest.mark.parametrize("broken", ["fsync", "open"])
def test_settings_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch, broken):
    file = tmp_path / "serve.json"
    keep(Settings(given="old"), file)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, broken, full)
    with pytest.raises(ResourceError, match="No space left"):
        keep(Settings(given="new"), file)
    monkeypatch.undo()
    assert settings_of({}, file).given == ("old" if broken == "fsync" else "new")
    assert [path.name for path in tmp_path.iterdir()] == ["serve.json"]
