"""Families of networks as functions: ImageNet, CIFAR, Wide ResNet, or a composition of your own."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from resnext.errors import SpecError
from resnext.spec import BASIC, BOTTLENECK, Paths, Shortcut, Spec, Stage, Stem, StemConv
from resnext.template import Template

IMAGENET_STEM = Stem(convs=(StemConv(out_channels=64, kernel=7, stride=2),), pool=True)
CIFAR_STEM = Stem(convs=(StemConv(out_channels=64, kernel=3),))
WIDE_STEM = Stem(convs=(StemConv(out_channels=16, kernel=3),), norm=False)
DEEP_STEM = Stem(
    convs=(
        StemConv(out_channels=32, kernel=3, stride=2),
        StemConv(out_channels=32, kernel=3),
        StemConv(out_channels=64, kernel=3),
    ),
    pool=True,
)


def compose(
    blocks: Sequence[int],
    template: str | Template | Sequence[Paths],
    *,
    kernels: Sequence[int] = BOTTLENECK,
    stem: Stem = IMAGENET_STEM,
    out_channels: int = 256,
    strides: Sequence[int] | None = None,
    shortcut: Shortcut = "B",
    preactivation: bool = False,
    path_norm: bool = False,
    classes: int = 1000,
    in_channels: int = 3,
) -> Spec:
    """Any network of the paper's kind, from its template by the two rules.

    Args:
        blocks: residual blocks per stage.
        template: conv2's template; or its `Paths`, one entry per topology, for unlike T_i.
        kernels: the convolutions of a path, where ``template`` is one.
        stem: what comes before conv2.
        out_channels: of conv2's blocks; doubled, like the widths, from stage to stage.
        strides: of the first block of each stage; 1, then 2 by default.
        shortcut: type A, B, C or none.
        preactivation: BN-ReLU-conv order (ResNet-200 in the paper).
        path_norm: last normalisation inside each path; see `Spec`.
        classes: outputs of the classifier.
        in_channels: of the images.

    Raises:
        SpecError: such a network cannot exist.
    """
    if isinstance(template, str | Template):
        paths: tuple[Paths, ...] = (Paths.of(template, kernels),)
    else:
        paths = tuple(template)
        if not all(isinstance(entry, Paths) for entry in paths):
            raise SpecError(f"expected a template or a list of Paths, found {template!r}")
    strides = ((1,) + (2,) * len(blocks))[: len(blocks)] if strides is None else tuple(strides)
    if len(strides) != len(blocks):
        raise SpecError(f"expected one stride for each of {len(blocks)} stages, found {strides}")
    stages = tuple(
        Stage(
            blocks=count,
            out_channels=out_channels * 2**i,
            stride=stride,
            paths=tuple(p.scaled(2**i) for p in paths),
        )
        for i, (count, stride) in enumerate(zip(blocks, strides, strict=True))
    )
    return Spec(
        stem=stem,
        stages=stages,
        shortcut=shortcut,
        preactivation=preactivation,
        path_norm=path_norm,
        classes=classes,
        in_channels=in_channels,
    )


class Options(TypedDict, total=False):
    """What `compose` takes besides blocks and template."""

    kernels: Sequence[int]
    stem: Stem
    out_channels: int
    strides: Sequence[int] | None
    shortcut: Shortcut
    preactivation: bool
    path_norm: bool
    classes: int
    in_channels: int


IMAGENET_BLOCKS: Mapping[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_BASIC_DEPTHS = (18, 34)


def imagenet(depth: int, template: str | Template = "1x64d", **options: Unpack[Options]) -> Spec:
    """Table 1: stem 7x7, stages conv2 to conv5; basic blocks at depth 18 and 34 as in He et al.

    Args:
        depth: 18, 34, 50, 101, 152 or 200.
        template: cardinality and width of conv2.
        **options: of `compose`.

    Raises:
        SpecError: no network has that depth.
    """
    if depth not in IMAGENET_BLOCKS:
        known = ", ".join(map(str, IMAGENET_BLOCKS))
        raise SpecError(f"expected an ImageNet depth ({known}), found {depth!r}")
    basic = depth in _BASIC_DEPTHS
    shape: Options = {"kernels": BASIC, "out_channels": 64} if basic else {}
    merged: Options = {**shape, **options}
    return compose(IMAGENET_BLOCKS[depth], template, **merged)


def is_cifar_depth(depth: int) -> bool:
    """Whether three stages of n bottlenecks give that depth, 9n+2."""
    return type(depth) is int and depth >= 11 and (depth - 2) % 9 == 0


def cifar(depth: int, template: str | Template = "1x64d", **options: Unpack[Options]) -> Spec:
    """Sec. 5.3: a 3x3 stem and three stages of (depth - 2)/9 bottlenecks, 256 to 1024 channels.

    Raises:
        SpecError: the depth is not 9n+2.
    """
    if not is_cifar_depth(depth):
        raise SpecError(f"expected a CIFAR depth of 9n+2 (11, 20, 29, 38, ...), found {depth}")
    defaults: Options = {"stem": CIFAR_STEM, "classes": 10}
    merged: Options = {**defaults, **options}
    return compose(((depth - 2) // 9,) * 3, template, **merged)


def wide_template(widening: int) -> Template:
    """The template of a Wide ResNet's first stage, 1 x 16k.

    Raises:
        SpecError: the widening factor is not possible.
    """
    if type(widening) is not int or not 1 <= widening < 1000:
        raise SpecError(f"expected a widening factor from 1 to 999, found {widening!r}")
    return Template(1, 16 * widening)


def wide_resnet(depth: int, widening: int, **options: Unpack[Options]) -> Spec:
    """Wide ResNet (Zagoruyko and Komodakis): pre-activation basic blocks, 16k to 64k channels.

    Raises:
        SpecError: the depth is not 6n+4.
    """
    if type(depth) is not int or depth < 10 or (depth - 4) % 6:
        raise SpecError(f"expected a Wide ResNet depth of 6n+4 (16, 22, 28, ...), found {depth}")
    template = wide_template(widening)
    defaults: Options = {
        "kernels": BASIC,
        "out_channels": template.width,
        "stem": WIDE_STEM,
        "preactivation": True,
        "classes": 10,
    }
    merged: Options = {**defaults, **options}
    return compose(((depth - 4) // 6,) * 3, template, **merged)
