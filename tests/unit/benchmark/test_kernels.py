"""The benchmark of kernels: its shapes, floors and rules; times are of interpreted kernels here."""

from dataclasses import replace

import pytest
import torch

import measured_kernels
import resnext
from measured_kernels import CEILING, CONV
from resnext.benchmark.kernels import (
    FRAMEWORK,
    TRITON,
    Setting,
    benchmark_kernels,
    candidates,
    fastest,
    require_gpu,
    summary,
)
from resnext.benchmark.roofline import ASSUMED, Ceiling, Conv3x3, grouped_convs
from resnext.errors import ResourceError
from resnext.kernels.choices import DIRECTIONS, block_width, estimated

X50 = resnext.spec("ResNeXt-50 (32x4d)")


@pytest.fixture(scope="module")
def rows(interpret):
    return interpret(measured_kernels.rows)


def test_the_convolutions_of_the_paper_s_network():
    convs = grouped_convs([X50], 256, 224)
    assert [(str(conv), conv.count) for conv in convs] == [
        ("128x56x56, 4 per group", 3),
        ("256x56x56, 8 per group, stride 2", 1),
        ("256x28x28, 8 per group", 3),
        ("512x28x28, 16 per group, stride 2", 1),
        ("512x14x14, 16 per group", 5),
        ("1024x14x14, 32 per group, stride 2", 1),
        ("1024x7x7, 32 per group", 2),
    ]


def test_multiply_adds_are_those_of_the_network():
    counted = sum(conv.count * conv.multiply_adds for conv in grouped_convs([X50], 1, 224))
    layers = resnext.complexity(X50).layers
    assert counted == sum(
        layer.multiply_adds for layer in layers if layer.conv and layer.conv.groups > 1
    )


def test_several_networks_have_each_convolution_once():
    deep = resnext.spec("ResNeXt-101 (32x4d)")
    convs = grouped_convs([X50, deep], 256, 224)
    assert len(convs) == 7
    assert max(conv.count for conv in convs) == 22


def test_a_floor_is_the_longer_of_bytes_and_sums():
    conv = grouped_convs([X50], 256, 224)[0]
    assert conv.bytes == 2 * 2 * 256 * 128 * 56 * 56
    assert replace(conv, itemsize=4).bytes == 2 * conv.bytes
    assert conv.floor(ASSUMED) == pytest.approx(conv.bytes / 4.3e12)
    slow = Ceiling(bandwidth=4.3e12, rate=1e12, basis="")
    assert conv.floor(slow) == pytest.approx(conv.multiply_adds / 1e12)


def test_every_method_in_every_direction(rows):
    assert {row.direction for row in rows} == set(DIRECTIONS)
    for direction in DIRECTIONS:
        found = [row for row in rows if row.direction == direction]
        assert [row.method for row in found] == [
            FRAMEWORK, "merged to 32", "merged to 64", TRITON
        ]  # fmt: skip
        for row in found:
            assert 0 < row.least <= row.median <= row.most
            assert row.repeats == 3
            assert not row.wrong
            assert row.error < 1e-6
            assert row.ratio == pytest.approx(row.median / row.floor)
            assert row.floor == pytest.approx(1e6 * row.conv.bytes / 1e9)


def test_a_record_is_a_line_of_json(rows):
    record = rows[-1].record()
    assert record["shape"] == "weight-gradient g8 c64 5x5 s1 32 bit"
    assert record["launch"]["blocks"] == 4
    assert (record["count"], record["images"], record["direction"]) == (2, 2, "weight-gradient")


def test_a_wrong_kernel_is_not_timed(interpret):
    found = interpret(measured_kernels.rows_of_a_wrong_kernel)
    odd = [row for row in found if row.wrong]
    assert [(row.direction, row.method) for row in odd] == [("input-gradient", TRITON)]
    assert odd[0].median is None
    assert odd[0].ratio is None
    assert odd[0].error > 0.1
    assert odd[0].conv.shape("input-gradient").key in fastest(found)
    assert summary(found).compared == 2


@pytest.mark.slow
def test_a_launch_that_does_not_fit_is_left_out(interpret):
    found = interpret(measured_kernels.rows_where_a_launch_does_not_fit)
    stages = {
        direction: {row.launch.stages for row in found if row.launch and row.direction == direction}
        for direction in DIRECTIONS
    }
    assert stages == {
        "forward": {1, 2}, "input-gradient": {1, 2, 3}, "weight-gradient": {1, 2, 3}
    }  # fmt: skip


def test_the_table_gets_the_fastest_that_is_right(rows):
    quick = [replace(row, median=1.0) if row.method == TRITON else row for row in rows]
    table = fastest(quick)
    assert table.keys() == {CONV.shape(direction).key for direction in DIRECTIONS}
    assert {choice.path for choice in table.values()} == {"triton"}
    merged = [replace(row, median=0.5) if row.method == "merged to 64" else row for row in quick]
    assert {choice.path for choice in fastest(merged).values()} == {"merged"}
    # 32 wide is measured to learn from, but nothing computes so
    odd = [replace(row, median=0.5) if row.method == "merged to 32" else row for row in quick]
    assert {choice.path for choice in fastest(odd).values()} == {"triton"}
    tuned = replace(quick[3], launch=replace(quick[3].launch, stages=2), median=0.5)
    assert fastest([*quick, tuned])[CONV.shape("forward").key].launch.stages == 2


def test_the_summary_is_over_shapes_and_directions(rows):
    ours = [replace(row, ratio=2.0 if row.method == TRITON else 4.0) for row in rows]
    found = summary(ours)
    assert (found.efficiency, found.framework_efficiency) == pytest.approx((0.5, 0.25))
    assert (found.ahead, found.compared) == (3, 3)
    assert summary([row for row in rows if row.method != TRITON]) is None


def test_without_kernels_the_framework_is_measured_alone():
    setting = Setting(device=torch.device("cpu"), precision="fp32", repeats=3)
    found = list(benchmark_kernels([CONV], CEILING, setting))
    assert {row.method for row in found} == {FRAMEWORK, "merged to 32", "merged to 64"}
    assert summary(found) is None
    assert fastest(found)[CONV.shape("forward").key].path in ("framework", "merged")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("group_width", [4, 32, 64])
@pytest.mark.parametrize("side", [7, 56])
def test_launches_that_are_tried_fit_the_shape(direction, group_width, side):
    conv = Conv3x3(
        count=1, group_width=group_width, channels=512, height=side, width=side, stride=1, images=9
    )
    shape = conv.shape(direction)
    launches = candidates(shape)
    assert launches[0] == estimated(shape)
    assert len(launches) == len(set(launches)) >= 4
    for launch in launches:
        assert launch.images * launch.columns in (32, 64)
        assert 512 % (launch.blocks * block_width(group_width)) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said without a GPU")
def test_without_a_gpu_it_is_said_what_can_be_had():
    with pytest.raises(ResourceError, match="found none; --dry-run prints"):
        require_gpu()
