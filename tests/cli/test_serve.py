import json
import socket
import sys

import pytest

from cli.test_main import outcome
from resnext.deploy import artifact_of_model, save
from unit.deploy.networks import settled

pytest.importorskip("fastapi")


@pytest.fixture
def artifact(tmp_path):
    return save(artifact_of_model(settled()), tmp_path / "artifact").folder


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "expected a network to serve, found none"),
        (["--config", "none.json"], 2, "expected a network to serve, found none, and none.json"),
        (["nothing-here"], 2, "nothing-here"),
        (["resnext50_32x4d"], 2, "weights"),
        (["x", "--batch", "0"], 2, "greater than or equal to 1 for --batch, found 0"),
        (["x", "--port", "99999"], 2, "less than or equal to 65535 for --port, found 99999"),
        (["x", "--megapixels", "99"], 2, "less than or equal to 50 for --megapixels, found 99"),
        (["x", "--host", "no.such.host.invalid"], 5, "cannot listen on no.such.host.invalid:8000"),
        (["x", "--batch", "many"], 2, "for --batch, found 'many'"),
    ],
)
def test_what_cannot_be_served_is_refused(capsys, tmp_path, monkeypatch, words, status, message):
    monkeypatch.chdir(tmp_path)
    found, out, err = outcome(capsys, "serve", *words)
    assert found == status, err
    assert out == ""
    assert message in err


def test_an_engine_that_there_is_not_leaves_the_file_of_settings_alone(capsys, tmp_path, artifact):
    file = tmp_path / "serve.json"
    file.write_text(json.dumps({"given": str(artifact), "port": 0, "batch": 7}))
    before = file.read_bytes()
    status, _, err = outcome(capsys, "serve", "--config", str(file), "--engine", "steam")
    assert status == 2
    assert "found 'steam'" in err
    assert file.read_bytes() == before


def test_a_network_said_goes_without_the_weights_kept_for_another(capsys, tmp_path, artifact):
    file = tmp_path / "serve.json"
    kept = {"given": "resnet18", "weights": "w.pth", "port": 0, "engine": "steam"}
    file.write_text(json.dumps(kept))
    _, _, err = outcome(capsys, "serve", str(artifact), "--config", str(file))
    assert "found 'steam'" in err
    words = ("serve", str(artifact), "--config", str(file), "--weights", "w.pth")
    status, _, err = outcome(capsys, *words)
    assert status == 2
    assert "expected --weights for the 0 networks by name, found 1" in err


def test_images_that_nobody_would_look_at_are_refused_and_those_kept_are_not_read(
    capsys, tmp_path, artifact
):
    words = ("serve", str(artifact), "--engine", "torch", "--precision", "fp32")
    status, _, err = outcome(capsys, *words, "--calibrate", "digits")
    assert status == 2
    assert "expected --precision int8 or --engine auto beside --calibrate digits" in err
    file = tmp_path / "serve.json"
    kept = {"calibrate": "nowhere", "precision": "int8", "port": 0}
    file.write_text(json.dumps(kept))
    words = ("serve", str(artifact), "--engine", "steam", "--config", str(file))
    assert "expected data" in outcome(capsys, *words)[2]
    assert "found 'steam'" in outcome(capsys, *words, "--precision", "fp32")[2]


def test_an_address_that_is_taken_is_told(capsys, artifact):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        status, _, err = outcome(capsys, "serve", str(artifact), "--port", port)
    assert status == 5
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another" in err


def test_a_missing_package_is_named(capsys, monkeypatch, artifact):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err = outcome(capsys, "serve", str(artifact))
    assert status == 2
    assert "expected resnext[serve] to be installed, found: import of uvicorn halted" in err
