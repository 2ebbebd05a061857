"""How many images a training step has room for, and what follows from it."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

import resnext
from resnext.data.order import batch_sizes, share_of
from resnext.errors import ResourceError, UsageError
from resnext.spec import Spec
from resnext.training.batch_norm import micro_batches
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
    images: int,
) -> Speed:
    """The speed with micro-batches that the memory has room for, where none are asked for.

    On a processor a micro-batch is what batch normalisation sees at once: with the paper's parts
    that measured 1.15 times (ResNeXt-50) to 1.4 times (ResNeXt-29) as fast as the whole batch, for
    very small networks 0.9 times. A GPU gets its whole share of a batch, or as many parts of it as
    fit. `images` are those of the training set, whose last batch may be cut into larger parts.

    Raises:
        ResourceError: not even one part fits; the message says how many images would.
    """
    _check_micro_batch(speed, wanted)
    if speed.sync_bn:
        return speed
    share = -(-wanted.batch_size // world.size)
    part = wanted.bn_batch or wanted.batch_size // world.size
    asked = speed.micro_batch or (min(part, share) if device.type == "cpu" else share)
    shares = _shares(images, wanted, world.size)

    def largest(at_once: int | None) -> int:
        return max(max(micro_batches(n, wanted.bn_batch, at_once)) for n in shares)

    usual = None if asked >= share else asked
    room = _room(device, world)
    if room is None:
        return replace(speed, micro_batch=usual)
    fits = _fitting(spec, resolution, speed, room)
    fewer = () if speed.micro_batch else range(fits - fits % part, 0, -part)
    for at_once in chain((usual, asked), fewer):
        if largest(at_once) <= fits:
            return replace(speed, micro_batch=at_once)
    least = largest(speed.micro_batch or part)
    needed = _needed(spec, resolution, speed, least)
    # A rest below half a part joins the part before it.
    safe = fits if fits and largest(fits) <= fits else fits * 2 // 3
    raise ResourceError(
        f"expected {needed / 2**30:.1f} GiB of memory for {resnext.name(spec)} at "
        f"{resolution} pixels and {least} images at once, found "
        f"{room / 2**30:.1f} GiB free on {device} for each process; {_advice(safe, wanted)}"
    )


def _check_micro_batch(speed: Speed, wanted: Recipe) -> None:
    if not speed.micro_batch:
        return
    if speed.sync_bn:
        raise UsageError("expected no --micro-batch to normalise over the whole batch, found one")
    if speed.micro_batch < (wanted.bn_batch or 1):
        raise UsageError(
            f"expected a micro-batch of at least the {wanted.bn_batch} images that are normalised "
            f"together, found {speed.micro_batch}; --set bn_batch={speed.micro_batch} goes with it"
        )


def _shares(images: int, wanted: Recipe, processes: int) -> set[int]:
    """Images of each process in all the batches of a pass."""
    part = wanted.bn_batch or 1
    batches = set(batch_sizes(images, batch_size=wanted.batch_size, start=0, last="keep"))
    every = (share_of(range(n), k, processes, part) for n in batches for k in range(processes))
    return {len(share) for share in every if len(share)}


def _fitting(spec: Spec, resolution: int, speed: Speed, room: int) -> int:
    """How many images a training step has room for at once."""
    return bisect_right(
        range(1, _MOST_IMAGES), room, key=lambda n: _needed(spec, resolution, speed, n)
    )


def _needed(spec: Spec, resolution: int, speed: Speed, images: int) -> int:
    """Bytes of a training step with so many images at once."""
    width = 4 if speed.precision == "fp32" else 2
    cost = resnext.complexity(spec, resolution)
    return cost.training_memory(images, element_bytes=width, accumulated=True).total


@contextmanager
def enough_memory(
    speed: Speed, spec: Spec, resolution: int, wanted: Recipe, device: torch.device, world: World
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
        said = _out_of_memory(speed, spec, resolution, wanted, device, world)
        raise ResourceError(said) from error


def _out_of_memory(
    speed: Speed, spec: Spec, resolution: int, wanted: Recipe, device: torch.device, world: World
) -> str:
    at_once = speed.micro_batch or -(-wanted.batch_size // world.size)
    smaller, room = at_once // 2, _room(device, world)
    if room is not None:
        smaller = min(smaller, _fitting(spec, resolution, speed, room))
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


def _room(device: torch.device, world: World) -> int | None:
    """Bytes that this process can have; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    if not found or device.type != "cpu":
        return None
    return 1024 * int(found[0]) // world.local_size
