"""Tensors of which every process holds a part (FSDP2).

torch's modules for that are imported when somebody shards: they take as long as torch itself.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def shard(model: nn.Module) -> None:
    """Split every parameter, gradient and momentum over all processes, in place.

    Parameters come together for the block that is at work.
    """
    from torch.distributed.fsdp import fully_shard

    blocks = [
        block for stage in model.children() if isinstance(stage, nn.Sequential) for block in stage
    ]
    for module in (*blocks, model):
        fully_shard(module)


def is_sharded(model: nn.Module) -> "TypeGuard[FSDPModule]":
    """Whether `shard` was called with it."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


@contextmanager
def unsynchronised(model: "FSDPModule") -> Iterator[None]:
    """A time in which gradients are not exchanged."""
    model.set_requires_gradient_sync(requires_gradient_sync=False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(requires_gradient_sync=True)


def _is_part(tensor: Tensor) -> "TypeGuard[DTensor]":
    split = sys.modules.get("torch.distributed.tensor")
    return split is not None and isinstance(tensor, split.DTensor)


def own(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; shares its memory."""
    return tensor.to_local() if _is_part(tensor) else tensor


def whole(part: Tensor, like: Tensor) -> Tensor:
    """A tensor of which `part` is what this process holds, split as `like` is; all must ask."""
    if not _is_part(like):
        return part
    return (
        type(like)
        .from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
        .full_tensor()
    )


def complete(tensor: Tensor) -> Tensor:
    """A result that depends on the parts of all processes, which must all ask."""
    return tensor.full_tensor() if _is_part(tensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process is to hold of a whole tensor, split as `like` is."""
    if not _is_part(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placed = tensor.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements).to_local()
