"""A report as one page that needs nothing beside it."""

from base64 import b64encode
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from resnext.report.content import Chart, Photo, Report
from resnext.report.figures import inline
from resnext.report.text import cell, heading

if TYPE_CHECKING:
    from jinja2 import Template

_IMAGES = ("image/jpeg", "image/png", "image/webp", "image/gif")


def html(report: Report) -> str:
    """The page; every text in it is escaped, and nothing is loaded from anywhere.

    Raises:
        ValueError: a photo is of no kind that browsers show.
    """
    charts = {part.name: inline(part) for part in report.parts if isinstance(part, Chart)}
    return _template().render(report=report, charts=charts)


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    helpers: dict[str, Any] = {"cell": cell, "heading": heading, "image": _image, "kind": _kind}
    environment.globals |= helpers
    return environment.from_string(_asset("page.html.j2"), {"style": _asset("page.css")})


def _kind(part: object) -> str:
    return type(part).__name__


def _image(photo: Photo) -> str:
    if photo.media_type not in _IMAGES:
        raise ValueError(f"expected one of {', '.join(_IMAGES)}, found {photo.media_type!r}")
    return f"data:{photo.media_type};base64,{b64encode(photo.data).decode()}"


def _asset(name: str) -> str:
    return (resources.files("resnext.report") / "assets" / name).read_text(encoding="utf-8")
