"""HTML pages with style and scripts inside, under a policy that names the scripts."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from resnext.report.page import digest, style

if TYPE_CHECKING:
    from jinja2 import Template


def render(name: str, *, connect: bool, **values: Any) -> str:
    """The page ``name`` of the folder web, with its own style and script and those all share.

    ``connect``: whether it may ask the server that it came from; nothing else is ever fetched.
    """
    scripts = [_asset("common.js"), _asset(f"{name}.js")]
    allowed = " ".join(f"'{digest(script)}'" for script in scripts)
    return _template(name).render(
        style=style() + _asset("web.css") + _asset(f"{name}.css"),
        scripts=scripts,
        policy=policy(allowed, connect=connect),
        **values,
    )


def policy(scripts: str, *, connect: bool) -> str:
    """What a page may do: run these scripts, show pictures that it holds, ask its server."""
    asked = "connect-src 'self'; " if connect else ""
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; {asked}"
        f"script-src {scripts}; base-uri 'none'; form-action 'none'"
    )


def embedded(text: str) -> str:
    """JSON that can stand inside of a script element."""
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


@cache
def _template(name: str) -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset(f"{name}.html.j2"))


@cache
def _asset(name: str) -> str:
    return (resources.files("resnext.deploy") / "web" / name).read_text(encoding="utf-8")
