"""Rows, curves and drawings -> one self-contained page, and Markdown, CSV and SVG beside it."""

from resnext.report.content import (
    Chart,
    Column,
    Drawing,
    Line,
    Part,
    Photo,
    Photos,
    Report,
    Table,
    Value,
)

__all__ = [
    "Chart",
    "Column",
    "Drawing",
    "Line",
    "Part",
    "Photo",
    "Photos",
    "Report",
    "Table",
    "Value",
]
