"""Which path computes a shape, and how a kernel is cut: looked up, never tried out in training.

`table.json` holds what `resnext benchmark kernels --write-table` measured, device by device. A
device that is not in it has no choice made for it: `auto` stays with the framework there, and
kernels that are asked for run with `estimated` launches, which follow from a count of registers,
shared memory and bytes in flight on a Hopper GPU, and from nothing measured.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch

Backend = Literal["framework", "merged", "triton", "fused", "auto"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
Direction = Literal["forward", "input-gradient", "weight-gradient"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
Path_ = Literal["framework", "merged", "triton"]
PATHS: tuple[Path_, ...] = get_args(Path_)
GROUP_WIDTHS = (4, 8, 16, 32, 64)
TABLE = Path(__file__).with_name("table.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How the work is cut into programs.

    Attributes:
        blocks: of max(16, G) channels, in one program; one warp each where they are 16 wide.
        images: and `columns`: of one tile; their product is the rows of a tensor core's operand.
        columns: see `images`.
        rows: of a strip, which a program marches down.
        warps: of a program.
        stages: rows in flight: 1 loads when needed, more load ahead.
        slices: programs that share the images of a weight gradient.
    """

    blocks: int
    images: int
    columns: int
    rows: int
    warps: int
    stages: int = 1
    slices: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """All that a choice depends on: one grouped convolution of square maps, in one direction.

    `itemsize` is that of a value of the map, in bytes.
    """

    direction: Direction
    group_width: int
    channels: int
    height: int
    width: int
    images: int
    stride: int
    itemsize: int = 2

    @property
    def key(self) -> str:
        """In the table: the batch is left out, what is fastest for 128 images is for 256."""
        return (
            f"{self.direction} g{self.group_width} c{self.channels} "
            f"{self.height}x{self.width} s{self.stride} {8 * self.itemsize} bit"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A path, and the launch of its kernel."""

    path: Path_
    launch: Launch


def block_width(group_width: int) -> int:
    """Channels of a block: what a tensor core sums over, or a group that is wider."""
    return max(16, group_width)


def estimated(shape: Shape) -> Launch:
    """The launch of a shape that nobody measured.

    64 channels (a line of 128 bytes in half precision) by 32 pixels per program. Strips of at most
    28 rows keep the two rows read twice below a tenth; three stages hold 12 KB per program in
    flight, four programs fit a multiprocessor: about the 23 KB that hide its memory's latency.
    Four programs per multiprocessor of 132 share the images of a weight gradient.
    """
    side = block_width(shape.group_width)
    blocks = 64 // side
    while shape.channels % (blocks * side):
        blocks //= 2
    out_height, out_width = -(-shape.height // shape.stride), -(-shape.width // shape.stride)
    columns = 8 if out_width <= 8 else 16 if out_width <= 16 else 32
    images = 32 // columns
    rows = -(-out_height // -(-out_height // 28))
    warps = blocks if side == 16 else 4
    programs = shape.channels // (blocks * side)
    slices = min(-(-shape.images // images), max(1, -(-4 * 132 // programs)))
    if shape.direction == "weight-gradient":
        return Launch(
            blocks=blocks, images=images, columns=columns, rows=rows, warps=warps, slices=slices
        )
    stages = 3 if shape.stride == 1 else 1
    return Launch(
        blocks=blocks, images=images, columns=columns, rows=rows, warps=warps, stages=stages
    )


def estimated_fused(shape: Shape) -> Launch:
    """The launch of a kernel with normalisation in front and behind, which takes more registers.

    Compiled for Hopper, nothing spills: the input gradient takes half as many pixels at a time,
    and blocks of 32 channels and more have eight warps; narrow ones do not load ahead.
    """
    usual = estimated(shape)
    wide = block_width(shape.group_width) > 16
    if shape.direction == "forward":
        return usual
    if shape.direction == "weight-gradient":
        eight = block_width(shape.group_width) == 32
        return replace(usual, warps=8) if eight else usual
    columns = min(usual.columns, 16)
    return replace(
        usual,
        columns=columns,
        images=16 // columns,
        warps=8 if wide else usual.warps,
        stages=min(usual.stages, 2 if wide else 1),
    )


def read_table(path: Path = TABLE) -> Mapping[str, Any]:
    """Device -> its basis and rows."""
    with _naming(path):
        devices: Mapping[str, Any] = dict(json.loads(path.read_text())["devices"])
    return devices


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error that says which file is wrong."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__} {error}"
        raise ValueError(
            f"expected a table of choices in {path}, found {found}; measure it anew"
        ) from error


@cache
def measured(device: str) -> Mapping[str, Choice]:
    """Key -> choice, for a device of this name; empty where nobody measured one."""
    found = read_table().get(device, {"rows": []})
    with _naming(TABLE):
        return {row["shape"]: _choice(row) for row in found["rows"]}


def _choice(row: Mapping[str, Any]) -> Choice:
    """A row of the table; a launch that would leave a part of the result unwritten is refused."""
    launch = Launch(**row["launch"])
    group_width, channels = (int(word[1:]) for word in row["shape"].split()[1:3])
    pixels = launch.images * launch.columns
    whole = channels % (launch.blocks * block_width(group_width)) == 0
    if row["path"] not in PATHS or min(asdict(launch).values()) < 1 or not whole:
        raise ValueError(f"{row['path']!r} by {launch} for {row['shape']}")
    if pixels & (pixels - 1) or launch.blocks & (launch.blocks - 1):
        raise ValueError(f"{launch}, whose tiles are no powers of two")
    return Choice(path=row["path"], launch=launch)


def backend_for(asked: Backend | None, device: torch.device) -> Backend:
    """What computes where nothing, or `auto`, is asked for: the framework, unless it was measured.

    Only a GPU of a kind that stands in the table has a choice to make.
    """
    if asked not in (None, "auto"):
        return asked
    known = device.type == "cuda" and measured(torch.cuda.get_device_name(device))
    return "auto" if known else "framework"


def choose(shape: Shape, device: str) -> Choice:
    """What was measured for the shape on this device; else the framework, and an estimate."""
    found = measured(device).get(shape.key)
    return found or Choice(path="framework", launch=estimated(shape))


def with_device(
    table: Mapping[str, Any], device: str, basis: Mapping[str, Any], rows: Mapping[str, Choice]
) -> dict[str, Any]:
    """The table with one device measured anew; the others stay."""
    found = [
        {"shape": key, "path": choice.path, "launch": asdict(choice.launch)}
        for key, choice in rows.items()
    ]
    devices = {**table["devices"], device: {"basis": dict(basis), "rows": found}}
    return {**table, "devices": devices}
