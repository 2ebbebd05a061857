"""Drawings of specifications: Figs. 1, 3 and 4 of the paper, any block's, a network's stages.

Every text is read off `Block.convs` and `Block.path_convs`, and sizes off `complexity`, so a
drawing cannot disagree with the network that is built. Lines and letters take the colour of the
page.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, assert_never
from xml.sax.saxutils import escape

from resnext.catalog import name as name_of
from resnext.complexity import Complexity, complexity
from resnext.report.content import Drawing
from resnext.report.layers import template_text
from resnext.spec import BASIC, Block, Conv, Paths, Spec

Form = Literal["split", "concat", "grouped"]

HIGH, ACROSS, DOWN = 30, 12, 26
"""Of a box and of the room between boxes, in pixels."""

LETTER = 7.2
"""The width of a letter, on average."""

SHOWN = 3
"""Paths that are drawn where there are more: the first two and the last, as the paper does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow:
    """What is drawn from top to bottom.

    Attributes:
        columns: the boxes of each path; None stands for those that are left out.
        joined: the boxes behind what joins the paths: a sum, or a concatenation.
        concatenated: which of both.
        paths: how many there are.
    """

    columns: tuple[tuple[str, ...] | None, ...]
    joined: tuple[str, ...] = ()
    concatenated: bool = False
    paths: int = 1

    @property
    def wide(self) -> float:
        """Of a box: room for the longest text."""
        texts = [*self.joined, *(text for column in self.columns for text in column or ())]
        joint = ["concatenate"] if self.concatenated else []
        return round(LETTER * max(map(len, [*texts, *joint])) + 14)

    @property
    def across(self) -> float:
        """Of all columns."""
        return len(self.columns) * (self.wide + ACROSS)


def fig1() -> tuple[Drawing, ...]:
    """Fig. 1: a block of ResNet, and one of ResNeXt with cardinality 32."""
    resnet, resnext = _bottleneck("1x64d"), _bottleneck("32x4d")
    return (
        block_drawing(resnet, "grouped", name="fig1-resnet", title="A block of ResNet"),
        block_drawing(resnext, "split", name="fig1-resnext", title="A block of ResNeXt, C = 32"),
    )


def fig3() -> tuple[Drawing, ...]:
    """Fig. 3: the three forms of one block, which compute the same function."""
    block = _bottleneck("32x4d")
    forms: tuple[tuple[Form, str, str], ...] = (
        ("split", "a", "(a) paths that are summed"),
        ("concat", "b", "(b) paths that are concatenated, and one wide 1×1"),
        ("grouped", "c", "(c) a grouped convolution"),
    )
    return tuple(
        block_drawing(block, form, name=f"fig3-{letter}", title=title)
        for form, letter, title in forms
    )


def fig4() -> tuple[Drawing, ...]:
    """Fig. 4: of two layers, C paths are one wide block: cardinality changes nothing."""
    return (
        block_drawing(_basic("32x4d"), "split", name="fig4-paths", title="Two layers, 32 paths"),
        block_drawing(_basic("1x128d"), "grouped", name="fig4-wide", title="The same, as one"),
    )


def _bottleneck(template: str) -> Block:
    return _block(Paths.of(template), 256)


def _basic(template: str) -> Block:
    return _block(Paths.of(template, BASIC), 64)


def _block(paths: Paths, channels: int) -> Block:
    return Block(
        in_channels=channels,
        out_channels=channels,
        stride=1,
        paths=(paths,),
        shortcut="identity",
        activation="post",
    )


def block_drawing(block: Block, form: Form, *, name: str, title: str) -> Drawing:
    """Any block in a form of Fig. 3: boxes say channels in, kernel, channels out.

    Raises:
        SpecError: the block's paths differ, and the form is not ``split``.
    """
    flow = _flow(block, form)
    return Drawing(
        name=name, title=title, svg=_svg(block, flow), description=_in_words(block, flow)
    )


def _flow(block: Block, form: Form) -> _Flow:
    match form:
        case "split":
            paths = [tuple(map(_box, path)) for path in block.path_convs()]
            return _Flow(columns=_elided(paths), paths=len(paths))
        case "concat":
            last = block.convs()[-1]
            paths = [tuple(map(_box, path[:-1])) for path in block.path_convs()]
            return _Flow(
                columns=_elided(paths), joined=(_box(last),), concatenated=True, paths=len(paths)
            )
        case "grouped":
            return _Flow(columns=(tuple(map(_box, block.convs())),))
        case _:
            assert_never(form)


