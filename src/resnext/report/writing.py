"""A report as files."""

import re
from pathlib import Path

from resnext.errors import ResourceError
from resnext.report.content import Chart, Drawing, Report, Table
from resnext.report.figures import standalone, svg
from resnext.report.page import html
from resnext.report.text import csv, markdown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


def write_report(report: Report, folder: Path, *, beside: Path | None = None) -> tuple[Path, ...]:
    """Write ``NAME.html`` into a folder, and Markdown, CSV and SVG into `beside`, or there too.

    Each file appears whole or not at all.

    Raises:
        ResourceError: a file cannot be written.
        ValueError: a name is no file's name, or is there twice.
    """
    from resnext.files import write_bytes  # loads torch

    rest = beside or folder
    texts = {folder / f"{report.name}.html": html(report)}
    texts |= {rest / name: text for name, text in _files(report)}
    for place in (folder, rest):
        _make(place)
    for path, text in texts.items():
        write_bytes(path, text.encode(errors="replace"))  # paths may be no text
    return tuple(texts)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make {folder} for a report: {error.strerror}") from error


def _files(report: Report) -> list[tuple[str, str]]:
    names = [part.name for part in report.parts]
    for name in (report.name, *names):
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise ValueError(f"expected distinct names of letters, digits, hyphens, found {name!r}")
    files = [(f"{report.name}.md", markdown(report))]
    for part in report.parts:
        if isinstance(part, Table):
            files.append((f"{part.name}.csv", csv(part)))
        elif isinstance(part, Chart):
            files.append((f"{part.name}.svg", svg(part)))
        elif isinstance(part, Drawing):
            files.append((f"{part.name}.svg", standalone(part.svg)))
    return files
