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
from resnext.report.figures import svg
from resnext.report.page import html
from resnext.report.text import csv, markdown
from resnext.report.writing import write_report

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
    "csv",
    "html",
    "markdown",
    "svg",
    "write_report",
]