def _box(conv: Conv) -> str:
    """``256, 1×1, 4`` as the paper writes it, and what it is not by default."""
    parts = [f"{conv.in_channels}, {conv.kernel}×{conv.kernel}, {conv.out_channels}"]
    if conv.groups > 1:
        parts.append(f"C = {conv.groups}")
    if conv.stride > 1:
        parts.append(f"/{conv.stride}")
    return ", ".join(parts)


def _elided(paths: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...] | None, ...]:
    if len(paths) <= SHOWN:
        return tuple(paths)
    return (*paths[: SHOWN - 1], None, paths[-1])


def _in_words(block: Block, flow: _Flow) -> str:
    column = next(column for column in flow.columns if column is not None)
    layers = " → ".join(column)
    ways = f"{flow.paths} paths of {layers}" if flow.paths > 1 else layers
    joined = ""
    if flow.concatenated:
        joined = f", concatenated → {', '.join(flow.joined)}"
    elif flow.paths > 1:
        joined = ", summed"
    shortcut = "" if block.shortcut == "none" else f"; the {block.shortcut} shortcut is added"
    return f"{block.in_channels} channels → {ways}{joined} → {block.out_channels}{shortcut}"


def _svg(block: Block, flow: _Flow) -> str:
    rows = max(len(column) for column in flow.columns if column is not None)
    width, middle = flow.across + 104, flow.across / 2
    join = 34 + rows * (HIGH + DOWN)
    height = _landing(flow, join) + 64
    parts = [
        _text(middle, 16, f"{block.in_channels}-d in"),
        *_columns(flow, middle, join),
        *_joint(block, flow, middle, join),
    ]
    return _picture(width, height, parts)


def _picture(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{width:g}px;min-width:{0.85 * width:g}px" '
        'font-family="sans-serif" font-size="13" '
        'fill="currentColor" stroke="none">' + "".join(parts) + "</svg>"
    )


def _columns(flow: _Flow, middle: float, join: float) -> Iterator[str]:
    for place, column in enumerate(flow.columns):
        across = (place + 0.5) * (flow.wide + ACROSS)
        if column is None:
            yield _text(across, (join + 34) / 2 - 10, "···")
            yield _text(across, (join + 34) / 2 + 10, f"total {flow.paths}")
            yield _text(across, (join + 34) / 2 + 26, "paths")
            continue
        tops = [34 + DOWN / 2 + row * (HIGH + DOWN) for row in range(len(column))]
        yield _line(middle, 22, across, tops[0])
        for text, top in zip(column, tops, strict=True):
            yield _framed(across, top, text, flow.wide)
        for above, below in pairwise(tops):
            yield _line(across, above + HIGH, across, below)
        yield _line(across, tops[-1] + HIGH, middle, join)


def _landing(flow: _Flow, join: float) -> float:
    """How far down the shortcut is added."""
    if flow.concatenated:
        return join + (1 + len(flow.joined)) * (HIGH + DOWN)
    return join + (HIGH + DOWN / 2 if flow.paths > 1 else 0)


def _joint(block: Block, flow: _Flow, middle: float, join: float) -> Iterator[str]:
    """What joins the paths, what follows, the shortcut and the sum with it."""
    down = join
    if flow.concatenated:
        yield _framed(middle, down, "concatenate", flow.wide)
        for text in flow.joined:
            yield _line(middle, down + HIGH, middle, down + HIGH + DOWN)
            down += HIGH + DOWN
            yield _framed(middle, down, text, flow.wide)
        yield _line(middle, down + HIGH, middle, down + HIGH + DOWN)
    elif flow.paths > 1:
        yield _sum(middle, down)
        yield _line(middle, down + 18, middle, down + HIGH + DOWN / 2)
    down = _landing(flow, join)
    if block.shortcut != "none":
        side = flow.across + 20
        yield _path(f"M{middle:g} 24 H{side:g} V{down + 9:g} H{middle + 9:g}")
        yield _text(side + 8, (24 + down) / 2, block.shortcut, anchor="start")
        yield _sum(middle, down)
        down += 18
    yield _line(middle, down, middle, down + 14)
    yield _text(middle, down + 30, f"{block.out_channels}-d out")


def _framed(across: float, top: float, text: str, wide: float) -> str:
    return (
        f'<rect x="{across - wide / 2:g}" y="{top:g}" width="{wide:g}" height="{HIGH}" rx="4" '
        f'fill="none" stroke="currentColor"/>{_text(across, top + 20, text)}'
    )


