"""Seconds of the grouped 3x3 in each direction: our kernels, merged groups, the framework's.

All see the same tensors, channels last in half precision, and take turns in random order. Between
two of them the device's cache is filled with something else, as a network would. cuDNN tries its
kernels first (`cudnn.benchmark`). A result that differs from double precision by more than its
rounding is not timed but reported. Beside every time stands the roofline's.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from resnext.benchmark.roofline import Ceiling, Conv3x3, gpu_seconds
from resnext.errors import ResourceError
from resnext.kernels import reference, runs_on, unsupported_weight
from resnext.kernels.choices import DIRECTIONS, Choice, Direction, Launch, Shape, estimated
from resnext.kernels.merged import WIDTH, merge, merged_width, unmerge

Precision = Literal["bf16", "fp16", "fp32"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
FRAMEWORK, MERGED, TRITON = "framework", "merged", "triton"
Call = Callable[[], Tensor]
_CHECKED = 4
"""Images that results are compared on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method on one convolution in one direction; times in microseconds.

    Attributes:
        ratio: median over the floor.
        error: ||result - truth|| / ||truth||.
        wrong: the error is beyond rounding, and nothing was timed.
        kernels: names of what ran on the device, where a profiler could tell.
    """

    conv: Conv3x3
    direction: Direction
    method: str
    launch: Launch | None
    median: float | None
    least: float | None
    most: float | None
    floor: float
    ratio: float | None
    error: float
    wrong: bool
    repeats: int
    kernels: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As a line of JSON."""
        values = asdict(self)
        conv = values.pop("conv")
        return {"shape": self.conv.shape(self.direction).key, **conv, **values}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How it is measured.

    Attributes:
        tune: launches of our kernels beside the estimated one are tried.
    """

    device: torch.device
    precision: Precision = "bf16"
    repeats: int = 50
    tune: bool = False
    seed: int = 0


def require_gpu() -> torch.device:
    """The GPU to measure on.

    Raises:
        ResourceError: there is none.
    """
    if not torch.cuda.is_available():
        raise ResourceError(
            "expected a CUDA GPU to measure kernels on, found none; --dry-run prints the shapes "
            "and the least time that each of them takes"
        )
    return torch.device("cuda", torch.cuda.current_device())


def benchmark_kernels(
    convs: Sequence[Conv3x3], ceiling: Ceiling, setting: Setting
) -> Iterator[Row]:
    """Every method on every convolution in every direction, one direction at a time."""
    cudnn_before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    itemsize = DTYPES[setting.precision].itemsize
    try:
        for conv, direction in product(convs, DIRECTIONS):
            yield from _contest(replace(conv, itemsize=itemsize), direction, ceiling, setting)
    finally:
        torch.backends.cudnn.benchmark = cudnn_before


def _contest(
    conv: Conv3x3, direction: Direction, ceiling: Ceiling, setting: Setting
) -> Iterator[Row]:
    given = _Given.draw(conv, direction, setting)
    few = _Given.draw(replace(conv, images=min(conv.images, _CHECKED)), direction, setting)
    truth = few.truth()
    calls: dict[tuple[str, Launch | None], Call] = {}
    errors: dict[tuple[str, Launch | None], float] = {}
    for key, call in _methods(given, setting).items():
        try:
            found = _methods(few, setting, only=key)[key]()
        except _too_large():
            continue  # a launch that asks for more shared memory than there is
        errors[key] = reference.error(found, truth)
        calls[key] = call
    bound = reference.BOUNDS[DTYPES[setting.precision]]
    right = {key: call for key, call in calls.items() if errors[key] <= bound}
    times = _times(right, setting)
    floor = 1e6 * conv.floor(ceiling)
    for key, call in calls.items():
        taken = times.get(key)
        median = statistics.median(taken) if taken else None
        yield Row(
            conv=conv,
            direction=direction,
            method=key[0],
            launch=key[1],
            median=median,
            least=min(taken) if taken else None,
            most=max(taken) if taken else None,
            floor=floor,
            ratio=median / floor if median else None,
            error=errors[key],
            wrong=key not in right,
            repeats=len(taken or ()),
            kernels=_names(call, setting.device) if taken else (),
        )


@dataclass(frozen=True, slots=True)
class _Given:
    """The tensors of one direction."""

    conv: Conv3x3
    direction: Direction
    x: Tensor
    dy: Tensor
    weight: Tensor

    @classmethod
    def draw(cls, conv: Conv3x3, direction: Direction, setting: Setting) -> "_Given":
        generator = torch.Generator(setting.device).manual_seed(setting.seed)
        dtype = DTYPES[setting.precision]

        def drawn(*size: int) -> Tensor:
            values = torch.randn(size, generator=generator, device=setting.device)
            return values.to(dtype).contiguous(memory_format=torch.channels_last)

        size = (conv.images, conv.channels)
        x, dy = drawn(*size, conv.height, conv.width), drawn(*size, *conv.out)
        # the values of half precision in float32, as a network's weights are stored
        weight = drawn(conv.channels, conv.group_width, 3, 3).float()
        return cls(conv, direction, x, dy, weight)

    def truth(self) -> Tensor:
        """In double precision, on the device."""
        if self.direction == "forward":
            return reference.conv(self.x, self.weight, self.conv.stride)
        dx, dw = reference.gradients(self.x, self.weight, self.dy, self.conv.stride)
        return dx if self.direction == "input-gradient" else dw

    def framework(self, width: int) -> Call:
        """The framework's kernel on groups of `width`; weights are cast and merged each time."""
        x, dy, stride = self.x, self.dy, self.conv.stride
        own, groups = self.conv.group_width, self.conv.channels // width

        def weight() -> Tensor:
            wide = self.weight if width == own else merge(self.weight, width)
            return wide.to(x.dtype)

        def backward(*wanted: bool) -> tuple[Any, ...]:
            one, strides = [1, 1], [stride, stride]
            found: tuple[Any, ...] = torch.ops.aten.convolution_backward(
                dy, x, weight(), None, strides, one, one, False, [0, 0], groups, [*wanted, False]
            )
            return found

        if self.direction == "forward":
            return lambda: F.conv2d(x, weight(), stride=stride, padding=1, groups=groups)
        if self.direction == "input-gradient":
            return lambda: backward(True, False)[0]
        return lambda: unmerge(backward(False, True)[1], own).float()

    def ours(self, launch: Launch) -> Call:
        """Our kernel, the packing of weights included."""
        from resnext.kernels import launching

        x, dy, weight, stride = self.x, self.dy, self.weight, self.conv.stride
        if self.direction == "forward":
            return lambda: launching.convolve(x, weight, stride, launch)
        if self.direction == "input-gradient":
            size = (self.conv.height, self.conv.width)
            return lambda: launching.input_gradient(dy, weight, size, stride, launch)
        return lambda: launching.weights_gradient(x, dy, weight, stride, launch)


