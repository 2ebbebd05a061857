"""Weights on disk: never half written, never believed unchecked, never code.

A file of weights is safetensors. Beside `weights.safetensors` lies `weights.safetensors.sha256` in
the format of `sha256sum`, and loading refuses bytes that it does not name: safetensors alone
reads a flipped bit without complaint. A checkpoint is a folder of such files that appears at once,
by a rename.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from resnext.errors import CheckpointError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS = "weights.safetensors"
STATE = "state.json"


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors under their names, replacing `path` in one instant if it exists.

    While the file is being replaced its checksum file names the old and the new bytes, so whatever
    instant the machine stops at, what is there can be loaded.

    Raises:
        ResourceError: the file cannot be written: disk full, folder read-only.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    line = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
    sums = checksum_path(path)
    before = sums.read_text(encoding="ascii") if path.exists() and sums.exists() else ""
    write_bytes(sums, (line + before).encode("ascii"))
    write_bytes(path, data)
    write_bytes(sums, line.encode("ascii"))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read and verify what `save_weights` wrote.

    Raises:
        CheckpointError: the file or its checksum is missing, or the bytes are not those written.
    """
    data, sums = _read(path), _read(checksum_path(path))
    found = hashlib.sha256(data).hexdigest()
    if found not in re.findall(r"^[0-9a-f]{64}(?=  )", sums.decode("ascii", "replace"), re.M):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is {found[:12]}…, which {checksum_path(path).name} "
            f"does not name ({len(data):,} bytes read)"
        )
    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def checksum_path(path: Path) -> Path:
    """Where the checksum of a file of weights lies."""
    return path.with_name(path.name + ".sha256")


def save_checkpoint(folder: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Make `folder` with the weights and where training stood; it appears whole or not at all.

    Its parent must be there: a run folder that was deleted meanwhile does not come back in part.

    Raises:
        ResourceError: it cannot be written.
    """
    partial = folder.with_name(folder.name + ".tmp")
    with _writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_weights(partial / WEIGHTS, weights)
        write_bytes(partial / STATE, json.dumps(state).encode())
        partial.rename(folder)
        _sync_folder(folder.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the contents of `path` in one instant: write beside it, flush to disk, rename.

    Raises:
        ResourceError: it cannot be written; what was there before still is.
    """
    partial = path.with_name(path.name + ".tmp")
    with _writing(path):
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        _sync_folder(path.parent)


@contextmanager
def _writing(path: Path) -> "Iterator[None]":
    try:
        yield
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
