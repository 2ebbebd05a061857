"""Tables and pages as text: numbers written once for all forms, Markdown, CSV."""

import csv as rows_of
import io
import math
import re

from resnext.report.content import Column, Drawing, Part, Photos, Report, Table, Value

MISSING = "missing"
"""What stands for a number that is not there."""

_MARKS = re.compile(r"([\\`*\[\]<>&|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def cell(value: Value, column: Column) -> str:
    """A value as a reader sees it."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    digits = column.digits if isinstance(value, float) else 0
    text = f"{value:{'+' if column.signed else ''},.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")  # what rounds to zero is neither more nor less
    return text.replace("-", "−")


def heading(column: Column) -> str:
    """A column's title with where its numbers come from."""
    return f"{column.title} ({column.source})" if column.source else column.title


def csv(table: Table) -> str:
    """Comma-separated values: numbers in full, an empty cell for what is missing.

    Text that a spreadsheet would take for a formula is quoted by an apostrophe.
    """
    file = io.StringIO()
    writer = rows_of.writer(file, lineterminator="\n")
    writer.writerow([_inert(heading(column)) for column in table.columns])
    for row in table.rows:
        writer.writerow([_raw(v, c) for v, c in zip(row, table.columns, strict=True)])
    return file.getvalue()


def _raw(value: Value, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _inert(value)
    return f"{value:+}" if column.signed else repr(value)


def _inert(text: str) -> str:
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def markdown(report: Report) -> str:
    """The page as Markdown; charts and drawings are the SVG files beside it."""
    blocks = [f"# {_plain(report.title)}", *map(_paragraph, report.summary)]
    for part in report.parts:
        blocks += [f"## {_plain(part.title)}", *_part(part)]
    if report.facts:
        blocks.append("## Provenance")
        blocks.append("\n".join(f"- {_plain(k)}: {_plain(v)}" for k, v in report.facts.items()))
    return "\n\n".join(blocks) + "\n"


def _part(part: Part) -> list[str]:
    if isinstance(part, Drawing):
        return [f"![{_plain(part.description)}]({part.name}.svg)"]
    notes = [_paragraph(note) for note in part.notes]
    if isinstance(part, Table):
        return [_rows(part), *notes]
    if isinstance(part, Photos):
        return ["\n".join(f"- {_plain(photo.caption)}" for photo in part.photos), *notes]
    return [f"![{_plain(part.title)}]({part.name}.svg)", *notes]


def _rows(table: Table) -> str:
    lines = [[_plain(heading(column)) for column in table.columns]]
    lines.append(["---" if is_text(table, i) else "---:" for i in range(len(table.columns))])
    lines += [
        [_plain(cell(v, c)) for v, c in zip(row, table.columns, strict=True)] for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def is_text(table: Table, index: int) -> bool:
    """Whether a column holds words; numbers stand to the right, one under the other."""
    return any(isinstance(row[index], str) for row in table.rows)


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else; a line break stays one in a cell."""
    escaped = _MARKS.sub(lambda mark: _ESCAPES.get(mark[0], "\\" + mark[0]), text)
    return "<br>".join(escaped.splitlines())


def _paragraph(text: str) -> str:
    return re.sub(r"^(\d+)([.)])|^([-+#=])", r"\1\\\2\3", _plain(text))


_ESCAPES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
