"""Grouped convolutions as fewer, wider groups, so that the framework's kernels find tensor cores.

Groups are put together to blocks of `width` channels, with zeros between them: the result is the
same number (a zero times a finite number adds nothing), the work grows by width / G. Where memory
limits a convolution, and nothing else does, that work is free.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH = 64
"""Channels of a block: what tensor cores of today's GPUs take at once."""


def merged_width(channels: int, group_width: int, width: int = WIDTH) -> int:
    """The largest width of a block, at most `width`, that both groups and channels divide into."""
    if group_width >= width:
        return group_width
    groups = channels // group_width
    per_block = max(n for n in range(1, width // group_width + 1) if groups % n == 0)
    return per_block * group_width


def merge(weight: Tensor, width: int) -> Tensor:
    """C x G x k x k -> C x width x k x k with the groups on the diagonal of each block."""
    channels, group_width, *kernel = weight.shape
    per_block = width // group_width
    blocks = weight.reshape(-1, per_block, group_width, group_width, *kernel)
    wide = blocks.new_zeros(len(blocks), per_block, group_width, per_block, group_width, *kernel)
    at = torch.arange(per_block, device=weight.device)
    wide[:, at, :, at] = blocks.transpose(0, 1)
    return wide.reshape(channels, width, *kernel)


def unmerge(wide: Tensor, group_width: int) -> Tensor:
    """The diagonal of each block: what `merge` took its weights from."""
    channels, width, *kernel = wide.shape
    per_block = width // group_width
    blocks = wide.reshape(-1, per_block, group_width, per_block, group_width, *kernel)
    at = torch.arange(per_block, device=wide.device)
    return blocks[:, at, :, at].transpose(0, 1).reshape(channels, group_width, *kernel)


def merged_conv2d(x: Tensor, weight: Tensor, stride: int = 1, width: int = WIDTH) -> Tensor:
    """The grouped convolution of a C x G x k x k weight, k odd, padding (k - 1) / 2."""
    channels, group_width, size, _ = weight.shape
    width = merged_width(channels, group_width, width)
    wide = weight if width == group_width else merge(weight, width)
    return F.conv2d(x, wide, stride=stride, padding=size // 2, groups=channels // width)
