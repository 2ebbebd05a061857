"""The least time that bytes and multiply-adds allow on a device: what a measured time is held to.

Every operand is read or written once, kernels do not overlap, and a kernel takes the longer of its
bytes at the device's bandwidth and its sums at the device's rate.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from resnext.complexity import complexity
from resnext.kernels.choices import DIRECTIONS, Shape
from resnext.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What a device can do at best, and how that is known.

    Attributes:
        bandwidth: bytes per second of a copy, both ways together.
        rate: multiply-adds per second of half-precision products.
        basis: `measured in this run`, or where the numbers are from.
    """

    bandwidth: float
    rate: float
    basis: str

    def seconds(self, bytes_: float, multiply_adds: float) -> float:
        """The floor of one kernel."""
        return max(bytes_ / self.bandwidth, multiply_adds / self.rate)


ASSUMED = Ceiling(
    bandwidth=4.3e12,
    rate=395e12,
    basis="assumed of an H200: 4.3 TB/s, 395 T multiply-adds/s in half precision",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv3x3:
    """A grouped 3x3 of a network on a batch, and how often it has it."""

    count: int
    group_width: int
    channels: int
    height: int
    width: int
    stride: int
    images: int

    def shape(self, direction: str) -> Shape:
        """What a kernel is chosen by."""
        assert direction in DIRECTIONS
        return Shape(
            direction=direction,
            group_width=self.group_width,
            channels=self.channels,
            height=self.height,
            width=self.width,
            images=self.images,
            stride=self.stride,
        )

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the result."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    def bytes(self, element: int = 2) -> int:
        """Of both maps, which each of the three directions has to read or write once."""
        pixels = self.height * self.width + self.out[0] * self.out[1]
        return self.images * self.channels * pixels * element

    @property
    def multiply_adds(self) -> int:
        """Of each direction."""
        out = self.out[0] * self.out[1]
        return self.images * self.channels * out * 9 * self.group_width

    def floor(self, ceiling: Ceiling, element: int = 2) -> float:
        """Seconds of each direction, at least."""
        return ceiling.seconds(self.bytes(element), self.multiply_adds)

    def __str__(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.channels}x{self.height}x{self.width}, {self.group_width} per group{stride}"


def grouped_convs(specs: Sequence[Spec], images: int, resolution: int) -> list[Conv3x3]:
    """The grouped 3x3 of networks, each once, with the most that one network has of it."""
    most: dict[tuple[int, ...], int] = {}
    for spec in specs:
        counts: dict[tuple[int, ...], int] = {}
        for key in _grouped(spec, resolution):
            counts[key] = counts.get(key, 0) + 1
        most |= {key: max(count, most.get(key, 0)) for key, count in counts.items()}
    return [
        Conv3x3(
            count=count,
            group_width=width,
            channels=channels,
            height=h,
            width=w,
            stride=stride,
            images=images,
        )
        for (width, channels, h, w, stride), count in most.items()
    ]


def _grouped(spec: Spec, resolution: int) -> Iterator[tuple[int, ...]]:
    for before, layer in pairwise(complexity(spec, resolution).layers):
        conv = layer.conv
        if conv is not None and conv.groups > 1 and conv.kernel == 3:
            group_width = conv.in_channels // conv.groups
            yield group_width, conv.in_channels, before.height, before.width, conv.stride


def measured_ceiling(device: torch.device) -> Ceiling:
    """Copies of 1 GiB and products of 8192 x 8192 in bfloat16: the best of several.

    Some 100 ms on a GPU; there is nothing to learn from it on a processor.
    """
    copy, product = _copy_seconds(device), _product_seconds(device)
    return Ceiling(bandwidth=2 * 2**30 / copy, rate=8192**3 / product, basis="measured in this run")


def _copy_seconds(device: torch.device) -> float:
    source = torch.empty(2**29, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    return min(gpu_seconds(lambda: target.copy_(source)) for _ in range(20))


def _product_seconds(device: torch.device) -> float:
    a = torch.randn(8192, 8192, device=device).bfloat16()
    out = torch.empty_like(a)
    return min(gpu_seconds(lambda: torch.mm(a, a, out=out)) for _ in range(20))


def gpu_seconds(call: Callable[[], object]) -> float:
    """Of the device, between two events in its queue."""
    begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000
