"""The fused middle of a bottleneck, interpreted, against float64 and beside the framework."""

from itertools import product

import pytest
import torch

import interpreted
import operations
from resnext.kernels.batch_norm import fusible

WIDTHS = (4, 8, 16, 32, 64)


def check_float32(errors):
    """Sums of up to a few hundred products: measured 3e-7 at most, over all of these cases."""
    fused, _ = errors
    assert all(error < 3e-6 for error in fused.values()), fused


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [4, pytest.param(64, marks=pytest.mark.slow)])
def test_result_and_all_gradients(interpret, width, stride):
    size = (5, max(32, width), 5, 6)  # two tiles, whose statistics have to be merged
    check_float32(interpret(interpreted.between_norms_errors, size, width, stride))


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_each_part_of_a_batch_is_normalised_by_itself(interpret, stride):
    errors = interpret(
        interpreted.between_norms_errors, (8, 32, 5, 6), 8, stride, "float32", part=4
    )
    check_float32(errors)


def test_half_precision_is_as_good_as_the_framework_s(interpret):
    """ReLUs turn over where a map is rounded; that is the same error for both: within 4 %."""
    fused, framework = interpret(interpreted.between_norms_errors, (2, 32, 7, 7), 4, 1, "float16")
    for name in fused:
        assert fused[name] < 1.4 * framework[name], (name, fused, framework)


@pytest.mark.parametrize("shift", [0.0, 30.0, 300.0])
def test_a_large_mean_does_not_drown_the_variance(interpret, shift):
    """E[x^2] - E[x]^2 in float32 is off by 1e-4 at a mean of 30, and by 1e-2 at 300."""
    assert interpret(interpreted.variances, (2, 32, 18, 18), shift) < 3e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "stride", "edge", "images"),
    list(product(WIDTHS, (1, 2), ((3, 4), (7, 7), (14, 14), (9, 33)), (2, 3))),
)
def test_every_shape(interpret, width, stride, edge, images):
    size = (images, max(64, width), *edge)
    check_float32(interpret(interpreted.between_norms_errors, size, width, stride))


@pytest.mark.parametrize(
    ("images", "part", "takes"),
    [(8, 8, True), (8, 99, True), (6, 6, True), (8, 4, True), (8, 2, False), (12, 8, False)],
)
def test_parts_are_equal_and_no_tile_reaches_into_the_next(monkeypatch, images, part, takes):
    monkeypatch.setattr("resnext.kernels.batch_norm.unsupported", lambda *_: None)
    x, weight = torch.empty(images, 32, 4, 4), torch.empty(32, 4, 3, 3)
    assert fusible(x, weight, 1, part) is takes


@pytest.mark.parametrize("where", [0, 3], ids=["map", "weights"])
def test_what_is_no_number_does_not_become_one(interpret, where):
    """Hardware's maximum of a number and of none is the number."""
    lost, found = interpret(operations.not_numbers, where)
    assert lost > 0
    assert found == 0


def test_a_constant_has_no_variance_below_zero(interpret):
    """In one pass over seven equal values of 143 it was -6e-4, whose root is no number."""
    assert interpret(operations.variance_of_constants) == (0.0, 0)


def test_a_whole_network_in_half_precision_keeps_its_types(interpret):
    kind = torch.float16
    assert interpret(operations.of_a_network_in_half_precision) == (kind, {kind})


def test_it_takes_what_kernels_take():
    assert not fusible(torch.empty(8, 32, 4, 4), torch.empty(32, 4, 3, 3), 1, 8)  # on a processor


def test_a_compiled_graph_is_whole_and_has_eager_s_values(interpret):
    difference, names = interpret(operations.compiled_norms)
    assert difference <= 1e-5
    assert {"between_norms", "between_norms_gradient"} <= names


def test_torch_s_own_checks_of_an_operation(interpret):
    assert interpret(operations.checked_norms) == {"SUCCESS"}
