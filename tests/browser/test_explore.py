"""The explore page in a real browser: what it shows is what the algebra says."""

import json
import random
from dataclasses import asdict, replace

import pytest

from resnext.deploy.explore import Setting, file_page, record
from resnext.deploy.explore.grid import kinds

TEMPLATES = (
    (1, 16),
    (1, 64),
    (2, 40),
    (4, 24),
    (8, 14),
    (8, 64),
    (16, 8),
    (32, 4),
    (32, 8),
    (64, 2),
)
SMALL = [
    replace(
        kind,
        depths=tuple(depth for depth in kind.depths if depth in (18, 29, 38, 50, 101, 28)),
        templates=TEMPLATES if kind.family != "wide" else ((1, 32), (1, 160)),
        resolutions=kind.resolutions[-3:],
        classes=kind.classes[-3:] if kind.family != "imagenet" else (10, 1000),
    )
    for kind in kinds()
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("explore") / "explore.html"
    file.write_text(file_page(SMALL), encoding="utf-8")
    return file


@pytest.fixture
def explore(opened, page_file):
    def open_(*size):
        page = opened(page_file, *size)
        page.wait_for_selector("#page:not([hidden])")
        return page

    return open_


def random_settings(grid, count):
    rng = random.Random(1)
    for _ in range(count):
        kind = rng.choice(grid)
        chosen = (kind.depths, kind.templates, kind.shortcuts, kind.resolutions, kind.classes)
        yield kind.setting(*map(rng.choice, chosen))


def assert_records_are_the_algebra_s(page, settings):
    settings = list(settings)
    plain = [asdict(setting) for setting in settings]
    found = page.evaluate("(all) => Promise.all(all.map((one) => page.source.record(one)))", plain)
    for got, setting in zip(found, settings, strict=True):
        assert got == json.loads(json.dumps(record(setting)))


def test_what_it_looks_up_is_what_the_algebra_says(explore):
    assert_records_are_the_algebra_s(explore(), random_settings(SMALL, 300))


@pytest.mark.slow
def test_the_whole_page_says_what_the_algebra_says(opened, tmp_path):
    file = tmp_path / "explore.html"
    file.write_text(file_page(), encoding="utf-8")
    assert file.stat().st_size < 3_000_000
    page = opened(file)
    page.wait_for_selector("#page:not([hidden])")
    assert page.locator("#preset option").count() == 44, "every network of the catalogue"
    assert_records_are_the_algebra_s(page, random_settings(kinds(), 1000))


def test_it_shows_each_number_of_a_record(explore):
    page = explore()
    for network, resolution in (
        ("ResNeXt-101 (32x4d)", 224),
        ("ResNet-18", 320),
        ("ResNeXt-29 (8x64d)", 32),
        ("WRN-28-10", 64),
    ):
        setting = Setting.of(network, resolution)
        page.evaluate("(setting) => page.go(setting)", asdict(setting))
        expected = record(setting)
        assert page.locator("#name").inner_text() == expected["name"]
        for unit in ("parameters", "multiply_adds", "activations"):
            assert f"{expected[unit]:,}" in page.locator(f"#{unit}").inner_text()
        assert f"{expected['memory']['total']:,} bytes" in page.locator("#memory").inner_text()
        rows = page.locator("#stages tbody tr")
        assert rows.count() == len(expected["stages"]) + 1
        for row, stage in zip(rows.all(), expected["stages"], strict=False):
            cells = row.locator("td").all_inner_texts()
            assert cells[:2] == [stage["name"], stage["output"]]
            assert all(text in cells[2] for text in stage["before"] + stage["layers"])
            assert cells[3:] == [f"{stage['parameters']:,}", f"{stage['multiply_adds']:,}"]
        drawn = page.locator("#network text").all_text_contents()
        assert f"{resolution}×{resolution}" in drawn
        assert page.locator("#neighbours tbody tr").count() == len(expected["neighbours"])
        assert page.locator("#code code").all_inner_texts() == [
            expected["name"], expected["python"], expected["shell"],
        ]  # fmt: skip


def test_a_control_moved_by_keyboard_changes_the_cost(explore):
    page = explore()
    assert page.locator("#name").inner_text() == "ResNeXt-50 (32×4d)"
    assert "25,028,904" in page.locator("#parameters").inner_text()
    page.get_by_label("width d").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#name").inner_text() == "ResNeXt-50 (32×8d)"
    expected = record(Setting.of("resnext50_32x8d"))
    assert f"{expected['parameters']:,}" in page.locator("#parameters").inner_text()
    assert "32×8d" in page.locator("#network text").all_text_contents()
    page.get_by_label("resolution").press("ArrowLeft")
    assert "192×192" not in page.locator("#network text").all_text_contents()
    assert page.locator("#resolution output").inner_text() == "256" or page.get_by_text("224×224")


def test_width_follows_cardinality_where_the_cost_is_kept(explore):
    page = explore()
    page.get_by_label("preset").select_option(
        label="ResNet-50 – Tables 1, 3, 6, 8; torchvision, timm"
    )
    page.get_by_label("keep the cost").check()
    names = []
    for _ in range(6):
        page.get_by_label("cardinality C").press("ArrowRight")
        names.append(page.locator("#name").inner_text())
    assert names == [
        f"ResNeXt-50 ({template})"
        for template in ("2×40d", "4×24d", "8×14d", "16×8d", "32×4d", "64×2d")
    ]


def test_forms_neighbours_shortcuts_and_families_answer(explore):
    page = explore()
    grouped = page.get_by_role("button", name="(c) grouped convolution")
    grouped.click()
    assert grouped.get_attribute("aria-pressed") == "true"
    assert "128, 3×3, 128, C = 32" in page.locator("#block text").all_text_contents()
    page.get_by_role("button", name="1×64d").click()
    assert page.locator("#name").inner_text() == "ResNet-50"
    page.get_by_role("radio", name="none").check(force=True)
    assert page.locator("#name").inner_text() == "ResNet-50 (no shortcut)"
    assert "identity" not in page.locator("#block text").all_text_contents()
    page.get_by_label("family and depth").select_option(label="CIFAR, 29 layers")
    assert page.locator("#name").inner_text() == "ResNet-29 (1×64d, CIFAR, no shortcut)"
    page.get_by_label("family and depth").select_option(label="Wide ResNet, 28 layers")
    assert page.locator("#name").inner_text() == "WRN-28-10 (no shortcut)"
    assert not page.locator("#around").is_visible()
    assert page.get_by_label("cardinality C").is_disabled()


def test_the_address_keeps_the_network(explore, opened, page_file):
    page = explore()
    page.get_by_label("width d").press("ArrowRight")
    anchor = page.evaluate("location.hash")
    again = opened(page_file, anchor=anchor)
    again.wait_for_selector("#page:not([hidden])")
    assert again.locator("#name").inner_text() == "ResNeXt-50 (32×8d)"


@pytest.mark.parametrize("text", ["#depth=x&width=-3", "#family=none", "#width=1e9", "#%00<b>"])
def test_an_address_that_says_nothing_sensible_does_no_harm(opened, page_file, text):
    page = opened(page_file, anchor=text)
    page.wait_for_selector("#page:not([hidden])")
    assert page.locator("#name").inner_text().startswith("ResNeXt-50")
    assert not page.locator("#problem").is_visible()


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_screen(explore, width, scheme):
    page = explore(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]


def test_without_scripts_it_says_so(chromium, page_file):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.get_by_text("This page needs JavaScript").is_visible()
    context.close()
