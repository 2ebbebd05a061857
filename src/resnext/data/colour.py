"""Colour augmentation and normalisation as one 3 x 4 affine map per image.

fb.resnet.torch blends brightness, contrast and saturation in random order without clipping, adds
PCA lighting noise and normalises. All of it is affine in (R, G, B), and contrast's mean grey
follows from the three channel means, so it composes to one map y = A x + b, held as [A | b].
Sources: fb.resnet.torch datasets/transforms.lua (ColorJitter, Lighting) and datasets/imagenet.lua.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
STRENGTH = 0.4
LIGHTING = 0.1
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
GREY = np.array([0.299, 0.587, 0.114])


class Uniform(Protocol):
    """A stream of random numbers."""

    def uniform(self) -> float:
        """The next one, in [0, 1)."""
        ...


def identity() -> Floats:
    """The map that changes nothing, 3 x 4."""
    return np.hstack([np.eye(3), np.zeros((3, 1))])


def after(outer: Floats, inner: Floats) -> Floats:
    """The map x -> outer(inner(x))."""
    return np.hstack([outer[:, :3] @ inner[:, :3], outer[:, :3] @ inner[:, 3:] + outer[:, 3:]])


def normalisation() -> Floats:
    """(x - mean) / std of ImageNet, x in [0, 1]."""
    return np.hstack([np.diag(1 / STD), (-MEAN / STD)[:, None]])


def brightness(alpha: float) -> Floats:
    """Blend with black: alpha x."""
    return alpha * identity()


def contrast(alpha: float, mean_grey: float) -> Floats:
    """Blend with the mean grey of the image: alpha x + (1 - alpha) grey."""
    return np.hstack([alpha * np.eye(3), np.full((3, 1), (1 - alpha) * mean_grey)])


def saturation(alpha: float) -> Floats:
    """Blend with the grey image: alpha x + (1 - alpha) (grey · x)."""
    return np.hstack([alpha * np.eye(3) + (1 - alpha) * np.tile(GREY, (3, 1)), np.zeros((3, 1))])


def jitter(draws: Uniform, means: Sequence[float] | Floats) -> Floats:
    """Brightness, contrast and saturation in random order, each with alpha in 1 ± 0.4.

    Uses five numbers of the stream: three alphas in that order, then two for the order.

    Args:
        draws: random numbers.
        means: of the image's three channels, in [0, 1].
    """
    alphas = [1 + STRENGTH * (2 * draws.uniform() - 1) for _ in range(3)]
    order = [0, 1, 2]
    for last in (2, 1):  # Fisher-Yates
        chosen = int(draws.uniform() * (last + 1))
        order[last], order[chosen] = order[chosen], order[last]
    total = identity()
    for kind in order:
        if kind == 0:
            step = brightness(alphas[0])
        elif kind == 1:
            mean_grey = float(GREY @ (total[:, :3] @ np.asarray(means) + total[:, 3]))
            step = contrast(alphas[1], mean_grey)
        else:
            step = saturation(alphas[2])
        total = after(step, total)
    return total


def lighting(draws: Uniform) -> Floats:
    """PCA noise of AlexNet, deviation 0.1: added to all pixels alike. Uses four numbers."""
    alphas = LIGHTING * np.array(_normals(draws))
    shift = EIGENVECTORS @ (alphas * EIGENVALUES)
    return np.hstack([np.eye(3), shift[:, None]])


def _normals(draws: Uniform) -> list[float]:
    """Three normal deviates by Box and Muller."""
    found: list[float] = []
    for _ in range(2):
        radius = math.sqrt(-2 * math.log(1 - draws.uniform()))
        angle = 2 * math.pi * draws.uniform()
        found += [radius * math.cos(angle), radius * math.sin(angle)]
    return found[:3]


def paper_colour(draws: Uniform, means: Sequence[float] | Floats) -> Floats:
    """Jitter, lighting, normalisation: the paper's colour recipe for one image."""
    jittered = jitter(draws, means)  # first, as it draws first
    return after(normalisation(), after(lighting(draws), jittered))
