"""All that decides how a training goes on, as plain values and tensors under names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from resnext.errors import CheckpointError
from resnext.metrics import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far training has come: `step` steps of epoch `epoch` are done, of `updates` in all."""

    epoch: int = 1
    step: int = 0
    updates: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a checkpoint holds: see `Trainer.state`.

    Attributes:
        weights: of the network, under its names.
        tensors: `momentum/<name>` and, with a running mean, `average/<name>`.
        counts: of the epoch at `position` so far.
        bad_steps: how many steps were not finite, and which update that was.
        scaler: of fp16 gradients.
    """

    weights: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    position: Position
    counts: Counts
    bad_steps: tuple[int, int] = (0, 0)
    scaler: Mapping[str, Any] = field(default_factory=dict)


def require_same(what: str, ours: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names, shapes or types than ours, before anything is changed.

    Raises:
        CheckpointError: one differs.
    """
    wanted = {name: _kind(tensor) for name, tensor in ours.items()}
    given = {name: _kind(tensor) for name, tensor in found.items()}
    odd = sorted(
        name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name)
    )
    if odd:
        raise CheckpointError(
            f"expected {what} with {odd[0]} as {wanted.get(odd[0], 'nothing')}, found "
            f"{given.get(odd[0], 'nothing')} ({len(odd)} such)"
        )


def _kind(tensor: Tensor) -> str:
    size = "x".join(map(str, tensor.shape)) or "one number"
    return f"{size} of {str(tensor.dtype).removeprefix('torch.')}"
