"""Mixup and CutMix: images blended with others of their batch, as functions of (seed, step).

Partners are taken within the parts that batch normalisation sees, so the number of processes and
of micro-batches changes nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_PURPOSE = 5
"""Of the stream of random numbers; the data's own draws have the numbers below."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What is done to a batch: `weight` of each image stays.

    `box` is None for mixup; for CutMix the sides (top, bottom, left, right) of what comes from the
    partner, as parts of the image.
    """

    weight: float
    box: tuple[float, float, float, float] | None = None


def draw_mix(seed: int, step: int, *, mixup: float, cutmix: float) -> Mix | None:
    """The mix of a step; None without either.

    Mixup blends with weight ~ Beta(mixup, mixup) (Zhang et al., arXiv:1710.09412); CutMix replaces
    a box of area 1 - weight, weight ~ Beta(cutmix, cutmix), cut at the border (Yun et al.,
    arXiv:1905.04899, Eqn. 2). With both, a fair coin picks one for each batch.
    """
    if not mixup and not cutmix:
        return None
    key = np.array([seed, step], dtype=np.uint64)
    counter = np.array([0, 0, 0, _PURPOSE], dtype=np.uint64)
    draws = np.random.Generator(np.random.Philox(key=key, counter=counter))
    coin = draws.random()
    if not cutmix or (mixup and coin < 0.5):
        return Mix(float(draws.beta(mixup, mixup)))
    half = 0.5 * np.sqrt(1 - draws.beta(cutmix, cutmix))
    middles = draws.random(2)
    (top, left), (bottom, right) = (middles - half).clip(0), (middles + half).clip(max=1)
    return Mix(1.0, (float(top), float(bottom), float(left), float(right)))


def partners(images: int, part: int) -> Tensor:
    """For each image the one it is mixed with: the parts reversed."""
    numbers = torch.arange(images)
    return torch.cat([piece.flip(0) for piece in torch.split(numbers, part)])


def mixed(images: Tensor, others: Tensor, mix: Mix) -> tuple[Tensor, float]:
    """N x C x H x W images blended with their partners, and the weight that their labels keep."""
    if mix.box is None:
        return images.lerp(others, 1 - mix.weight), mix.weight
    height, width = images.shape[-2:]
    top, bottom = (round(edge * height) for edge in mix.box[:2])
    left, right = (round(edge * width) for edge in mix.box[2:])
    result = images.clone()
    result[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return result, 1 - (bottom - top) * (right - left) / (height * width)
