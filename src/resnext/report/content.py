"""What a report says, as plain values: the writers turn it into HTML, Markdown, CSV and SVG.

Whoever knows runs, experiments or detections fills these; nothing here knows where a number comes
from, and a number that is missing is None and stays visible as missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Value = str | int | float | None
"""A cell; None is a number that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How a column is headed and its numbers are written.

    Attributes:
        title: with the unit, such as ``top-1 error, %``.
        digits: behind the decimal point, of floating-point numbers.
        signed: whether a plus is written, as for differences.
        source: where the column's numbers come from, such as ``Table 3``.
    """

    title: str
    digits: int = 2
    signed: bool = False
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under columns; ``notes`` says what a reader must know to believe it."""

    name: str
    """Of its files: letters, digits, hyphens."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve or set of points: ``y`` at ``x``.

    Attributes:
        error: half the interval about each ``y``.
        dashed: as training errors are drawn beside validation errors.
        group: lines of one group share a colour, as the two curves of one network.
        marks: whether each point is marked.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    error: tuple[float | None, ...] | None = None
    dashed: bool = False
    group: str | None = None
    marks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines over one horizontal axis, as Figs. 5, 6 and 7."""

    name: str
    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    log_x: bool = False
    log_y: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A picture made of a specification, as Figs. 1, 3 and 4: SVG and what it shows in words."""

    name: str
    title: str
    svg: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """An image with a caption: a mistake of a classifier, detections drawn on a picture."""

    caption: str
    data: bytes
    """An encoded image."""
    media_type: str = "image/jpeg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """Images side by side."""

    name: str
    title: str
    photos: tuple[Photo, ...]
    notes: tuple[str, ...] = ()


Part = Table | Chart | Drawing | Photos


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One page.

    Attributes:
        name: of its files: letters, digits, hyphens.
        summary: sentences above everything: what was found, and what it does not show.
        facts: provenance as label and value: command, commit, machine, versions, data, seed.
    """

    name: str
    title: str
    summary: tuple[str, ...]
    parts: tuple[Part, ...]
    facts: Mapping[str, str]