def _methods(
    given: _Given, setting: Setting, only: tuple[str, Launch | None] | None = None
) -> dict[tuple[str, Launch | None], Call]:
    conv = given.conv
    calls: dict[tuple[str, Launch | None], Call] = {
        (FRAMEWORK, None): given.framework(conv.group_width)
    }
    widths = {merged_width(conv.channels, conv.group_width, w) for w in (32, WIDTH, 128)}
    for width in sorted(widths - {conv.group_width}):
        calls[f"{MERGED} to {width}", None] = given.framework(width)
    why = unsupported_weight(given.weight, conv.channels, conv.stride)
    if why is None and runs_on(setting.device.type):
        shape = conv.shape(given.direction)
        launches = candidates(shape) if setting.tune else [estimated(shape)]
        calls |= {(TRITON, launch): given.ours(launch) for launch in launches}
    return calls if only is None else {only: calls.get(only) or given.ours(_launch(only))}


def _too_large() -> type[Exception]:
    """What triton says of a launch that no multiprocessor has room for."""
    from triton.runtime.errors import OutOfResources

    found: type[Exception] = OutOfResources
    return found


def _launch(key: tuple[str, Launch | None]) -> Launch:
    """The launch of a kernel that was tuned for more images than are compared."""
    assert key[1] is not None
    return key[1]


