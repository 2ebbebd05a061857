"""Weights that training begins from: those of a run, or of a file of torchvision or timm."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

import resnext
from resnext.errors import CheckpointError
from resnext.model.network import ResNeXt, build
from resnext.model.recognition import counter, resembled
from resnext.spec import Spec
from resnext.training.checkpoint import WEIGHTS, checksum_of, load_weights

_HEAD = ("fc.weight", "fc.bias")
_TRAINING_ONLY = ("AuxLogits.", "aux1.", "aux2.")
"""Heads of Inception networks that only training looks at; a file may hold them in vain."""


@dataclass(frozen=True, slots=True)
class Initial:
    """A file of weights and the SHA-256 of its bytes."""

    path: Path
    sha256: str

    def __str__(self) -> str:
        return f"{self.path} sha256:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives."""
        path, _, digest = text.rpartition(" sha256:")
        return cls(Path(path), digest)


def initial_weights(path: Path) -> Initial:
    """The file that `path`, a run folder or a file, stands for.

    Raises:
        CheckpointError: it cannot be read.
    """
    file = path / WEIGHTS if path.is_dir() else path
    try:
        return Initial(file.absolute(), hashlib.sha256(file.read_bytes()).hexdigest())
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror or error}") from error


def load_pretrained(model: ResNeXt, initial: Initial, *, new_head: bool = False) -> bool:
    """Give `model` the weights of a file; a classifier of other classes stays as it is.

    Takes safetensors, with a checksum beside it or without, and `.pt` or `.pth` files that hold
    nothing but tensors: no file can run code.

    Args:
        model: of the same network.
        initial: the file.
        new_head: whether the classifier stays as it is in any case.

    Returns:
        Whether the classifier was taken over too.

    Raises:
        CheckpointError: the file is damaged, or of another network, or not the one meant.
    """
    try:
        now = initial_weights(initial.path).sha256
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; if it lies elsewhere now, say so with --weights"
        ) from error
    if now != initial.sha256:
        raise CheckpointError(f"expected {initial.path} as it was, found other bytes")
    weights, head = _for_network(model, initial.path, new_head=new_head)
    model.load_state_dict(weights)
    return head


def require_fitting(spec: Spec, initial: Initial, *, new_head: bool = False) -> None:
    """Refuse what `load_pretrained` would, before anything is begun.

    Raises:
        CheckpointError: the file is damaged or of another network.
    """
    _for_network(build(spec, device="meta"), initial.path, new_head=new_head)


def _for_network(model: ResNeXt, path: Path, *, new_head: bool) -> tuple[dict[str, Tensor], bool]:
    """The weights of a file with the classifier that is to be, and whether that is the file's."""
    weights, ours = read_weights(path), model.state_dict()
    head = not new_head and all(
        name in weights and weights[name].shape == ours[name].shape for name in _HEAD
    )
    if not head:
        weights |= {name: ours[name] for name in _HEAD}
    return fitting(ours, weights, path, resnext.name(model.spec)), head


def fitting(
    ours: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path, name: str
) -> dict[str, Tensor]:
    """The tensors of a file as a network takes them: all of `ours`, in their types, no others.

    What older files lack may be missing: the counters of batches, which nothing looks at.

    Raises:
        CheckpointError: they do not fit; the message names the first tensors that differ, and the
            network that they look like.
    """
    found = {key: tensor for key, tensor in state.items() if not _useless(key, ours)}
    missing = [key for key in ours if counter(key) and key not in found]
    found |= {key: torch.zeros((), dtype=torch.int64) for key in missing}
    odd = [
        key for key in sorted(ours.keys() | found.keys()) if _size(key, ours) != _size(key, found)
    ]
    if odd:
        first = ", ".join(f"{key} {_size(key, found)} for {_size(key, ours)}" for key in odd[:3])
        near = resembled(state)
        hint = f"; they look like {resnext.name(near)}" if near else ""
        raise CheckpointError(
            f"expected {path} to hold weights of {name}, found {first} ({len(odd)} such){hint}"
        )
    return {key: tensor.to(ours[key].dtype) for key, tensor in found.items()}


def _size(key: str, state: Mapping[str, Tensor]) -> str:
    return "x".join(map(str, state[key].shape)) or "one number" if key in state else "nothing"


def _useless(key: str, ours: Mapping[str, Tensor]) -> bool:
    return key not in ours and key.startswith(_TRAINING_ONLY)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; of `.pt` and `.pth` only such as can be had without running code.

    Raises:
        CheckpointError: it cannot be read, or holds something else.
    """
    if path.suffix == ".t7":
        raise CheckpointError(
            f"expected a .safetensors, .pt or .pth file, found {path} of Torch7, which no "
            "maintained library reads; convert it to a state dict under torchvision's names"
        )
    if path.suffix in (".pt", ".pth"):
        return _tensors_of(path)
    if checksum_of(path):
        return load_weights(path)
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"expected a safetensors file, found {path}: {error}") from error


def _tensors_of(path: Path) -> dict[str, Tensor]:
    """A state dict saved by torch, bare or under one of the usual keys."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of how it was pickled
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        # not in torch's own words, which advise to load it with weights_only=False
        raise CheckpointError(
            f"expected a file of tensors alone, found {path} damaged or with other objects, whose "
            "loading could run code; save it as safetensors"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise CheckpointError(f"expected a state dict in {path}, found {type(found).__name__}")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}
