"""How many images a training step has room for, and what follows from it."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

import resnext
from resnext.errors import ResourceError, UsageError
from resnext.spec import Spec
from resnext.training.distributed import World
from resnext.training.recipe import Recipe
from resnext.training.speed import Speed

_MOST_IMAGES = 2**20
"""That are looked at together when asking how many the memory has room for."""


def fitting_speed(
    speed: Speed,
    spec: Spec,
    resolution: int,
    wanted: Recipe,
    device: torch.device,
    world: World,
) -> Speed:
    """The speed with micro-batches that the memory has room for, where none are asked for.

    On a processor a micro-batch is what batch normalisation sees at once: with the paper's parts
    that measured 1.15 times (ResNeXt-50) to 1.4 times (ResNeXt-29) as fast as the whole batch, for
    very small networks 0.9 times. A GPU gets its whole share of a batch, or as many parts of it as
    fit.

    Raises:
        ResourceError: not even one part fits; the message says how many images would.
    """
    share = -(-wanted.batch_size // world.size)
    if speed.sync_bn:
        if speed.micro_batch:
            raise UsageError(
                "expected no --micro-batch to normalise over the whole batch, found one"
            )
        return speed
    if speed.micro_batch and speed.micro_batch < (wanted.bn_batch or 1):
        raise UsageError(
            f"expected a micro-batch of at least the {wanted.bn_batch} images that are normalised "
            f"together, found {speed.micro_batch}; --set bn_batch={speed.micro_batch} goes with it"
        )
    part = wanted.bn_batch or wanted.batch_size // world.size
    asked = speed.micro_batch or (min(part, share) if device.type == "cpu" else share)
    found = world.gather(fitting_batch(spec, resolution, device, speed, world.local_size))
    fits = min((images for images in found if images is not None), default=None)
    if fits is None or asked <= fits:
        return replace(speed, micro_batch=None if asked >= share else asked)
    if speed.micro_batch is None and part <= fits:
        return replace(speed, micro_batch=fits - fits % part)
    needed = resnext.complexity(spec, resolution).training_memory(asked, accumulated=True)
    raise ResourceError(
        f"expected {needed.total / 2**30:.1f} GiB of memory for {resnext.name(spec)} at "
        f"{resolution} pixels and {asked} images at once, found "
        f"{(_free_memory(device) or 0) / 2**30:.1f} GiB free on {device}; {_advice(fits, wanted)}"
    )


def fitting_batch(
    spec: Spec, resolution: int, device: torch.device, speed: Speed, processes: int = 1
) -> int | None:
    """How many images a training step has room for at once; None where that is not known."""
    free = _free_memory(device)
    if free is None:
        return None
    if device.type == "cpu":  # which all processes of the machine share
        free //= processes
    cost = resnext.complexity(spec, resolution)
    width = 4 if speed.precision == "fp32" else 2

    def needed(images: int) -> int:
        return cost.training_memory(images, element_bytes=width, accumulated=True).total

    return bisect_right(range(1, _MOST_IMAGES), free, key=needed)


@contextmanager
def enough_memory(
    speed: Speed, spec: Spec, resolution: int, wanted: Recipe, device: torch.device, processes: int
) -> Iterator[None]:
    """One line where memory runs out all the same, with the batch that would fit.

    Raises:
        ResourceError: it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        plain = not isinstance(error, MemoryError | torch.OutOfMemoryError)
        if plain and "alloc" not in str(error) and "memory" not in str(error):
            raise
        said = _out_of_memory(speed, spec, resolution, wanted, device, processes)
        raise ResourceError(said) from error


def _out_of_memory(
    speed: Speed, spec: Spec, resolution: int, wanted: Recipe, device: torch.device, processes: int
) -> str:
    at_once = speed.micro_batch or -(-wanted.batch_size // processes)
    fits = fitting_batch(spec, resolution, device, speed)
    smaller = at_once // 2 if fits is None else min(fits, at_once // 2)
    return (
        f"expected enough memory on {device} for {resnext.name(spec)} at {resolution} pixels and "
        f"{at_once} images at once, found too little; {_advice(smaller, wanted)}"
    )


def _advice(images: int, wanted: Recipe) -> str:
    """What to do where only so many images fit."""
    if images < 1:
        return "not one image fits: take a smaller network or resolution"
    part = wanted.bn_batch or 1
    at_once = images - images % part if images >= part else images
    parts = "" if images >= part else f" and --set bn_batch={images}"
    return f"{at_once} would fit: say --micro-batch {at_once}{parts}; the batch stays, in more goes"


def _free_memory(device: torch.device) -> int | None:
    """Bytes that can be had; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found and device.type == "cpu" else None
