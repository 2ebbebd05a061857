"""The least time that bytes and multiply-adds allow on a device: what a measured time is held to.

Every operand is read or written once, kernels do not overlap, and a kernel takes the longer of its
bytes at the device's bandwidth and its sums at the device's rate.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from resnext.complexity import Layer, complexity
from resnext.kernels.choices import DIRECTIONS, Shape
from resnext.spec import Block, Spec


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
    """A grouped 3x3 of a network on a batch of values of so many bytes; how often it has it."""

    count: int
    group_width: int
    channels: int
    height: int
    width: int
    stride: int
    images: int
    itemsize: int = 2

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
            itemsize=self.itemsize,
        )

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the result."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def bytes(self) -> int:
        """Of both maps, which each of the three directions has to read or write once."""
        pixels = self.height * self.width + self.out[0] * self.out[1]
        return self.images * self.channels * pixels * self.itemsize

    @property
    def multiply_adds(self) -> int:
        """Of each direction."""
        out = self.out[0] * self.out[1]
        return self.images * self.channels * out * 9 * self.group_width

    def floor(self, ceiling: Ceiling) -> float:
        """Seconds of each direction, at least."""
        return ceiling.seconds(self.bytes, self.multiply_adds)

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


def step_floor(
    spec: Spec, batch: int, resolution: int, ceiling: Ceiling, element: int = 2
) -> float | None:
    """Seconds of a training step by SGD if every convolution is a kernel of its own.

    Around them each normalisation takes one pass for its statistics and one with its ReLU; its
    gradient two passes. That is what `torch.compile` makes. Of convolution outputs and activations
    both are kept, as autograd does. None for networks that are not of bottlenecks behind one
    convolution and a pool.

    Args:
        spec: the network.
        batch: images.
        resolution: their side in pixels.
        ceiling: of the device.
        element: bytes of an activation.
    """
    if spec.preactivation or not spec.stem.pool or len(spec.stem.convs) > 1:
        return None
    layers = {layer.name: layer for layer in complexity(spec, resolution).layers}
    if "layer1.0.conv3" not in layers or "layer1.0.conv4" in layers:
        return None
    kernels = [*_stem(spec, resolution, layers)]
    size = layers["conv1"].height // 2
    for stage, index, block in spec.blocks():
        kernels += _block(f"layer{stage + 1}.{index}", block, size, layers)
        size = -(-size // block.stride)
    head = spec.out_channels * size**2
    kernels += [(head, layers["fc"].multiply_adds), (head, 2 * layers["fc"].multiply_adds)]
    weights = sum(layer.parameters for layer in layers.values())
    seconds = ceiling.seconds(weights * _OPTIMIZER_BYTES, 0)
    return seconds + sum(
        ceiling.seconds(passes * element * batch, adds * batch) for passes, adds in kernels
    )


_OPTIMIZER_BYTES = 38
"""Of a weight: read in half and full precision, gradient, momentum, all written once or twice."""

_Kernel = tuple[float, int]
"""Numbers read and written, and multiply-adds, of one image."""


def _map(layer: Layer) -> int:
    return layer.channels * layer.height * layer.width


def _stem(spec: Spec, resolution: int, layers: Mapping[str, Layer]) -> Iterator[_Kernel]:
    image, y = spec.in_channels * resolution**2, _map(layers["conv1"])
    pooled = 1.5 * y / 4  # with an index of a byte, half a number
    adds = layers["conv1"].multiply_adds
    yield from ((image + y, adds), (y, 0), (2 * y, 0), (y + pooled, 0))
    yield from ((pooled + 2 * y, 0), (pooled + 3 * y, 0), (y + image, adds))


def _block(prefix: str, block: Block, size: int, layers: Mapping[str, Layer]) -> Iterator[_Kernel]:
    one, two, three = (layers[f"{prefix}.conv{number}"] for number in (1, 2, 3))
    x, y1, y2, y3 = block.in_channels * size**2, _map(one), _map(two), _map(three)
    projection = layers.get(f"{prefix}.downsample.0")
    ys, xs = (
        (_map(projection), _map(projection) // block.out_channels * block.in_channels)
        if (projection)
        else (0, 0)
    )
    for read, written, conv in ((x, y1, one), (y1, y2, two), (y2, y3, three)):
        yield from ((read + written, conv.multiply_adds),) * 3  # forward and both gradients
    for y in (y1, y2):
        yield from ((y, 0), (2 * y, 0), (3 * y, 0), (4 * y, 0))
    yield from ((y3, 0), (3.5 * y3, 0), (4.5 * y3 + ys, 0), (3 * y3 + 2 * ys, 0))
    if projection is not None:
        adds = projection.multiply_adds
        yield from ((xs + ys, adds), (ys, 0), (ys + x, adds), (ys + xs, adds))
