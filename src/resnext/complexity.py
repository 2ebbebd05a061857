"""What a network costs: a fold over its specification, layer by layer, in exact integers.

Multiply-adds count convolutions and the classifier, as the paper does (Sec. 4: "FLOPs
(multiply-adds)"). Activations are the numbers that those layers put out. Kept numbers are what
autograd holds for the backward pass of the grouped form.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from resnext.catalog import spec as read_spec
from resnext.errors import SpecError
from resnext.spec import Block, Conv, Spec

Operation = Literal["conv", "norm", "sum", "pool", "linear"]
Size = tuple[int, int]

_POOL = Conv(in_channels=1, out_channels=1, kernel=3, stride=2)  # only its sizes are used


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer at one resolution, for one image; ``name`` is the module's in the built network.

    ``kept`` counts numbers held for the backward pass, per image and of the activations' type;
    ``indices`` those of 8 bytes (where max pooling found its maxima).
    """

    name: str
    stage: str
    operation: Operation
    channels: int
    height: int
    width: int
    parameters: int = 0
    multiply_adds: int = 0
    activations: int = 0
    kept: int = 0
    indices: int = 0
    conv: Conv | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Sums over layers."""

    parameters: int
    multiply_adds: int
    activations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost(Cost):
    """Sums over one stage (conv1, conv2, ..., classifier), with the map it puts out."""

    name: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a training step on a batch of ``batch``.

    ``optimizer`` is one momentum buffer (SGD), ``activations`` what autograd holds at the end of
    the forward pass. ``total`` is the most that is held at once; that is not the sum of these,
    because in the backward pass activations go while gradients come: see
    `Complexity.training_memory`. The allocator's rounding and gaps come on top; they belong to the
    machine.
    """

    batch: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Bytes that a chain of layers holds in a training step, beside weights and momentum.

    Attributes:
        kept: at the end of the forward pass.
        gradients: of parameters, at the end of the backward pass.
        fullest: at the fullest moment of the backward pass.
    """

    kept: int = 0
    gradients: int = 0
    fullest: int = 0

    def then(self, behind: "Held") -> "Held":
        """Of this chain and the one behind it, through which the backward pass goes first.

        What this one kept is there until then, and the other's gradients from then on.
        """
        return Held(
            kept=self.kept + behind.kept,
            gradients=self.gradients + behind.gradients,
            fullest=max(self.fullest + behind.gradients, self.kept + behind.fullest),
        )


NOTHING = Held()


@dataclass(frozen=True, slots=True, kw_only=True)
class Complexity(Cost):
    """The cost of a network at one resolution, with its stages and layers."""

    resolution: Size
    stages: tuple[StageCost, ...]
    layers: tuple[Layer, ...]

    def training_memory(
        self, batch: int, *, element_bytes: int = 4, accumulated: bool = False
    ) -> Memory:
        """An estimate for float32 weights and activations of ``element_bytes`` each.

        The backward pass goes through the layers from the last to the first. At layer k it holds
        what was kept for layers 1 to k, the gradients of parameters of layers k to n (of all, where
        they are ``accumulated`` over several batches), the gradients of k's output and input, each
        of about the size of its output, and k's weights and their gradient once more in the order
        that convolution kernels work in. The fullest moment counts. Measured, in one process on a
        processor: within 2 % (tests/unit/training/test_memory.py).

        Normalisation keeps a mean and a deviation per channel, whatever the batch.
        """
        held = hold(self.layers, batch, element_bytes=element_bytes, accumulated=accumulated)
        return step_memory(self.parameters, held, batch, accumulated=accumulated)


def step_memory(parameters: int, held: Held, batch: int, *, accumulated: bool = False) -> Memory:
    """Memory of a training step of a network whose chain of layers holds ``held``."""
    weights = 4 * parameters
    return Memory(
        batch=batch,
        weights=weights,
        gradients=weights,
        optimizer=weights,
        activations=held.kept,
        total=(3 if accumulated else 2) * weights + held.fullest,
    )


def hold(
    layers: Iterable[Layer],
    batch: int,
    *,
    element_bytes: int = 4,
    accumulated: bool = False,
) -> Held:
    """What a forward and backward pass through these layers hold; see `training_memory`.

    ``accumulated`` gradients are there from the start and are not counted here.
    """
    held = NOTHING
    for layer in layers:
        kept = _kept_bytes(layer, batch, element_bytes)
        maps = 2 * batch * layer.channels * layer.height * layer.width * element_bytes
        gradients = 0 if accumulated else 4 * layer.parameters
        fullest = kept + gradients + maps + 2 * 4 * layer.parameters
        held = held.then(Held(kept=kept, gradients=gradients, fullest=fullest))
    return held


def _kept_bytes(layer: Layer, batch: int, element_bytes: int) -> int:
    statistics = 2 * 4 * layer.channels if layer.operation == "norm" else 0
    return batch * (layer.kept * element_bytes + layer.indices * 8) + statistics


def complexity(network: Spec | str, resolution: int | Size | None = None) -> Complexity:
    """Parameters, multiply-adds and activations of a network, equal to what the module executes.

    Args:
        network: a specification or a name in any notation.
        resolution: side of the image, or (height, width); the network's usual one if left out.

    Raises:
        NotationError, SpecError: no such network, or the resolution is not positive.
    """
    spec = read_spec(network)
    resolution = spec.resolution if resolution is None else resolution
    size = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    if not all(type(side) is int and side >= 1 for side in size):
        raise SpecError(f"expected a resolution of at least 1 pixel, found {size[0]} x {size[1]}")
    layers = tuple(_layers(spec, size))
    names = dict.fromkeys(layer.stage for layer in layers)
    stages = tuple(_stage(name, [x for x in layers if x.stage == name]) for name in names)
    return Complexity(
        resolution=size,
        stages=stages,
        layers=layers,
        parameters=sum(stage.parameters for stage in stages),
        multiply_adds=sum(stage.multiply_adds for stage in stages),
        activations=sum(stage.activations for stage in stages),
    )


def _stage(name: str, layers: list[Layer]) -> StageCost:
    last = layers[-1]
    return StageCost(
        name=name,
        channels=last.channels,
        height=last.height,
        width=last.width,
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activations=sum(layer.activations for layer in layers),
    )


def _layers(spec: Spec, size: Size) -> Iterator[Layer]:
    """The layers in the order in which they are computed."""
    yield from (stem := list(_stem(spec, size)))
    size = (stem[-1].height, stem[-1].width)
    stage = "conv1"
    for number, index, block in spec.blocks():
        stage = f"conv{number + 2}"
        prefix = f"layer{number + 1}.{index}"
        yield from (block_layers := list(_block(prefix, stage, block, size)))
        size = (block_layers[-1].height, block_layers[-1].width)
    if spec.preactivation:
        yield _norm("norm", stage, spec.out_channels, size)
    yield Layer(
        name="fc",
        stage="classifier",
        operation="linear",
        channels=spec.classes,
        height=1,
        width=1,
        parameters=(spec.out_channels + 1) * spec.classes,
        multiply_adds=spec.out_channels * spec.classes,
        activations=spec.classes,
        kept=spec.out_channels,
    )


def _conv(name: str, stage: str, conv: Conv, size: Size, *, kept: bool) -> Layer:
    height, width = map(conv.output_size, size)
    return Layer(
        name=name,
        stage=stage,
        operation="conv",
        channels=conv.out_channels,
        height=height,
        width=width,
        parameters=conv.parameters,
        multiply_adds=conv.parameters * height * width,
        activations=conv.out_channels * height * width,
        kept=conv.out_channels * height * width if kept else 0,
        conv=conv,
    )


def _norm(name: str, stage: str, channels: int, size: Size, *, kept: bool = True) -> Layer:
    """Scale and shift per channel. What it puts out is kept once, by the ReLU that follows."""
    return Layer(
        name=name,
        stage=stage,
        operation="norm",
        channels=channels,
        height=size[0],
        width=size[1],
        parameters=2 * channels,
        kept=channels * size[0] * size[1] if kept else 0,
    )


def _stem(spec: Spec, size: Size) -> Iterator[Layer]:
    convs = spec.stem_convs()
    image = spec.in_channels * size[0] * size[1]
    for i, conv in enumerate(convs):
        last = i == len(convs) - 1
        # timm's names for a stem of several convolutions: conv1 is then a sequence.
        layer = _conv(
            "conv1" if len(convs) == 1 else f"conv1.{3 * i}", "conv1", conv, size, kept=True
        )
        yield layer if i else replace(layer, kept=layer.kept + image)
        size = (layer.height, layer.width)
        if spec.stem.norm or not last:
            yield _norm("bn1" if last else f"conv1.{3 * i + 1}", "conv1", conv.out_channels, size)
    if spec.stem.pool:
        height, width = (_POOL.output_size(side) for side in size)
        pooled = convs[-1].out_channels * height * width
        yield Layer(
            name="maxpool",
            stage="conv2",  # where Table 1 lists it
            operation="pool",
            channels=convs[-1].out_channels,
            height=height,
            width=width,
            kept=pooled,
            indices=pooled,
        )


def _block(prefix: str, stage: str, block: Block, size: Size) -> Iterator[Layer]:
    if not block.homogeneous or block.path_norm:
        chain = _split(prefix, stage, block, size)
    elif block.activation == "post":
        chain = _post(prefix, stage, block.convs(), size)
    else:
        chain = _pre(prefix, stage, block, size)
    yield from chain
    projection = block.projection()
    if projection is not None:
        post = block.activation == "post"
        layer = _conv(f"{prefix}.downsample.0", stage, projection, size, kept=post)
        yield layer
        if post:
            after = (layer.height, layer.width)
            yield _norm(f"{prefix}.downsample.1", stage, layer.channels, after, kept=False)


def _post(prefix: str, stage: str, convs: tuple[Conv, ...], size: Size) -> Iterator[Layer]:
    """Convolution, normalisation, ReLU; the last ReLU, behind the addition, keeps the output."""
    for i, conv in enumerate(convs, 1):
        layer = _conv(f"{prefix}.conv{i}", stage, conv, size, kept=True)
        size = (layer.height, layer.width)
        yield layer
        yield _norm(f"{prefix}.bn{i}", stage, layer.channels, size)


def _pre(prefix: str, stage: str, block: Block, size: Size) -> Iterator[Layer]:
    """Normalisation, ReLU, convolution; the sum is kept by the next normalisation."""
    for i, conv in enumerate(block.convs(), 1):
        if i > 1 or block.activation != "pre-opening":
            yield _norm(f"{prefix}.bn{i}", stage, conv.in_channels, size)
        layer = _conv(f"{prefix}.conv{i}", stage, conv, size, kept=True)
        size = (layer.height, layer.width)
        yield layer


def _split(prefix: str, stage: str, block: Block, size: Size) -> Iterator[Layer]:
    """Path by path (form a), for blocks that have no other form."""
    if block.activation in ("pre", "pre-shared"):
        yield _norm(f"{prefix}.norm", stage, block.in_channels, size)
    out = size
    for number, convs in enumerate(block.path_convs()):
        out = size
        for i, conv in enumerate(convs, 1):
            normed = i < len(convs) or block.path_norm
            layer = _conv(f"{prefix}.paths.{number}.conv{i}", stage, conv, out, kept=normed)
            out = (layer.height, layer.width)
            yield layer
            if normed:
                name = f"{prefix}.paths.{number}.norm{i}"
                yield _norm(name, stage, layer.channels, out, kept=i < len(convs))
    kept = block.out_channels * out[0] * out[1]  # the sum, or with its ReLU the block's output
    if block.activation == "post" and not block.path_norm:
        norm = _norm(f"{prefix}.norm", stage, block.out_channels, out)
        yield replace(norm, kept=norm.kept + kept)
    else:
        yield Layer(
            name=f"{prefix}.sum",
            stage=stage,
            operation="sum",
            channels=block.out_channels,
            height=out[0],
            width=out[1],
            kept=kept,
        )
