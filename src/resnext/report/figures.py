"""A chart as SVG: matplotlib draws it, the same bytes every time."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any

from resnext.report.content import Chart, Line

PALETTE = ("#0072b2", "#c44e00", "#00795a", "#a8487f", "#8a6100", "#5a5fc8", "#5c6670", "#8c1c13")
"""Told apart by those who see few colours, each at 3:1 or more on white."""

_INK = "#010203"  # becomes currentColor, so that a dark page may choose
_STYLE = "<style>svg{color:#1c2128}@media(prefers-color-scheme:dark){svg{color:#e8eaed}}</style>"


def svg(chart: Chart) -> str:
    """The file that stands alone: dark text on light, light on dark."""
    return standalone(inline(chart))


def standalone(drawing: str) -> str:
    """A drawing with the colours that a page would give it."""
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: tag[0] + _STYLE, drawing, count=1)


def inline(chart: Chart) -> str:
    """The same for inside a page, whose text colour it takes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own settings are
        mpl.rcParams.update({"svg.hashsalt": chart.name, "svg.fonttype": "none"})
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        _draw(figure.add_subplot(), chart)
        nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata=nothing)
    return _tidy(file.getvalue(), chart.name)


def _draw(axes: Any, chart: Chart) -> None:
    colours = line_colours(chart.lines)
    for line, colour in zip(chart.lines, colours, strict=True):
        _line(axes, line, PALETTE[colour % len(PALETTE)])
    axes.set(xlabel=_text(chart.x), ylabel=_text(chart.y))
    axes.set_xscale("log" if chart.log_x else "linear")
    axes.set_yscale("log" if chart.log_y else "linear")
    for axis, logarithmic in ((axes.xaxis, chart.log_x), (axes.yaxis, chart.log_y)):
        low, high = axis.get_view_interval()
        if logarithmic and high < 100 * low:
            axis.set_major_formatter(_plain)
            axis.set_minor_formatter(_plain)
    axes.patch.set_alpha(0)
    axes.figure.patch.set_alpha(0)
    axes.grid(color=_INK, alpha=0.15)
    axes.tick_params(which="both", colors=_INK)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
    if chart.lines:
        axes.legend(frameon=False, labelcolor=_INK)


def _plain(value: float, place: int | None) -> str:
    """A number beside a short logarithmic axis: 0.2, not 2 x 10^-1; those between are left out."""
    del place
    leading = f"{value:e}"[0]
    return f"{value:g}" if leading in "1235" else ""


def _line(axes: Any, line: Line, colour: str) -> None:
    values = [math.nan if y is None else y for y in line.y]
    style = {"color": colour, "linestyle": "--" if line.dashed else "-", "linewidth": 1.6}
    marker = "o" if line.marks or len(line.y) == 1 else None  # one point makes no line
    errors = None
    if line.error is not None:
        errors = [math.nan if error is None else error for error in line.error]
    axes.errorbar(
        line.x, values, yerr=errors, label=_text(line.label), marker=marker, capsize=3, **style
    )


def line_colours(lines: Sequence[Line]) -> list[int]:
    """The number of each line's colour: one for each group."""
    groups: dict[str, int] = {}
    keys = [line.group or f"\0{i}" for i, line in enumerate(lines)]
    return [groups.setdefault(key, len(groups)) for key in keys]


def _text(text: str) -> str:
    """Dollars are no formulas here, a leading underscore hides nothing, controls are no XML."""
    clean = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", " ", text)
    return ("\u200b" if clean.startswith("_") else "") + clean.replace("$", r"\$")


def _tidy(text: str, name: str) -> str:
    """Without head, metadata and styles of its own; its names distinct from other charts'."""
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace(_INK, "currentColor")
