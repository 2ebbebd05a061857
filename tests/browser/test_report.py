"""The page of a report in a real browser: phone and desk, light and dark, on paper, by keyboard."""

import io

import pytest
from PIL import Image

from resnext.report import Chart, Column, Drawing, Line, Photo, Photos, Report, Table, write_report

HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    photo = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 90, 40)).save(photo, "JPEG")
    epochs = tuple(map(float, range(1, 11)))
    report = Report(
        name="table3",
        title=f"Table 3 {HOSTILE}",
        summary=(HOSTILE,),
        parts=(
            Table(
                name="table3",
                title="Errors",
                columns=(
                    Column(title="network with a name that is rather long"),
                    Column(title="top-1 error, %", source="Table 3", digits=1),
                    Column(title="ours, %"),
                    Column(title="difference", signed=True),
                    Column(title="median of the absolute differences"),
                ),
                rows=(
                    ("ResNeXt-50 (32×4d)", 22.2, 22.35, 0.15, None),
                    (HOSTILE, 23.9, None, None, None),
                ),
            ),
            Chart(
                name="curves",
                title="Error by epoch",
                x="epoch",
                y="error, %",
                lines=(
                    Line(label=HOSTILE, x=epochs, y=tuple(10.0 * 11 - 10 * x for x in epochs)),
                    Line(
                        label="points",
                        x=(2.0, 5.5),
                        y=(40.0, 20.0),
                        error=(5.0, None),
                        marks=True,
                    ),
                ),
            ),
            Drawing(
                name="block",
                title="Block",
                svg='<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 30">'
                '<text y="20" fill="currentColor">256, 1×1, 4</text></svg>',
                description="A block of 32 paths",
            ),
            Photos(
                name="mistakes",
                title="Mistakes",
                photos=(Photo(caption=HOSTILE, data=photo.getvalue()),) * 3,
            ),
        ),
        facts={"command": HOSTILE, "data": "f" * 200},
    )
    return write_report(report, tmp_path_factory.mktemp("page"))[0]


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen_and_text_stays_text(opened, page_file, width, scheme):
    page = opened(page_file, width, scheme)
    assert page.title() == f"Table 3 {HOSTILE}"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("script:not([type])").count() == 2
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert page.locator(".missing").count() == 4
    assert page.get_by_role("cell", name="+0.15").count() == 1


def plot_box(page):
    box = page.locator(".u-over").bounding_box()
    return box["x"], box["y"], box["width"], box["height"]


def test_a_point_tells_its_values(opened, page_file):
    page = opened(page_file)
    x, y, width, height = plot_box(page)
    page.mouse.move(x + width * (5 - 1) / 9, y + height / 2)
    assert page.locator(".where").inner_text() == "epoch 5"
    values = page.locator(".legend output").all_inner_texts()
    assert values == ["60", ""]
    page.mouse.move(x + width * (5.5 - 1) / 9, y + height / 2)
    assert page.locator(".legend output").all_inner_texts() == ["", "20"]


def span(page):
    return page.evaluate("[figures[0].plot.scales.x.min, figures[0].plot.scales.x.max]")


def test_zoom_logarithms_and_lines(opened, page_file):
    page = opened(page_file)
    assert span(page) == [1, 10]
    x, y, width, height = plot_box(page)
    page.mouse.move(x + width * 0.2, y + height * 0.5)
    page.mouse.down()
    page.mouse.move(x + width * 0.6, y + height * 0.5, steps=4)
    page.mouse.up()
    low, high = span(page)
    assert 2.5 < low < 3.2
    assert 6 < high < 6.8
    page.get_by_role("button", name="reset zoom").focus()
    page.keyboard.press("Enter")
    assert span(page) == [1, 10]
    logarithm = page.get_by_role("button", name="log y")
    logarithm.click()
    assert logarithm.get_attribute("aria-pressed") == "true"
    assert page.evaluate("figures[0].plot.scales.y.distr") == 3
    line = page.get_by_role("button", name="points")
    line.focus()
    page.keyboard.press("Space")
    assert page.evaluate("figures[0].plot.series[2].show") is False
    logarithm.click()
    assert page.evaluate("figures[0].plot.series[2].show") is False


def test_error_bars_have_room(opened, page_file):
    page = opened(page_file)
    page.get_by_role("button", name=HOSTILE).click()
    low, high = page.evaluate("[figures[0].plot.scales.y.min, figures[0].plot.scales.y.max]")
    assert low < 20
    assert high > 45


def test_the_reader_chooses_light_or_dark(opened, page_file):
    page = opened(page_file, scheme="dark")
    button = page.get_by_role("button", name="light/dark")
    button.click()
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    button.click()
    assert page.evaluate(paper) == "rgb(20, 23, 26)"


def test_on_paper_there_are_pictures_and_no_buttons(opened, page_file):
    page = opened(page_file)
    picture = page.locator("figure.chart > svg")
    assert not picture.is_visible()
    page.emulate_media(media="print")
    assert picture.is_visible()
    assert not page.locator(".live").is_visible()
    assert not page.locator("#theme").is_visible()


def test_without_scripts_the_page_is_whole(chromium, page_file):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("figure.chart > svg").is_visible()
    assert page.locator("button:visible").count() == 0
    context.close()


def test_what_is_missing_is_a_gap_in_a_line_and_other_lines_points_are_none(opened, tmp_path):
    chart = Chart(
        name="gaps",
        title="Gaps",
        x="epoch",
        y="error, %",
        lines=(
            Line(label="missing", x=(1.0, 2.0, 3.0, 4.0, 5.0), y=(9.0, 8.0, None, 6.0, 5.0)),
            Line(label="seldom", x=(1.0, 5.0), y=(4.0, 3.0)),
        ),
    )
    report = Report(name="gaps", title="Gaps", summary=(), parts=(chart,), facts={})
    page = opened(write_report(report, tmp_path)[0])
    gaps = "figures[0].plot.series.slice(1).map((line) => (line._paths.gaps ?? []).length)"
    assert page.evaluate(gaps) == [1, 0]


def test_epochs_have_no_halves(opened, tmp_path):
    epochs = tuple(map(float, range(1, 13)))
    line = Line(label="validation", x=epochs, y=epochs)
    chart = Chart(name="error", title="Error", x="epoch", y="error, %", lines=(line,))
    report = Report(name="error", title="Error", summary=(), parts=(chart,), facts={})
    page = opened(write_report(report, tmp_path)[0], 375)
    ticks = page.evaluate("figures[0].plot.axes[0]._splits")
    assert ticks == [float(round(tick)) for tick in ticks] != []


def test_small_numbers_have_their_own_labels(opened, tmp_path):
    line = Line(label="difference", x=(1.0, 2.0, 3.0), y=(1e-15, 1e-7, 0.5))
    chart = Chart(name="small", title="Small", x="update", y="loss", lines=(line,), log_y=True)
    report = Report(name="small", title="Small", summary=(), parts=(chart,), facts={})
    page = opened(write_report(report, tmp_path)[0])
    labels = [text for text in page.evaluate("figures[0].plot.axes[1]._values") if text]
    assert len(labels) == len(set(labels)) > 3
    assert "0" not in labels
    assert "1e-8" in labels
