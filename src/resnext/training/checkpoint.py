"""Weights on disk: never half written, never believed unchecked, never code.

A file of weights is safetensors. Beside `weights.safetensors` lies `weights.safetensors.sha256` in
the format of `sha256sum`, and loading refuses bytes that it does not name: safetensors alone
reads a flipped bit without complaint. A checkpoint is a folder that appears at once, by a rename:

weights.safetensors   the network
training.safetensors  momentum, and the running mean of the weights if there is one
state.json            where training stood
SHA256SUMS            of the three, in the format of `sha256sum`
"""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from resnext.errors import CheckpointError
from resnext.files import PARTIAL, sync_folder, write_bytes, writing

WEIGHTS = "weights.safetensors"
TRAINING = "training.safetensors"
STATE = "state.json"
SUMS = "SHA256SUMS"
FORMAT = 1
"""Of a checkpoint; one of another number is refused."""


def save_weights(
    path: Path, weights: Mapping[str, Tensor], words: Mapping[str, str] | None = None
) -> None:
    """Write tensors under their names, replacing `path` in one instant if it exists.

    `words` go into the head of the file, for `words_of`.

    While the file is being replaced its checksum file names the old and the new bytes, so whatever
    instant the machine stops at, what is there can be loaded.

    Raises:
        ResourceError: the file cannot be written: disk full, folder read-only.
    """
    data = tensor_bytes(weights, words)
    line = sum_line(path.name, data)
    sums = checksum_path(path)
    before = sums.read_text(encoding="ascii") if path.exists() and sums.exists() else ""
    write_bytes(sums, (line + before).encode("ascii"))
    write_bytes(path, data)
    write_bytes(sums, line.encode("ascii"))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read and verify what `save_weights` or `save_checkpoint` wrote.

    Raises:
        CheckpointError: the file or its checksum is missing, or the bytes are not those written.
    """
    return tensors_of(path, verified(path, checksum_of(path) or checksum_path(path)))


def words_of(path: Path) -> dict[str, str]:
    """What the head of a safetensors file says beside its tensors; nothing for other files."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def checksum_of(path: Path) -> Path | None:
    """The file that names the checksum of a file of weights, if there is one."""
    return next((p for p in (checksum_path(path), path.with_name(SUMS)) if p.exists()), None)


def checksum_path(path: Path) -> Path:
    """Where the checksum of a file of weights lies."""
    return path.with_name(path.name + ".sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a folder of a checkpoint holds: see this file's head."""

    weights: Mapping[str, Tensor]
    training: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Make `folder`; it appears whole or not at all.

    Its parent must be there: a run folder that was deleted meanwhile does not come back in part.

    Raises:
        ResourceError: it cannot be written.
    """
    contents = {
        WEIGHTS: tensor_bytes(checkpoint.weights),
        TRAINING: tensor_bytes(checkpoint.training),
        STATE: json.dumps({"format": FORMAT, **checkpoint.state}).encode(),
    }
    write_folder(folder, contents | {SUMS: sums_of(contents)})


def sums_of(contents: Mapping[str, bytes]) -> bytes:
    """The file of checksums of files."""
    return "".join(sum_line(name, data) for name, data in contents.items()).encode()


def write_folder(folder: Path, contents: Mapping[str, bytes], *, replacing: bool = False) -> None:
    """Make `folder` of files, whole or not at all: written beside it, renamed when on disk.

    With `replacing` there is one already, which goes once the new one is in its place; a crash
    between the two leaves it under its name with `.replaced` behind.

    Raises:
        ResourceError: it cannot be written; what was there before still is.
    """
    partial = folder.with_name(folder.name + PARTIAL)
    with writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            for name, data in contents.items():
                write_bytes(partial / name, data)
            _put(partial, folder, replacing=replacing)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)  # a full disk needs the room
            raise
        sync_folder(folder.parent)


def _put(made: Path, folder: Path, *, replacing: bool) -> None:
    if not replacing:
        made.rename(folder)
        return
    before = folder.with_name(folder.name + ".replaced")
    folder.rename(before)
    try:
        made.rename(folder)
    except BaseException:
        before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify what `save_checkpoint` wrote.

    Raises:
        CheckpointError: a file is missing, or is not what was written, or of another format.
    """
    sums = folder / SUMS
    text = verified(folder / STATE, sums)
    try:
        state = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{folder / STATE} is damaged: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else state
        raise CheckpointError(
            f"expected {folder} of format {FORMAT}, found {found}: it was made by another version "
            "of resnext"
        )
    return Checkpoint(
        weights=tensors_of(folder / WEIGHTS, verified(folder / WEIGHTS, sums)),
        training=tensors_of(folder / TRAINING, verified(folder / TRAINING, sums)),
        state=state,
    )


def tensor_bytes(tensors: Mapping[str, Tensor], words: Mapping[str, str] | None = None) -> bytes:
    """Tensors as a safetensors file: the same bytes for the same tensors."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(whole, metadata=None if words is None else dict(words))


def sum_line(name: str, data: bytes) -> str:
    """A line of a file of checksums."""
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n"


def verified(path: Path, sums: Path) -> bytes:
    """The bytes of a file that `sums` names.

    Raises:
        CheckpointError: either is missing, or these are other bytes.
    """
    data = _read(path)
    found = hashlib.sha256(data).hexdigest()
    named = re.findall(r"^([0-9a-f]{64})  (.*)$", _read(sums).decode("ascii", "replace"), re.M)
    if (found, path.name) not in named:
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is {found[:12]}…, which {sums.name} "
            f"does not name ({len(data):,} bytes read)"
        )
    return data


def tensors_of(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file's bytes; the path is for messages.

    Raises:
        CheckpointError: it is none.
    """
    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
