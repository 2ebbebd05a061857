"""Groups put together to wider ones: the same function."""

import pytest
import torch
from torch.nn import functional as F

from interpreted import drawn
from resnext.kernels.merged import merge, merged_conv2d, merged_width, unmerge


@pytest.mark.parametrize(
    ("channels", "width", "most", "expected"),
    [(128, 4, 64, 64), (128, 4, 16, 16), (96, 24, 64, 48), (512, 64, 64, 64), (512, 128, 64, 128),
     (40, 8, 64, 40), (56, 8, 32, 8)],
)  # fmt: skip
def test_blocks_are_of_whole_groups_and_divide_the_channels(channels, width, most, expected):
    assert merged_width(channels, width, most) == expected


def test_merging_is_undone():
    weight = drawn((64, 8, 3, 3))
    wide = merge(weight, 32)
    assert wide.shape == (64, 32, 3, 3)
    assert int((wide != 0).sum()) == weight.numel()
    assert unmerge(wide, 8).equal(weight)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [4, 8, 16, 32, 64])
def test_the_same_convolution_with_the_same_gradients(width, stride):
    x = drawn((2, 128, 7, 6), torch.float64).requires_grad_()
    weight = drawn((128, width, 3, 3), torch.float64).requires_grad_()
    y = merged_conv2d(x, weight, stride)
    true = F.conv2d(x, weight, stride=stride, padding=1, groups=128 // width)
    dy = drawn(y.shape, torch.float64, seed=1)
    found = torch.autograd.grad(y, (x, weight), dy)
    expected = torch.autograd.grad(true, (x, weight), dy)
    # sums of 9 G terms in another order: measured 4e-14 at most in float64
    torch.testing.assert_close((y, *found), (true, *expected), rtol=0, atol=4e-13)
