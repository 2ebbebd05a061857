import json

import pytest
import torch

from resnext.deploy import artifact_of, load, save
from resnext.deploy.hub import download, parsed, upload
from resnext.errors import CheckpointError, ResourceError, UsageError
from unit.deploy.hub_stand_in import standing_in

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with standing_in() as found:
        template = found.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield found


def test_an_artifact_goes_to_the_hub_and_comes_back(artifact, tmp_path, hub):
    save(artifact, tmp_path / "a")
    (tmp_path / "a" / "secret.txt").write_text("mine")
    url = upload(tmp_path / "a", "me/ants", endpoint=hub.endpoint)
    assert url.startswith(f"{hub.endpoint}/me/ants/commit/")
    assert sorted(hub.repositories["me/ants"]) == [
        "README.md",
        "SHA256SUMS",
        "artifact.json",
        "config.json",
        "model.safetensors",
    ]
    assert hub.private["me/ants"] is True
    hub.repositories["me/ants"]["pytorch_model.bin"] = b"a pickle"
    found = download("me/ants", tmp_path / "b", endpoint=hub.endpoint)
    assert found.record == load(tmp_path / "a").record
    torch.testing.assert_close(dict(found.weights), dict(artifact.weights), rtol=0, atol=0)
    assert not (tmp_path / "b" / "pytorch_model.bin").exists()
    assert not any("pytorch_model.bin" in path for path in hub.asked)


def test_a_name_of_the_hub_stands_for_its_artifact(artifact, tmp_path, hub):
    save(artifact, tmp_path / "a")
    upload(tmp_path / "a", "me/ants", public=True, endpoint=hub.endpoint)
    assert hub.private["me/ants"] is False
    assert artifact_of("hub:me/ants").classes == artifact.classes


def test_the_command_line_uploads_and_reads(artifact, tmp_path, hub, capsys):
    from resnext.cli.main import run

    save(artifact, tmp_path / "a")
    for words in (
        ("export", str(tmp_path / "a"), "--out", "hub:me/ants"),
        ("export", "hub:me/ants", "--out", str(tmp_path / "b")),
    ):
        with pytest.raises(SystemExit) as ended:
            run(words)
        assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"{hub.endpoint}/me/ants/commit/")
    assert load(tmp_path / "b").record == load(tmp_path / "a").record
    assert hub.private["me/ants"] is True


def test_an_upload_is_told_in_json_too(artifact, tmp_path, hub, capsys):
    from resnext.cli.main import run

    save(artifact, tmp_path / "a")
    with pytest.raises(SystemExit) as ended:
        run(("export", str(tmp_path / "a"), "--out", "hub:me/ants", "--json"))
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["address"].startswith(f"{hub.endpoint}/me/ants/commit/")
    assert said["weights"] == load(tmp_path / "a").record.weights


def test_an_edited_card_goes_to_the_hub_and_comes_back(artifact, tmp_path, hub):
    from resnext.cli.main import run

    edited = "# Ants\n\nSeen in my garden; ruins at 30 °C.\n"
    (save(artifact, tmp_path / "a").folder / "README.md").write_text(edited)
    for words in (
        ("export", str(tmp_path / "a"), "--out", "hub:me/ants"),
        ("export", "hub:me/ants", "--out", str(tmp_path / "b")),
        ("export", str(tmp_path / "b"), "--out", str(tmp_path / "c"), "--licence", "MIT"),
        ("export", str(tmp_path / "c"), "--out", str(tmp_path / "c"), "--replace"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(words)
        assert ended.value.code == 0
    assert hub.repositories["me/ants"]["README.md"].decode() == edited
    assert [(tmp_path / name / "README.md").read_text() for name in "bc"] == [edited] * 2
    assert load(tmp_path / "c").record.licence == "MIT"


def test_what_was_changed_on_the_hub_is_refused(artifact, tmp_path, hub):
    save(artifact, tmp_path / "a")
    upload(tmp_path / "a", "me/ants", endpoint=hub.endpoint)
    data = bytearray(hub.repositories["me/ants"]["model.safetensors"])
    data[-1] ^= 1
    hub.repositories["me/ants"]["model.safetensors"] = bytes(data)
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged"):
        download("me/ants", tmp_path / "b", endpoint=hub.endpoint)
    assert not (tmp_path / "b").exists()


def test_what_the_hub_refuses_is_one_line(artifact, tmp_path, hub):
    with pytest.raises(UsageError, match="expected a repository of the hub that you may use"):
        download("me/none", tmp_path / "b", endpoint=hub.endpoint)
    with pytest.raises(CheckpointError, match="expected an artifact"):
        upload(tmp_path, "me/ants", endpoint=hub.endpoint)
    save(artifact, tmp_path / "a")
    with pytest.raises(UsageError, match="expected a new folder"):
        download("me/none", tmp_path / "a", endpoint=hub.endpoint)
    assert hub.private == {}


def test_no_hub_at_all_is_one_line(tmp_path):
    with pytest.raises(ResourceError, match="cannot reach me/ants on the hub"):
        download("me/ants", tmp_path / "b", endpoint="http://127.0.0.1:9")


def test_no_hub_to_upload_to_is_one_line(artifact, tmp_path):
    save(artifact, tmp_path / "a")
    with pytest.raises(ResourceError, match="cannot reach me/ants on the hub"):
        upload(tmp_path / "a", "me/ants", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("text", ["hub:", "hub:me", "hub:me/", "hub:a/b/c", "hub:a/b@"])
def test_names_of_the_hub_have_one_shape(text):
    with pytest.raises(UsageError, match="expected hub:OWNER/NAME"):
        parsed(text)
    assert parsed("hub:a/b@v1") == ("a/b", "v1")