def candidates(shape: Shape) -> list[Launch]:
    """Launches worth trying: the estimated one first, and what surrounds it."""
    usual = estimated(shape)
    found = [usual]
    for pixels, stages, rows, share in product((1, 2), (1, 2, 3), (1, 2), (1, 2)):
        columns = usual.columns * (pixels if usual.images == 1 else 1)
        launch = replace(
            usual,
            columns=columns,
            images=32 * pixels // columns,
            stages=stages,
            rows=max(1, -(-usual.rows // rows)),
            slices=max(1, usual.slices // share),
        )
        if launch not in found and (rows == 1 or shape.direction != "weight-gradient"):
            found.append(launch)
    return found


def _times(calls: Mapping[Any, Call], setting: Setting) -> dict[Any, list[float]]:
    """Microseconds of each call, in turns."""
    for call in calls.values():
        for _ in range(3):
            call()
    on_gpu = setting.device.type == "cuda"
    seconds = gpu_seconds if on_gpu else _cpu_seconds
    other = torch.empty(2**26 if on_gpu else 1, device=setting.device)  # 256 MiB: beyond any cache
    shuffle = random.Random(setting.seed)
    found: dict[Any, list[float]] = {key: [] for key in calls}
    for _ in range(setting.repeats):
        for key in shuffle.sample(list(calls), len(calls)):
            other.zero_()
            found[key].append(1e6 * seconds(calls[key]))
    return found


def _cpu_seconds(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _names(call: Call, device: torch.device) -> tuple[str, ...]:
    """What runs on the device; cuDNN's choice shows in the name."""
    if device.type != "cuda":
        return ()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize(device)
    return tuple(event.key for event in profile.key_averages() if event.device_time_total > 0)


def fastest(rows: Sequence[Row]) -> dict[str, Choice]:
    """What the table is to say: of every shape and direction, the fastest that is right.

    Merged groups count where they are as wide as `merged.WIDTH` makes them.
    """
    best: dict[str, Row] = {}
    for row in rows:
        conv = row.conv
        width = merged_width(conv.channels, conv.group_width)
        usable = row.method in (FRAMEWORK, TRITON, f"{MERGED} to {width}")
        key = conv.shape(row.direction).key
        if not usable or row.median is None:
            continue
        held = best.get(key)
        if held is None or held.median is None or row.median < held.median:
            best[key] = row
    own: dict[str, Row] = {}
    for row in rows:
        key = row.conv.shape(row.direction).key
        held = own.get(key)
        faster = held is None or (row.median or 0.0) < (held.median or 0.0)
        if row.method == TRITON and row.median is not None and faster:
            own[key] = row
    return {key: _choice(row, own.get(key)) for key, row in best.items()}


def _choice(row: Row, own: Row | None) -> Choice:
    """The launch is that of our fastest kernel, for those who ask for it by name."""
    shape = row.conv.shape(row.direction)
    launch = own.launch if own and own.launch else estimated(shape)
    if row.method == TRITON:
        return Choice(path="triton", launch=launch)
    merged = row.method.startswith(MERGED)
    return Choice(path="merged" if merged else "framework", launch=launch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Over all shapes and directions that our kernels were timed on.

    Attributes:
        efficiency: geometric mean of floor / time of our fastest launch.
        framework_efficiency: the same of the framework's.
        ahead: in so many of `compared` ours is faster than the framework's best, merged or not.
    """

    efficiency: float
    framework_efficiency: float
    ahead: int
    compared: int


def summary(rows: Sequence[Row]) -> Summary | None:
    """None where no kernel of ours was timed."""
    ours: dict[str, list[Row]] = {}
    theirs: dict[str, list[Row]] = {}
    for row in rows:
        if row.median is not None:
            kind = ours if row.method == TRITON else theirs
            kind.setdefault(row.conv.shape(row.direction).key, []).append(row)
    both = [key for key in ours if key in theirs]
    if not both:
        return None
    mine = {key: min(row.ratio or 0.0 for row in ours[key]) for key in both}
    best = {key: min(row.ratio or 0.0 for row in theirs[key]) for key in both}
    plain = [row.ratio or 0.0 for key in both for row in theirs[key] if row.method == FRAMEWORK]
    return Summary(
        efficiency=1 / statistics.geometric_mean(mine.values()),
        framework_efficiency=1 / statistics.geometric_mean(plain),
        ahead=sum(mine[key] < best[key] for key in both),
        compared=len(both),
    )
