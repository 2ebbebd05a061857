"""Images per second of one training step: our trainer's beside those of torchvision and timm.

Their steps (`steps`) are interleaved in random order inside one process, slice by slice; a ratio is
the median over slices of a method's rate by the best peer's of the same network on that slice. One
thread is measured by its processor time, several and a GPU by the clock. Beside a GPU's times
stands the roofline's: what a step takes at least if every convolution is a kernel of its own.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from resnext.benchmark.roofline import Ceiling, step_floor
from resnext.benchmark.steps import OURS, Mode, Setting, Step, compilation_of, methods
from resnext.catalog import name as name_of
from resnext.errors import UsageError
from resnext.spec import Spec
from resnext.training.distributed import ALONE
from resnext.training.speed import Speed, check_speed

_WARM_UP = 2
_GPU_STEPS = 10  # of a slice, between two waits for the device

Key = tuple[str, Mode, str]
"""Network, mode, method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A method that has taken its first steps: so long takes compilation, above all."""

    network: str
    mode: Mode
    method: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method in one mode: its median rate, the extremes, and its ratio to the best peer.

    Attributes:
        floor: milliseconds that the step takes at least, where the device's ceilings are known.
        over_floor: the median step's time over that.
    """

    network: str
    mode: Mode
    method: str
    images_per_second: float
    least: float
    most: float
    ratio: float
    slices: int
    floor: float | None = None
    over_floor: float | None = None


def benchmark_training(
    setting: Setting,
    *,
    modes: Sequence[Mode] = ("eager", "channels-last", "compiled"),
    beside: Sequence[Spec] = (),
    parts: int | None = None,
    slices: int = 9,
    seed: int = 0,
    ceiling: Ceiling | None = None,
) -> Iterator[Ready | Row]:
    """Rates of training steps, mode by mode; first a `Ready` of each method as it is warmed up.

    Args:
        setting: what is trained.
        modes: that every method runs in.
        beside: other networks, such as a ResNet of equal cost, in the same slices.
        parts: images that batch normalisation takes at once in two more rows of ours: with the
            whole batch in one go, and in micro-batches of that size. Half a batch if left out.
        slices: repetitions, of which the median counts.
        seed: of weights, images and the order of methods.
        ceiling: of the device, for floors beside the times.

    Raises:
        UsageError: the device cannot do that, or parts are larger than the batch.
    """
    parts = max(1, setting.batch // 2) if parts is None else parts
    if not 1 <= parts <= setting.batch:
        raise UsageError(f"expected parts of 1 to {setting.batch} images, found {parts}")
    _check(setting, modes)
    if setting.device.type == "cpu":
        torch.set_num_threads(setting.threads)
    settings = {
        name_of(spec): replace(setting, network=spec) for spec in (setting.network, *beside)
    }
    steps: dict[Key, Step] = {}
    for network, mode in product(settings, modes):
        own = parts if network == name_of(setting.network) else None
        for method, make in methods(settings[network], mode, parts=own, seed=seed).items():
            started = time.perf_counter()
            steps[network, mode, method] = _warmed(make, method, setting.device)
            seconds = time.perf_counter() - started
            yield Ready(network=network, mode=mode, method=method, seconds=seconds)
    floors = {network: _floor(known, ceiling) for network, known in settings.items()}
    yield from _rows(_rates(setting, steps, slices, random.Random(seed)), floors, setting.batch)


def _check(setting: Setting, modes: Sequence[Mode]) -> None:
    """Refuse what the device cannot do before anything is measured."""
    for mode, backend in product(modes, setting.backends):
        speed = Speed(
            precision=setting.precision, compilation=compilation_of(mode), backend=backend
        )
        check_speed(speed, setting.device, ALONE)


def _warmed(make: Callable[[], Step], method: str, device: torch.device) -> Step:
    _choose_kernels(method)
    step = make()
    for _ in range(_WARM_UP):
        step()
    _wait(device)
    return step


def _choose_kernels(method: str) -> None:
    """On a GPU both peers' loops have cuDNN try its kernels; a run of ours may not: bits differ."""
    torch.backends.cudnn.benchmark = not method.startswith(OURS)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _floor(setting: Setting, ceiling: Ceiling | None) -> float | None:
    """Milliseconds."""
    if ceiling is None:
        return None
    element = 4 if setting.precision == "fp32" else 2
    seconds = step_floor(setting.network, setting.batch, setting.resolution, ceiling, element)
    return None if seconds is None else 1000 * seconds


def _rates(
    setting: Setting, methods: Mapping[Key, Step], slices: int, shuffle: random.Random
) -> dict[Key, list[float]]:
    on_cpu = setting.device.type == "cpu"
    clock = time.process_time if on_cpu and setting.threads == 1 else time.perf_counter
    steps = 1 if on_cpu else _GPU_STEPS
    rates: dict[Key, list[float]] = {key: [] for key in methods}
    for _ in range(slices):
        for key in shuffle.sample(list(methods), len(methods)):
            _choose_kernels(key[2])
            started = clock()
            for _ in range(steps):
                methods[key]()
            _wait(setting.device)
            rates[key].append(steps * setting.batch / (clock() - started))
    return rates


def _rows(
    rates: Mapping[Key, list[float]], floors: Mapping[str, float | None], batch: int
) -> Iterator[Row]:
    for (network, mode, method), found in rates.items():
        best = _best_peer(rates, network)
        median, floor = statistics.median(found), floors[network]
        yield Row(
            network=network,
            mode=mode,
            method=method,
            images_per_second=median,
            least=min(found),
            most=max(found),
            ratio=statistics.median(a / b for a, b in zip(found, best, strict=True)),
            slices=len(found),
            floor=floor,
            over_floor=1000 * batch / median / floor if floor else None,
        )


def _best_peer(rates: Mapping[Key, list[float]], network: str) -> list[float]:
    peers = [
        found
        for (other, _, method), found in rates.items()
        if other == network and not method.startswith(OURS)
    ]
    return max(peers, key=statistics.median)


def overhead(rows: Sequence[Row]) -> dict[str, float]:
    """Network beside -> how many times longer than its best step the first network's best takes.

    The paper's question (Sec. 5.1, performance): what does equal cost take in groups?
    """
    networks = list(dict.fromkeys(row.network for row in rows))
    best = {
        network: max(row.images_per_second for row in rows if row.network == network)
        for network in networks
    }
    return {other: best[other] / best[networks[0]] for other in networks[1:]}
