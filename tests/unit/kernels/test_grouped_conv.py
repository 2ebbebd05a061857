"""The operation as torch sees it: its path, gradients, autocast, compilation, export."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import operations
from interpreted import drawn
from resnext.kernels import KernelFallbackWarning, grouped_conv, grouped_conv2d, unsupported


@pytest.fixture
def said_nothing_yet(monkeypatch):
    monkeypatch.setattr(grouped_conv, "_SAID", set())


def both(channels=32, width=4, side=5, dtype=torch.float32):
    return drawn((2, channels, side, side), dtype), drawn((channels, width, 3, 3), dtype, 0.2)


def test_the_framework_s_path_is_the_framework():
    x, weight = both()
    true = F.conv2d(x, weight, padding=1, groups=8)
    assert grouped_conv2d(x, weight, backend="framework").equal(true)


def test_what_no_kernel_takes_is_computed_by_the_framework_which_is_said_once(said_nothing_yet):
    x, weight = both()
    true = F.conv2d(x, weight, padding=1, groups=8)
    with pytest.warns(KernelFallbackWarning, match="found maps on cpu: the framework computes it"):
        assert grouped_conv2d(x, weight).equal(true)
    with warnings.catch_warnings(action="error"):
        assert grouped_conv2d(x, weight).equal(true)
        assert grouped_conv2d(x, weight, backend="auto").equal(true)
        assert grouped_conv2d(x, weight, backend="merged").allclose(true, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "weight", "stride", "why"),
    [
        ((1, 96, 4, 4), (96, 24, 3, 3), 1, "24 channels per group of 96"),
        ((1, 16, 4, 4), (16, 4, 3, 3), 1, "4 channels per group of 16"),
        ((1, 64, 4, 4), (64, 4, 5, 5), 1, "a 5x5 convolution from 64 to 64 channels, stride 1"),
        ((1, 64, 4, 4), (128, 4, 3, 3), 1, "a 3x3 convolution from 64 to 128 channels, stride 1"),
        ((1, 64, 4, 4), (64, 4, 3, 3), 3, "a 3x3 convolution from 64 to 64 channels, stride 3"),
        ((1, 64, 4, 4), (64, 4, 3, 3), 1, "maps on meta"),
        ((0, 64, 4, 4), (64, 4, 3, 3), 1, "an empty map"),
        ((2, 64, 0, 4), (64, 4, 3, 3), 1, "an empty map"),
        ((2**15, 64, 32, 32), (64, 4, 3, 3), 1, "a map of 2147483648 values"),
        ((2**16, 32, 4, 4), (32, 4, 3, 3), 1, "a map of 65536 images"),
        ((2**14, 32, 32, 32), (32, 4, 3, 3), 1, "a map of 16777216 pixels"),
    ],
)
def test_it_is_said_what_no_kernel_takes(x, weight, stride, why):
    with torch.device("meta"):
        assert unsupported(torch.empty(x), torch.empty(weight), stride) == why


def test_an_empty_batch_gives_an_empty_map_and_no_gradient(interpret):
    shape, slope = interpret(operations.of_no_images)
    assert (shape, slope) == ((0, 32, 5, 5), 0.0)


def test_maps_of_double_precision_are_the_framework_s(said_nothing_yet):
    x, weight = both(dtype=torch.float64)
    assert unsupported(x, weight, 1) == "maps of torch.float64"


def test_merged_under_autocast_is_in_its_type():
    x, weight = both()
    with torch.autocast("cpu", torch.bfloat16):
        assert grouped_conv2d(x, weight, backend="merged").dtype == torch.bfloat16


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_gradients(stride):
    """In double precision the framework computes; what is tested is how the three fit together."""
    x, weight = both(side=3, dtype=torch.float64)
    given = (x.requires_grad_(), weight.requires_grad_())

    def operation(x, weight):
        return torch.ops.resnext.grouped_conv(x, weight, stride, "triton")

    options = {"fast_mode": True, "raise_exception": True}
    assert torch.autograd.gradcheck(operation, given, **options)
    assert torch.autograd.gradgradcheck(operation, given, **options)


# torch's check looks at .grad of a tensor that it has made itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_torch_s_own_checks_of_an_operation():
    x, weight = both()
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    given = (x, weight.requires_grad_(), 2, "triton")
    found = torch.library.opcheck(torch.ops.resnext.grouped_conv, given)
    assert set(found.values()) == {"SUCCESS"}


def test_autocast_casts_the_map_and_leaves_the_weights(interpret):
    found = interpret(operations.under_autocast)
    assert found == (torch.bfloat16, torch.float32, torch.float32)


def test_a_compiled_graph_is_whole_and_has_eager_s_values(interpret):
    difference, names = interpret(operations.compiled)
    # products and sums of float32 in the kernels' order in both; the rest is one sum over outputs
    assert difference <= 1e-5
    assert {"grouped_conv", "grouped_conv_input_gradient", "grouped_conv_weight_gradient"} <= names


def test_falling_back_does_not_break_a_compiled_graph():
    x, weight = both()
    compiled = torch.compile(lambda x, w: grouped_conv2d(x, w), fullgraph=True, backend="eager")
    assert compiled(x, weight).equal(F.conv2d(x, weight, padding=1, groups=8))


def test_it_is_exported():
    class Network(nn.Module):
        def forward(self, x, weight):
            return torch.ops.resnext.grouped_conv(x, weight, 2, "triton")

    x, weight = both()
    program = torch.export.export(Network(), (x, weight))
    assert "resnext.grouped_conv" in str(program.graph)
    true = F.conv2d(x, weight, stride=2, padding=1, groups=8)
    torch.testing.assert_close(program.module()(x, weight), true)


def test_the_path_in_front_of_the_operation_is_the_kernel(interpret):
    """Not only the launching functions: the operation itself ends in the interpreter."""
    assert interpret(operations.launches) == ["forward", "forward", "weight_gradient"]


def test_bounds_would_see_a_wrong_tap(interpret):
    assert interpret(operations.wrong_tap) > 0.1
