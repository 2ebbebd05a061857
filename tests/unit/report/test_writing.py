import csv as rows_of
import io
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from importlib import resources
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnext.report import (
    Chart,
    Column,
    Line,
    Report,
    Table,
    csv,
    html,
    markdown,
    svg,
    write_report,
)
from resnext.report.page import points
from resnext.report.text import cell

TABLE = Table(
    name="errors",
    title="Errors",
    columns=(
        Column(title="network"),
        Column(title="top-1, %", source="Table 3"),
        Column(title="difference", signed=True),
    ),
    rows=(("ResNeXt-50 (32×4d)", 22.2, -0.123), ("a|b", None, 0.5)),
)
CHART = Chart(
    name="curve",
    title="Curve",
    x="epoch",
    y="error, %",
    lines=(Line(label="_a $x$ </script>", x=(1, 2, 3), y=(9.0, None, 7.0), error=(1, None, 1)),),
)

TEXT = "{http://www.w3.org/2000/svg}text"


def page(text: str = "t", *parts: Table | Chart) -> Report:
    return Report(name="r", title=text, summary=(text,), parts=parts, facts={text: text})


def test_csv_keeps_numbers_whole_and_missing_ones_empty():
    assert csv(TABLE) == (
        'network,"top-1, % (Table 3)",difference\nResNeXt-50 (32×4d),22.2,-0.123\na|b,,+0.5\n'
    )


def test_markdown_is_this():
    assert markdown(page("1. *x* <b>", TABLE)) == (
        "# 1. \\*x\\* &lt;b&gt;\n\n1\\. \\*x\\* &lt;b&gt;\n\n## Errors\n\n"
        "| network | top-1, % (Table 3) | difference |\n| --- | ---: | ---: |\n"
        "| ResNeXt-50 (32×4d) | 22.20 | −0.12 |\n| a\\|b | missing | +0.50 |\n\n"
        "## Provenance\n\n- 1. \\*x\\* &lt;b&gt;: 1. \\*x\\* &lt;b&gt;\n"
    )


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=st.sampled_from("<>&\"'/=+-@|\\*ascript\n, "), max_size=30))
def test_no_text_becomes_markup(text: str):
    table = Table(
        name="t", title=text, columns=(Column(title=text),), rows=((text,),), notes=(text,)
    )
    made = html(page(text, table))
    assert made.count("<") == html(page("t", table)).count("<")
    *_, found = rows_of.reader(io.StringIO(csv(table)))
    assert not "".join(found).startswith(("=", "+", "-", "@"))


def test_a_chart_is_the_same_bytes_again_and_well_formed():
    drawn = svg(CHART)
    assert drawn == svg(CHART)
    assert "</script>" in "".join(ElementTree.fromstring(drawn).itertext())
    assert "#010203" not in drawn


def test_a_short_logarithmic_axis_has_plain_numbers():
    line = Line(label="a", x=(0.13, 0.21, 0.7), y=(3.0, 2.0, 1.0))
    drawn = svg(Chart(name="c", title="t", x="x", y="y", lines=(line,), log_x=True))
    texts = {"".join(text.itertext()) for text in ElementTree.fromstring(drawn).iter(TEXT)}
    assert {"0.2", "0.3", "0.5"} <= texts


def test_files_and_names(tmp_path):
    paths = write_report(page("t", TABLE, CHART), tmp_path, beside=tmp_path / "report")
    assert sorted(str(p.relative_to(tmp_path)) for p in paths) == [
        "r.html", "report/curve.svg", "report/errors.csv", "report/r.md",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="distinct names"):
        write_report(page("t", TABLE, TABLE), tmp_path)


def test_importing_loads_no_drawing_library():
    code = "import sys, resnext.report; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


VENDORED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


@pytest.mark.parametrize("name", VENDORED)
def test_what_is_not_ours_is_as_it_was_published(name):
    file = resources.files("resnext.report") / "assets" / "uplot" / name
    assert sha256(file.read_bytes()).hexdigest() == VENDORED[name]


def test_a_page_and_its_table_may_have_one_name_but_two_parts_may_not(tmp_path):
    table = Table(name="table3", title="Errors", columns=(Column(title="a"),), rows=())
    one = Report(name="table3", title="t", summary=(), parts=(table,), facts={})
    assert [path.name for path in write_report(one, tmp_path)] == [
        "table3.html",
        "table3.md",
        "table3.csv",
    ]
    with pytest.raises(ValueError, match=r"distinct names .* found 'table3'"):
        write_report(replace(one, parts=(table, table)), tmp_path)


def drawn_points(line: Line) -> dict[str, list[float | None]]:
    chart = Chart(name="c", title="t", x="x", y="y", lines=(line,))

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(points(chart), parse_constant=refuse)["lines"][0]


def test_numbers_that_json_cannot_hold_are_missing_from_what_the_script_draws():
    line = Line(
        label="a",
        x=(1.0, 2.0, math.nan, 4.0),
        y=(9.0, math.inf, 7.0, 6.0),
        error=(math.nan, 0.5, 0.5, -math.inf),
    )
    found = drawn_points(line)
    assert found["x"] == [1, 2, 4]
    assert found["y"] == [9, None, 6]
    assert found["error"] == [None, 0.5, None]


def test_points_reach_the_script_from_left_to_right_and_all_of_them():
    found = drawn_points(Line(label="a", x=(3.0, 1.0, 3.0), y=(5.0, 7.0, 4.0)))
    assert found["y"] == [7, 5, 4]
    assert found["x"] == [1, 3, math.nextafter(3, 4)]
    assert found["error"] is None


@pytest.mark.parametrize("signed", [False, True])
def test_what_rounds_to_zero_has_no_sign(signed):
    column = Column(title="difference", signed=signed)
    assert [cell(value, column) for value in (-0.004, 0.0, 0.004)] == ["0.00"] * 3
    assert cell(-0.006, column) == "−0.01"


def test_a_chart_does_not_depend_on_the_user_s_settings_of_matplotlib(tmp_path):
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 30\naxes.grid: True\n")
    code = (
        "from resnext.report import Chart, Line, svg\n"
        "line = Line(label='a', x=(1.0, 2.0), y=(3.0, 4.0))\n"
        "print(svg(Chart(name='c', title='t', x='x', y='y', lines=(line,))))"
    )
    drawn = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env=os.environ | own,
        ).stdout
        for own in ({}, {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")})
    ]
    assert drawn[0] == drawn[1]


def test_a_path_that_is_no_text_does_not_keep_a_report_from_being_written(tmp_path):
    command = b"runs/\xff".decode("utf-8", "surrogateescape")
    page_file, text, *_ = write_report(page(command, CHART), tmp_path)
    assert "runs/?" in page_file.read_text("utf-8")
    assert "runs/?" in text.read_text("utf-8")
