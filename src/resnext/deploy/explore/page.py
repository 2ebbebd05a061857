"""The explore page: of a server that answers for any network, or one file with its tables."""

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from resnext.deploy.explore.grid import Kind, kinds, presets
from resnext.deploy.explore.record import Setting
from resnext.deploy.explore.tables import tables
from resnext.deploy.pages import embedded, render

START = "ResNeXt-50 (32x4d)"


def file_page(grid: Iterable[Kind] | None = None) -> str:
    """One file that needs neither a server nor a network; a quarter of a minute of work."""
    known = kinds() if grid is None else tuple(grid)
    text = json.dumps(tables(known), ensure_ascii=False, separators=(",", ":"))
    packed = b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    return _page(known, tables=packed)


def server_page() -> str:
    """The page for a server that answers `/api/spec`."""
    return _page(kinds(), tables=None)


def _page(known: Iterable[Kind], *, tables: str | None) -> str:
    server = tables is None
    given: dict[str, Any] = {
        "server": server,
        "kinds": [asdict(kind) for kind in known],
        "presets": [asdict(preset) for preset in presets()],
        "start": asdict(Setting.of(START)),
    }
    text = embedded(json.dumps(given, ensure_ascii=False))
    return render("explore", connect=server, server=server, given=text, tables=tables)
