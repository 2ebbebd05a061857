"""A report as one page that needs nothing beside it."""

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources
from math import inf, isfinite, nextafter
from typing import TYPE_CHECKING, Any

from resnext.report.content import Chart, Line, Photo, Report
from resnext.report.figures import PALETTE, inline, line_colours
from resnext.report.text import cell, heading, is_text

if TYPE_CHECKING:
    from jinja2 import Template

_IMAGES = ("image/jpeg", "image/png", "image/webp", "image/gif")


def html(report: Report) -> str:
    """The page; every text in it is escaped, and nothing is loaded from anywhere.

    Raises:
        ValueError: a photo is of no kind that browsers show.
    """
    charts = {part.name: part for part in report.parts if isinstance(part, Chart)}
    return _template().render(
        report=report,
        charts={name: inline(chart) for name, chart in charts.items()},
        points={name: points(chart) for name, chart in charts.items()},
    )


def points(chart: Chart) -> str:
    """What the script draws, as JSON that can stand inside of HTML."""
    pairs = zip(chart.lines, line_colours(chart.lines), strict=True)
    lines = [_line(line, PALETTE[colour % len(PALETTE)]) for line, colour in pairs]
    plain = {"x": chart.x, "y": chart.y, "log_x": chart.log_x, "log_y": chart.log_y}
    text = json.dumps({**plain, "lines": lines}, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def _line(line: Line, colour: str) -> dict[str, Any]:
    """From left to right, each point at an x of its own; what JSON cannot hold is missing."""
    order = sorted((i for i, x in enumerate(line.x) if isfinite(x)), key=lambda i: line.x[i])
    across: list[float] = []
    for i in order:
        taken = bool(across) and line.x[i] <= across[-1]
        across.append(nextafter(across[-1], inf) if taken else line.x[i])
    return {
        "label": line.label,
        "x": across,
        "y": [_finite(line.y[i]) for i in order],
        "error": None if line.error is None else [_finite(line.error[i]) for i in order],
        "dashed": line.dashed,
        "marks": line.marks,
        "colour": colour,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    helpers: dict[str, Any] = {"cell": cell, "heading": heading, "image": _image, "kind": _kind}
    environment.globals |= helpers | {"is_text": is_text}
    scripts = [_asset("uplot/uPlot.iife.min.js"), _asset("page.js")]
    return environment.from_string(
        _asset("page.html.j2"),
        {
            "style": _asset("uplot/uPlot.min.css") + _asset("page.css"),
            "scripts": scripts,
            "allowed": " ".join(f"'{digest(script)}'" for script in scripts),
        },
    )


def digest(script: str) -> str:
    """How the page's policy names a script that may run; no other does."""
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


def style() -> str:
    """What all pages look like, in light and in dark."""
    return _asset("page.css")


def _kind(part: object) -> str:
    return type(part).__name__


def _image(photo: Photo) -> str:
    if photo.media_type not in _IMAGES:
        raise ValueError(f"expected one of {', '.join(_IMAGES)}, found {photo.media_type!r}")
    return f"data:{photo.media_type};base64,{b64encode(photo.data).decode()}"


def _asset(name: str) -> str:
    return (resources.files("resnext.report") / "assets" / name).read_text(encoding="utf-8")
