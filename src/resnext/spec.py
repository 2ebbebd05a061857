"""A network as a value: stem, stages and blocks, with every channel count derived once, here.

`Spec` says which function a network computes and nothing about how: form, device and dtype are
arguments of `build`. Two rules (Sec. 3.1) make a network from one template: blocks of a stage are
alike, and widths double where the map is halved.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Literal, Self

from resnext.errors import SpecError
from resnext.template import Template

Shortcut = Literal["A", "B", "C", "none"]
Activation = Literal["post", "pre", "pre-shared", "pre-opening"]
Connection = Literal["identity", "projection", "padding", "none"]

BOTTLENECK = (1, 3, 1)
BASIC = (3, 3)


def _check_count(name: str, value: object, least: int = 1) -> None:
    if type(value) is not int or value < least:
        raise SpecError(f"expected {name} as a whole number of at least {least}, found {value!r}")


def _check_flag(name: str, value: object) -> None:
    if type(value) is not bool:
        raise SpecError(f"expected {name} as true or false, found {value!r}")


def _check_kernel(kernel: object) -> None:
    _check_count("kernel", kernel)
    if isinstance(kernel, int) and kernel % 2 == 0:
        raise SpecError(f"expected an odd kernel, found {kernel}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """One convolution without bias; the map keeps its size but for the stride."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "stride", "groups"):
            _check_count(name, getattr(self, name))
        _check_kernel(self.kernel)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise SpecError(
                    f"expected {name} to divide by {self.groups} groups, "
                    f"found {getattr(self, name)}"
                )

    @property
    def padding(self) -> int:
        """Zeros on each side, so that stride 1 keeps the size."""
        return self.kernel // 2

    @property
    def parameters(self) -> int:
        """Weights; there is no bias, normalisation has one."""
        return self.out_channels * (self.in_channels // self.groups) * self.kernel**2

    def output_size(self, size: int) -> int:
        """Height (or width) of the output for that of the input."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """C transformations T_i of one shape (Eqn. 3): convolutions of these kernels, d channels wide.

    ``kernels`` (1, 3, 1) is the bottleneck, (3, 3) the basic block of Fig. 4.
    """

    template: Template
    kernels: tuple[int, ...] = BOTTLENECK

    def __post_init__(self) -> None:
        if len(self.kernels) < 2:
            raise SpecError(
                f"expected a path of at least two convolutions, found kernels {self.kernels}"
            )
        for kernel in self.kernels:
            _check_kernel(kernel)

    @classmethod
    def of(cls, template: "str | Template", kernels: Sequence[int] = BOTTLENECK) -> Self:
        """``Paths.of("32x4d")``, the short way to write one."""
        parsed = template if isinstance(template, Template) else Template.parse(template)
        return cls(template=parsed, kernels=tuple(kernels))

    def scaled(self, factor: int) -> "Paths":
        """The same topology, ``factor`` times as wide."""
        return replace(self, template=self.template.scaled(factor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A residual block y = shortcut(x) + sum over i of T_i(x) (Eqn. 3)."""

    in_channels: int
    out_channels: int
    stride: int
    paths: tuple[Paths, ...]
    shortcut: Connection
    activation: Activation
    path_norm: bool = False

    @property
    def homogeneous(self) -> bool:
        """Whether all T_i have one topology, so that forms (b) and (c) of Fig. 3 exist."""
        return len(self.paths) == 1

    def convs(self) -> tuple[Conv, ...]:
        """Form (c): the paths side by side in wide convolutions, the inner ones grouped.

        A path of two convolutions has no inner one, so nothing is grouped: Fig. 4's "no gain".

        Raises:
            SpecError: the paths differ; they exist in the split form only.
        """
        if not self.homogeneous:
            raise SpecError(
                "heterogeneous paths have no grouped or concatenated form (Sec. 3.2): "
                "build with form='split'"
            )
        paths = self.paths[0]
        return self._chain(paths.template.group_width, paths.kernels, paths.template.cardinality)

    def path_convs(self) -> Iterator[tuple[Conv, ...]]:
        """Form (a): the convolutions of each T_i in turn."""
        for paths in self.paths:
            for _ in range(paths.template.cardinality):
                yield self._chain(paths.template.width, paths.kernels, 1)

    def _chain(self, width: int, kernels: tuple[int, ...], groups: int) -> tuple[Conv, ...]:
        last = len(kernels) - 1
        # The stride sits in the first convolution that sees neighbours: the 3x3 of a bottleneck.
        strided = next((i for i, kernel in enumerate(kernels) if kernel > 1), 0)
        return tuple(
            Conv(
                in_channels=self.in_channels if i == 0 else width,
                out_channels=self.out_channels if i == last else width,
                kernel=kernel,
                stride=self.stride if i == strided else 1,
                groups=groups if 0 < i < last else 1,
            )
            for i, kernel in enumerate(kernels)
        )

    def projection(self) -> Conv | None:
        """The 1x1 convolution of the shortcut, if it has one."""
        if self.shortcut != "projection":
            return None
        return Conv(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel=1,
            stride=self.stride,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Blocks that produce maps of one size and share widths (rule 1)."""

    blocks: int
    out_channels: int
    stride: int
    paths: tuple[Paths, ...]

    def __post_init__(self) -> None:
        for name in ("blocks", "out_channels", "stride"):
            _check_count(name, getattr(self, name))
        if not self.paths:
            raise SpecError("expected at least one path in a stage, found none")
        object.__setattr__(self, "paths", _merged(self.paths))


def _merged(paths: Sequence[Paths]) -> tuple[Paths, ...]:
    """Like neighbours as one entry, so that equal networks are equal values."""
    runs = (list(run) for _, run in groupby(paths, lambda p: (p.template.width, p.kernels)))
    return tuple(
        Paths(
            template=Template(sum(p.template.cardinality for p in run), run[0].template.width),
            kernels=run[0].kernels,
        )
        for run in runs
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StemConv:
    """A convolution of the stem; its input channels follow from what comes before."""

    out_channels: int
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        _check_count("out_channels", self.out_channels)
        _check_count("stride", self.stride)
        _check_kernel(self.kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """What comes before conv2: convolutions, normalisation and ReLU, max pooling."""

    convs: tuple[StemConv, ...]
    norm: bool = True
    pool: bool = False

    def __post_init__(self) -> None:
        if not self.convs:
            raise SpecError("expected at least one convolution in the stem, found none")
        _check_flag("norm", self.norm)
        _check_flag("pool", self.pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A residual network, exactly: equal specs compute the same function of equal weights.

    ``shortcut`` is the type of He et al.: A pads with zeros where channels grow, B projects there,
    C projects everywhere, none leaves the shortcut out (Sec. 5.1). ``path_norm`` puts the last
    normalisation of form (a) into each path instead of behind the sum (see footnote 6); such a
    network has no other form.
    """

    stem: Stem
    stages: tuple[Stage, ...]
    shortcut: Shortcut = "B"
    preactivation: bool = False
    path_norm: bool = False
    classes: int = 1000
    in_channels: int = 3

    def __post_init__(self) -> None:
        _check_count("classes", self.classes)
        _check_count("in_channels", self.in_channels)
        _check_flag("preactivation", self.preactivation)
        _check_flag("path_norm", self.path_norm)
        if self.shortcut not in ("A", "B", "C", "none"):
            raise SpecError(f"expected shortcut A, B, C or none, found {self.shortcut!r}")
        if not self.stages:
            raise SpecError("expected at least one stage, found none")
        if self.path_norm and self.preactivation:
            raise SpecError("expected path_norm only after activation, found a pre-activation spec")
        for _ in self.blocks():  # a stage whose channels cannot work is refused here
            pass

    @property
    def out_channels(self) -> int:
        """Channels that reach the classifier."""
        return self.stages[-1].out_channels

    @property
    def homogeneous(self) -> bool:
        """Whether every block has all three forms of Fig. 3."""
        return all(len(stage.paths) == 1 for stage in self.stages)

    @property
    def resolution(self) -> int:
        """Side of the images such a network is made for: 224, or 32 if the stem keeps the size."""
        return 224 if self.stem.pool else 32

    def stem_convs(self) -> tuple[Conv, ...]:
        """The convolutions of the stem."""
        channels = [self.in_channels, *(conv.out_channels for conv in self.stem.convs)]
        return tuple(
            Conv(
                in_channels=before,
                out_channels=conv.out_channels,
                kernel=conv.kernel,
                stride=conv.stride,
            )
            for before, conv in zip(channels, self.stem.convs, strict=False)
        )

    def blocks(self) -> Iterator[tuple[int, int, Block]]:
        """Every block with the numbers of its stage and of itself in the stage, from 0."""
        channels = self.stem.convs[-1].out_channels
        for number, stage in enumerate(self.stages):
            for index in range(stage.blocks):
                yield number, index, self._block(stage, number, index, channels)
                channels = stage.out_channels

    def _block(self, stage: Stage, number: int, index: int, in_channels: int) -> Block:
        stride = stage.stride if index == 0 else 1
        same = stride == 1 and in_channels == stage.out_channels
        shortcut = self._connection(same=same)
        if shortcut == "padding" and in_channels > stage.out_channels:
            raise SpecError(
                f"expected channels to grow under shortcut A (zero padding), "
                f"found {in_channels} -> {stage.out_channels}"
            )
        return Block(
            in_channels=in_channels,
            out_channels=stage.out_channels,
            stride=stride,
            paths=stage.paths,
            shortcut=shortcut,
            activation=self._activation(same=same, opening=number == index == 0),
            path_norm=self.path_norm,
        )

    def _connection(self, *, same: bool) -> Connection:
        if self.shortcut == "none":
            return "none"
        if self.shortcut == "C" or (self.shortcut == "B" and not same):
            return "projection"
        return "identity" if same else "padding"

    def _activation(self, *, same: bool, opening: bool) -> Activation:
        # fb.resnet.torch models/preresnet.lua: where the shape changes, the shortcut starts behind
        # the block's first BN-ReLU; the block behind the stem finds its input activated already.
        if not self.preactivation:
            return "post"
        if opening and self.stem.norm:
            return "pre-opening"
        return "pre" if same else "pre-shared"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries for JSON; templates as text."""
        record = asdict(self)
        for stage, plain in zip(self.stages, record["stages"], strict=True):
            plain["paths"] = [
                {"template": str(paths.template), "kernels": list(paths.kernels)}
                for paths in stage.paths
            ]
        record["stem"]["convs"] = list(record["stem"]["convs"])
        record["stages"] = list(record["stages"])
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Spec":
        """The inverse of `to_dict`.

        Raises:
            SpecError: a field is missing, unknown or of the wrong kind.
        """
        try:
            fields = dict(record)
            stem = dict(fields.pop("stem"))
            stem["convs"] = tuple(StemConv(**conv) for conv in stem["convs"])
            stages = tuple(
                Stage(**{**stage, "paths": tuple(Paths.of(**p) for p in stage["paths"])})
                for stage in fields.pop("stages")
            )
            return cls(stem=Stem(**stem), stages=stages, **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise SpecError(
                f"expected the fields of a Spec, found something else: {error}"
            ) from error
