"""What is chosen where: from the table alone, and from nothing where nobody measured."""

import json

import pytest
import torch

from resnext.kernels import backend_for, choices, kept_backend
from resnext.kernels.choices import Choice, Shape, choose, estimated, measured, with_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def shape(**changes):
    usual = {
        "direction": "forward",
        "group_width": 4,
        "channels": 128,
        "height": 56,
        "width": 56,
        "images": 256,
        "stride": 1,
    }
    return Shape(**usual | changes)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table in which one device was measured on one shape."""
    row = Choice(path="triton", launch=estimated(shape(images=1)))
    content = with_device(
        json.loads(choices.TABLE.read_text()), "GPU X", {"commit": "c"}, {shape().key: row}
    )
    path = tmp_path / "table.json"
    path.write_text(json.dumps(content))
    monkeypatch.setattr(choices, "TABLE", path)
    monkeypatch.setattr(choices.read_table, "__defaults__", (path,))
    measured.cache_clear()
    yield row
    measured.cache_clear()


def test_a_measured_shape_is_computed_as_it_was_fastest(table):
    assert choose(shape(images=128), "GPU X") == table
    assert choose(shape(), "GPU Y").path == "framework"
    assert choose(shape(stride=2), "GPU X").path == "framework"
    assert choose(shape(itemsize=4), "GPU X").path == "framework"  # nobody measured float32


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "<<<<<<< HEAD",
        '{"devices": {"GPU X": {}}}',
        '{"devices": {"GPU X": {"rows": [{}]}}}',
    ],
)
def test_a_damaged_table_is_named(table, content):
    choices.TABLE.write_text(content)
    with pytest.raises(ValueError, match=r"expected a table of choices in .*table\.json, found"):
        measured("GPU X")


@pytest.mark.parametrize("wrong", [{"blocks": 3}, {"images": 3}, {"rows": 0}, {"slices": 0}])
def test_a_launch_that_leaves_something_out_is_refused(table, wrong):
    content = json.loads(choices.TABLE.read_text())
    content["devices"]["GPU X"]["rows"][0]["launch"] |= wrong
    choices.TABLE.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected a table of choices"):
        choose(shape(), "GPU X")


def test_a_device_written_anew_leaves_the_others(table):
    content = json.loads(choices.TABLE.read_text())
    again = with_device(content, "GPU Y", {}, {})
    assert again["devices"]["GPU X"] == content["devices"]["GPU X"]
    assert again["devices"]["GPU Y"] == {"basis": {}, "rows": []}


def test_auto_is_the_framework_until_somebody_has_measured(table, monkeypatch):
    assert backend_for(None, CPU) == "framework"
    assert backend_for("merged", CPU) == "merged"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU Y")
    assert backend_for("auto", CUDA) == "framework"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU X")
    assert backend_for(None, CUDA) == "auto"


def test_a_backend_is_kept_where_it_can_be():
    assert kept_backend("triton", CUDA) == "triton"
    assert kept_backend("triton", torch.device("meta")) is None
    assert kept_backend("merged", CPU) == "merged"


@pytest.mark.parametrize("direction", choices.DIRECTIONS)
@pytest.mark.parametrize("group_width", choices.GROUP_WIDTHS)
@pytest.mark.parametrize("side", [1, 7, 14, 28, 56, 100])
def test_an_estimate_covers_the_map_with_what_a_tensor_core_takes(direction, group_width, side):
    for images, channels in ((1, 64), (256, 512)):
        launch = estimated(
            shape(
                direction=direction,
                group_width=group_width,
                height=side,
                width=side,
                images=images,
                channels=channels,
            )
        )
        assert launch.images * launch.columns == 32
        assert channels % (launch.blocks * choices.block_width(group_width)) == 0
        assert 1 <= launch.rows <= 28
        assert 1 <= launch.slices <= images
