import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from resnext import files
from resnext.errors import CheckpointError, ResourceError
from resnext.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)

WEIGHTS = {"a.weight": torch.arange(12.0).view(3, 4), "a.count": torch.tensor(7)}
OTHER = {"a.weight": torch.zeros(3, 4), "a.count": torch.tensor(8)}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, WEIGHTS)
    return path


def test_what_is_saved_is_loaded(saved):
    assert_same(load_weights(saved), WEIGHTS)
    assert_same(load_file(saved), WEIGHTS)
    assert sorted(p.name for p in saved.parent.iterdir()) == [saved.name, saved.name + ".sha256"]


def test_the_checksum_is_what_sha256sum_reads(saved):
    command = ["sha256sum", "--check", "--strict", saved.name + ".sha256"]
    assert subprocess.run(command, cwd=saved.parent, capture_output=True).returncode == 0


def test_a_transposed_tensor_is_saved_by_value(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"w": WEIGHTS["a.weight"].T})
    assert_same(load_weights(path), {"w": WEIGHTS["a.weight"].T.contiguous()})


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", range(0, 220, 7))
def test_a_flipped_bit_anywhere_is_refused(saved, at):
    flip(saved, at % saved.stat().st_size)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        load_weights(saved)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        load_weights(saved)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.safetensors.sha256"])
def test_a_missing_file_is_named(saved, name):
    (saved.parent / name).unlink()
    with pytest.raises(CheckpointError, match=f"cannot read .*{name}: No such file"):
        load_weights(saved)


@pytest.mark.parametrize("text", ["", "0" * 64 + "  weights.safetensors\n", "\xff"])
def test_a_checksum_that_names_something_else_is_refused(saved, text):
    saved.with_name(saved.name + ".sha256").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(saved)


def test_a_file_of_another_kind_is_refused_even_with_its_checksum(saved):
    saved.write_bytes(b"\x80\x04 not tensors")
    digest = subprocess.run(["sha256sum", saved.name], cwd=saved.parent, capture_output=True)
    saved.with_name(saved.name + ".sha256").write_bytes(digest.stdout)
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        load_weights(saved)


class Stopped(BaseException):
    """The machine stops here."""


def stop_at(monkeypatch, operation, count):
    """Let `count` calls of os.fsync or Path.replace pass, then stop before the next one."""
    calls = iter(range(count))
    owner, name = {"fsync": (os, "fsync"), "replace": (Path, "replace")}[operation]
    original = getattr(owner, name)

    def stopping(*args):
        if next(calls, None) is None:
            raise Stopped
        return original(*args)

    monkeypatch.setattr(owner, name, stopping)


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_stopped_at_any_operation_of_a_replacement_the_file_still_loads(
    tmp_path, monkeypatch, operation
):
    outcomes = []
    for count in range(10):
        path = tmp_path / f"{count}.safetensors"
        save_weights(path, WEIGHTS)
        with monkeypatch.context() as patch:
            stop_at(patch, operation, count)
            try:
                save_weights(path, OTHER)
            except Stopped:
                finished = False
            else:
                finished = True
        found = load_weights(path)
        assert_same(found, OTHER if (new := found["a.count"] == 8) else WEIGHTS)
        outcomes.append((bool(new), finished))
        if finished:
            break
    assert outcomes[0] == (False, False)
    assert (True, False) in outcomes
    assert outcomes[-1] == (True, True)


def test_a_full_disk_is_named_and_leaves_what_was_there(saved, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ResourceError, match=r"cannot write .*: No space left on device"):
        save_weights(saved, OTHER)
    assert_same(load_weights(saved), WEIGHTS)
    assert len(list(saved.parent.iterdir())) == 2


def test_a_checkpoint_appears_whole_and_over_a_broken_attempt(tmp_path):
    folder = tmp_path / "step-00000012"
    (tmp_path / "step-00000012.tmp").mkdir()
    save_checkpoint(folder, Checkpoint(weights=WEIGHTS, training=OTHER, state={"epoch": 2}))
    assert_same(load_weights(folder / "weights.safetensors"), WEIGHTS)
    found = load_checkpoint(folder)
    assert_same(found.weights, WEIGHTS)
    assert_same(found.training, OTHER)
    assert found.state == {"format": 1, "epoch": 2}
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_a_checkpoint_that_fails_leaves_no_folder(tmp_path, monkeypatch):
    stop_at(monkeypatch, "fsync", 5)
    with pytest.raises(Stopped):
        save_checkpoint(tmp_path / "step-1", Checkpoint(weights=WEIGHTS, training={}, state={}))
    assert not (tmp_path / "step-1").exists()
