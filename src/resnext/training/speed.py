"""How steps are computed: precision, compilation, layout; facts of the machine, not the recipe."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resnext.errors import UsageError
from resnext.kernels import Backend, runs_on
from resnext.training.distributed import World
from resnext.training.recipe import Recipe

Precision = Literal["fp32", "bf16", "fp16"]

Compilation = Literal["default", "cuda-graphs", "max-autotune"]
_MODES = {"default": "default", "cuda-graphs": "reduce-overhead", "max-autotune": "max-autotune"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How steps are computed: what a machine is good for, rather than what is to be learned.

    Precision and `sync_bn` do change what is computed, and a run keeps them to its end.

    Attributes:
        precision: of the activations; bf16 and fp16 by autocast, with weights in fp32.
        compilation: of `torch.compile`; None runs eagerly.
        micro_batch: images that go through the network at once; a batch of more is accumulated.
        sync_bn: normalise over the whole batch of all processes instead of parts of it.
        sharded: split weights, gradients and momentum over the processes instead of repeating them.
        channels_last: the layout that convolutions are fastest in.
        backend: of the grouped convolutions; None takes what was measured fastest on this kind of
            GPU, and the framework's on any other device.
    """

    precision: Precision = "fp32"
    compilation: Compilation | None = None
    micro_batch: int | None = None
    sync_bn: bool = False
    sharded: bool = False
    channels_last: bool = True
    backend: Backend | None = None


PLAIN = Speed()


def compiled(module: nn.Module, compilation: Compilation | None) -> Any:
    """The module, or a faster callable that computes the same."""
    if compilation is None:
        return module
    return torch.compile(module, mode=_MODES[compilation], dynamic=False)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which matrix products and convolutions run in this precision."""
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def moved(images: Tensor, device: torch.device, *, channels_last: bool) -> Tensor:
    """N x C x H x W images on the device, in its layout; does not wait for the copy."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.to(device, non_blocking=True, memory_format=layout)


def check_speed(
    speed: Speed, device: torch.device, world: World, recipe: Recipe | None = None
) -> None:
    """Refuse what the device cannot do, or not by a recipe.

    Raises:
        UsageError: it cannot.
    """
    if speed.precision == "fp16" and device.type == "cpu":
        raise UsageError("expected a GPU for fp16, found cpu; bf16 has the range that fp16 lacks")
    if speed.sync_bn and (world.size == 1 or device.type != "cuda"):
        found = f"{world.size} on {device.type}"
        raise UsageError(f"expected several processes on GPUs for --sync-bn, found {found}")
    if speed.sharded and (speed.precision == "fp16" or speed.compilation):
        raise UsageError("expected fp32 or bf16, not compiled, to be sharded, found another speed")
    if speed.sharded and recipe is not None:
        check_sharding(recipe)
    if speed.compilation == "cuda-graphs" and device.type != "cuda":
        raise UsageError(f"expected a GPU for cuda-graphs, found {device.type}")
    if speed.backend in ("triton", "fused") and not runs_on(device.type):
        raise UsageError(
            f"expected a GPU and triton for backend {speed.backend}, found {device.type}; "
            "auto takes what there is"
        )
    if speed.micro_batch is not None and speed.micro_batch < 1:
        raise UsageError(f"expected a micro-batch of at least 1 image, found {speed.micro_batch}")


def check_sharding(recipe: Recipe) -> None:
    """Refuse a recipe that a sharded network cannot be trained by.

    Raises:
        UsageError: it cannot.
    """
    if recipe.ema:
        raise UsageError(f"expected a recipe without ema for --shard, found {recipe.name}")
    if recipe.frozen != "none":
        raise UsageError(
            f"expected frozen=none for --shard, found {recipe.frozen}; leave out one of them"
        )
