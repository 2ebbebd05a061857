"""Drawings say what the paper's figures say, and what the network has."""

import re
from xml.etree import ElementTree

import pytest

import resnext
from resnext.errors import SpecError
from resnext.report.diagrams import block_drawing, fig1, fig3, fig4, network_drawing
from resnext.spec import Block, Paths

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing):
    """Of the boxes and beside them, from top to bottom, left to right."""
    root = ElementTree.fromstring(drawing.svg)
    return [element.text for element in root.iter(f"{SVG}text")]


def boxes(drawing):
    return len(list(ElementTree.fromstring(drawing.svg).iter(f"{SVG}rect")))


def test_fig_1_is_the_paper_s():
    resnet, resnext_ = fig1()
    assert texts(resnet) == [
        "256-d in", "256, 1×1, 64", "64, 3×3, 64", "64, 1×1, 256", "identity", "256-d out",
    ]  # fmt: skip
    path = ["256, 1×1, 4", "4, 3×3, 4", "4, 1×1, 256"]
    assert [text for text in texts(resnext_) if "×" in text] == 3 * path
    assert texts(resnext_)[7:10] == ["···", "total 32", "paths"]


def test_fig_3_are_the_paper_s():
    split, concat, grouped = fig3()
    assert texts(split) == texts(fig1()[1])
    assert [text for text in texts(concat) if "×" in text] == [
        *3 * ["256, 1×1, 4", "4, 3×3, 4"],
        "128, 1×1, 256",
    ]
    assert "concatenate" in texts(concat)
    assert texts(grouped)[1:4] == ["256, 1×1, 128", "128, 3×3, 128, C = 32", "128, 1×1, 256"]


def test_fig_4_is_the_paper_s():
    paths, wide = fig4()
    assert [text for text in texts(paths) if "×" in text] == 3 * ["64, 3×3, 4", "4, 3×3, 64"]
    assert texts(wide)[1:3] == ["64, 3×3, 128", "128, 3×3, 64"]


@pytest.mark.parametrize("form", ["split", "concat", "grouped"])
def test_any_block_is_drawn_inside_of_its_frame(form):
    for *_, block in resnext.spec("ResNeXt-50 (2x40d)").blocks():
        drawing = block_drawing(block, form, name="block", title="A block")
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', drawing.svg).groups())
        for element in ElementTree.fromstring(drawing.svg).iter():
            assert 0 <= float(element.get("x", 0)) <= width
            assert 0 <= float(element.get("y", 0)) < height
        assert (f"{block.shortcut} shortcut" in drawing.description) == (block.shortcut != "none")
        assert boxes(drawing) == {"split": 6, "concat": 6, "grouped": 3}[form]


def test_strides_and_different_paths():
    mixed = Block(
        in_channels=64,
        out_channels=128,
        stride=2,
        paths=(Paths.of("1x8d"), Paths.of("1x4d", (1, 5, 1))),
        shortcut="none",
        activation="post",
    )
    drawing = block_drawing(mixed, "split", name="mixed", title="Mixed")
    assert [text for text in texts(drawing) if "×" in text] == [
        "64, 1×1, 8", "8, 3×3, 8, /2", "8, 1×1, 128", "64, 1×1, 4", "4, 5×5, 4, /2", "4, 1×1, 128",
    ]  # fmt: skip
    with pytest.raises(SpecError, match="form='split'"):
        block_drawing(mixed, "grouped", name="mixed", title="Mixed")


def frames(drawing):
    """(width, height) of the boxes from left to right."""
    boxes = ElementTree.fromstring(drawing.svg).iter(f"{SVG}rect")
    return [(float(box.get("width")), float(box.get("height"))) for box in boxes]


def test_a_network_is_drawn_stage_by_stage():
    drawing = network_drawing(resnext.spec("ResNeXt-50 (32x4d)"))
    assert texts(drawing) == [
        "image", "224×224", "3 channels",
        "conv1", "112×112", "64 channels",
        "conv2", "56×56", "256 channels", "3 blocks", "32×4d",
        "conv3", "28×28", "512 channels", "4 blocks", "32×8d",
        "conv4", "14×14", "1024 channels", "6 blocks", "32×16d",
        "conv5", "7×7", "2048 channels", "3 blocks", "32×32d",
        "classifier", "1000 classes",
    ]  # fmt: skip
    assert drawing.description.startswith(
        "ResNeXt-50 (32×4d): image 224×224 3 channels, then conv1"
    )
    heights = [height for _, height in frames(drawing)]
    assert heights == sorted(heights, reverse=True)
    assert len(heights) == 1 + 1 + 3 + 4 + 6 + 3 + 1


@pytest.mark.parametrize("entry", resnext.CATALOG, ids=lambda entry: entry.identifier)
def test_every_network_is_drawn_inside_of_its_frame(entry):
    drawing = network_drawing(entry.spec)
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', drawing.svg).groups())
    right = 0.0
    for box in ElementTree.fromstring(drawing.svg).iter(f"{SVG}rect"):
        left, top = float(box.get("x")), float(box.get("y"))
        assert left >= right + 2.9, "slats do not touch"
        right = left + float(box.get("width"))
        assert top >= 0
        assert top + float(box.get("height")) <= height - 34
    assert right <= width
    lines = {
        float(text.get("y")) for text in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")
    }
    assert max(lines) < height


def test_a_network_of_unlike_paths_and_an_oblong_image_are_drawn():
    spec = resnext.compose((1, 2), [Paths.of("2x8d"), Paths.of("1x4d", (1, 5, 1))], classes=7)
    drawing = network_drawing(spec, (96, 160))
    assert "2×8d + 1×4d" in texts(drawing)
    assert "1 block" in texts(drawing)
    assert "96×160" in texts(drawing)
    with pytest.raises(SpecError, match="resolution"):
        network_drawing(spec, 0)
