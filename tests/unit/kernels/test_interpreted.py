"""The Triton kernels, interpreted, against float64."""

from itertools import product

import pytest
import torch

import interpreted
from resnext.kernels.reference import BOUNDS

WIDTHS = (4, 8, 16, 32, 64)
STRIDES = (1, 2)
EDGES = ((1, 1), (2, 2), (3, 5), (7, 7), (8, 1), (14, 14), (9, 33))


def check(errors, dtype):
    """The gradient of float32 weights is a float32 sum, whatever the maps are."""
    bounds = dict.fromkeys(errors, BOUNDS[interpreted.DTYPES[dtype]])
    bounds["weight-gradient"] = BOUNDS[torch.float32]
    assert all(errors[direction] < bounds[direction] for direction in errors), errors


@pytest.mark.parametrize(("width", "stride"), list(product(WIDTHS, STRIDES)))
def test_every_width_and_stride_in_three_directions(interpret, width, stride):
    size = (2, max(32, width), 5, 6)
    check(interpret(interpreted.grouped_conv_errors, size, width, stride), "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("stride", STRIDES)
def test_half_precision_is_rounded_once(interpret, dtype, stride):
    errors = interpret(interpreted.grouped_conv_errors, (1, 32, 7, 7), 4, stride, dtype)
    check(errors, dtype)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("edge", [(1, 1), (8, 1), (3, 5)])
def test_maps_smaller_than_a_tile(interpret, edge, stride):
    check(interpret(interpreted.grouped_conv_errors, (1, 32, *edge), 8, stride), "float32")


@pytest.mark.parametrize("stride", STRIDES)
def test_strips_and_columns_and_slices_meet_without_a_seam(interpret, stride):
    launch = {"rows": 2, "columns": 8, "images": 2, "slices": 2}
    errors = interpret(interpreted.grouped_conv_errors, (3, 32, 5, 10), 4, stride, **launch)
    check(errors, "float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "stride", "edge", "images", "dtype"),
    [
        (width, stride, edge, images, dtype)
        for (width, stride, edge, images), dtype in zip(
            product(WIDTHS, STRIDES, EDGES, (1, 2, 3)),
            ["float32", "float16", "bfloat16"] * 1000,
            strict=False,
        )
    ],
)
def test_every_shape(interpret, width, stride, edge, images, dtype):
    size = (images, max(64, width), *edge)
    check(interpret(interpreted.grouped_conv_errors, size, width, stride, dtype), dtype)
