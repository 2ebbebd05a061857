"""Cutting the maps to boxes: all crops of one size, with strides that are said, not guessed.

Torchvision's ``MultiScaleRoIAlign`` takes strides from the first image that it sees and keeps them;
a first image of 33 x 33 pixels gives 1/8 in place of 1/16 for ever.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool
from torchvision.ops.poolers import LevelMapper

from resnext.detection.method import Method


class Crop(nn.Module):
    """One map, or that of a pyramid which suits the size of the box."""

    def __init__(self, method: Method, strides: Sequence[int], side: int | None = None) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.side = side or method.crop_side
        self.align = method.crop == "align"
        self.aligned, self.sampling = method.aligned, method.sampling
        # a box of 224 x 224 pixels goes to conv4's level (Lin et al., Eqn. 1)
        levels = [stride.bit_length() - 1 for stride in self.strides]
        self._level_of = LevelMapper(min(levels), max(levels))

    def forward(self, maps: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Boxes of each image, P x 4 in pixels, -> R x C x side x side in the same order."""
        levels = list(maps.values())[: len(self.strides)]
        rois = torch.cat(boxes)
        numbers = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
        rois = torch.cat([numbers, rois], dim=1)
        if len(levels) == 1:
            return self._crops(levels[0], rois, self.strides[0])
        level_of = self._level_of(boxes)
        crops = levels[0].new_zeros((len(rois), levels[0].shape[1], self.side, self.side))
        for number, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            at = torch.where(level_of == number)[0]
            crops[at] = self._crops(level, rois[at], stride).to(crops.dtype)
        return crops

    def _crops(self, level: Tensor, rois: Tensor, stride: int) -> Tensor:
        if self.align:
            return roi_align(level, rois, self.side, 1 / stride, self.sampling, self.aligned)
        return roi_pool(level, rois, self.side, 1 / stride)

    def extra_repr(self) -> str:
        """The operation."""
        kind = f"align, aligned={self.aligned}" if self.align else "pool"
        return f"{self.side}, strides={self.strides}, {kind}"