def _text(across: float, down: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{across:g}" y="{down:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return _path(f"M{x1:g} {y1:g} L{x2:g} {y2:g}")


def _path(way: str) -> str:
    return f'<path d="{way}" fill="none" stroke="currentColor"/>'


def _sum(across: float, top: float) -> str:
    """A plus in a circle."""
    centre = top + 9
    cross = f"M{across - 5:g} {centre:g} h10 M{across:g} {centre - 5:g} v10"
    circle = f'<circle cx="{across:g}" cy="{centre:g}" r="9" fill="none" stroke="currentColor"/>'
    return circle + _path(cross)


TALL, MIDDLE = 150, 100
"""The image's side on the drawing of a network, and how far down its middle is."""

COLUMN = 84
"""The least width of a stage: room for its texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A stage on the drawing of a network: ``slats`` side by side, one per block."""

    slats: int
    side: float
    thick: float
    texts: tuple[str, ...]

    @property
    def across(self) -> float:
        """Of the slats."""
        return self.slats * (self.thick + 3) - 3

    @property
    def wide(self) -> float:
        """With the texts below."""
        return max(COLUMN, self.across + 14, max(len(text) * LETTER for text in self.texts))


def network_drawing(
    spec: Spec, resolution: int | tuple[int, int] | None = None, *, name: str = "network"
) -> Drawing:
    """A whole network from left to right: a group of slats per stage, a slat per block.

    A slat is as tall as the root of its map's side, so that halving the map shows; the texts below
    are stage, map, channels, blocks and the template of its paths.

    Raises:
        SpecError: the resolution is not positive.
    """
    cost = complexity(spec, resolution)
    columns = _stage_columns(spec, cost)
    width = sum(column.wide for column in columns) + 20 * (len(columns) - 1)
    height = 2 * MIDDLE - 28 + 17 * max(len(column.texts) for column in columns)
    words = ", then ".join(" ".join(column.texts) for column in columns)
    return Drawing(
        name=name,
        title=f"{name_of(spec)} by stage",
        svg=_picture(width, height, [*_row(columns)]),
        description=f"{name_of(spec)}: {words}",
    )


def _stage_columns(spec: Spec, cost: Complexity) -> tuple[_Column, ...]:
    largest = max(cost.resolution)
    firsts = [block for _, index, block in spec.blocks() if index == 0]
    columns = [_column("image", spec.in_channels, cost.resolution, largest)]
    for stage in cost.stages:
        size = (stage.height, stage.width)
        texts: tuple[str, ...] = ()
        blocks = 1
        if stage.name not in ("conv1", "classifier"):
            number = int(stage.name.removeprefix("conv")) - 2
            blocks = spec.stages[number].blocks
            texts = (f"{blocks} block{'s' * (blocks > 1)}", template_text(firsts[number]))
        columns.append(_column(stage.name, stage.channels, size, largest, texts, blocks))
    return tuple(columns)


def _column(
    name: str,
    channels: int,
    size: tuple[int, int],
    largest: int,
    texts: tuple[str, ...] = (),
    blocks: int = 1,
) -> _Column:
    unit = "classes" if name == "classifier" else "channel" if channels == 1 else "channels"
    place = () if name == "classifier" else (f"{size[0]}×{size[1]}",)
    return _Column(
        slats=blocks,
        side=round(TALL * math.sqrt(max(size) / largest), 1),
        thick=2 + round(math.log2(channels) / 2),
        texts=(name, *place, f"{channels} {unit}", *texts),
    )


def _row(columns: Sequence[_Column]) -> Iterator[str]:
    """The slats of each stage about one middle line, an arrow to the next, texts below."""
    left = 0.0
    for place, column in enumerate(columns):
        centre = left + column.wide / 2
        first = centre - column.across / 2
        for slat in range(column.slats):
            yield _slat(first + slat * (column.thick + 3), column)
        for line, text in enumerate(column.texts):
            yield _text(centre, 2 * MIDDLE - 18 + 17 * line, text)
        left += column.wide + 20
        if place + 1 < len(columns):
            after = columns[place + 1]
            yield _arrow(centre + column.across / 2 + 5, left + (after.wide - after.across) / 2 - 5)


def _slat(left: float, column: _Column) -> str:
    top = MIDDLE - 14 - column.side / 2
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{column.thick:g}" height="{column.side:g}" '
        'rx="1.5" fill="currentColor" fill-opacity="0.14" stroke="currentColor"/>'
    )


def _arrow(start: float, end: float) -> str:
    middle = MIDDLE - 14
    return _path(f"M{start:g} {middle:g} H{end:g} m-4 -3 l4 3 l-4 3")
