"""Colour augmentation and normalisation as one affine map per image, computed where the images are.

fb.resnet.torch blends brightness, contrast and saturation in random order without clipping, adds
PCA lighting noise and normalises. All of it is affine in (R, G, B), and contrast's mean grey
follows from the three channel means, so it composes to one map y = A x + b, held as [A | b].
Sources: fb.resnet.torch datasets/transforms.lua (ColorJitter, Lighting) and datasets/imagenet.lua.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and deviation that pixels in [0, 1] are normalised by, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Statistics(MEAN, STD)
HALF = Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""From -1 to 1, as the Inception networks of timm see images."""

GREY = (0.299, 0.587, 0.114)
STRENGTH = 0.4
LIGHTING = 0.1
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

NUMBERS = 9
"""Uniform numbers per image: three strengths (brightness, contrast, saturation), two for their
order, four for lighting."""


def normalised(
    images: Tensor,
    numbers: Tensor | None,
    *,
    unit: float,
    statistics: Statistics = IMAGENET,
    out: Tensor | None = None,
) -> Tensor:
    """Photos as a network sees them.

    Args:
        images: N x H x W x 3, uint8 or float32.
        numbers: N x 9 in [0, 1) for jitter and lighting; None leaves the colours alone.
        unit: the value of white, 255 for bytes.
        statistics: what is taken from the colours last.
        out: where to write, as returned; new memory if None, whose first touch costs as much as
            all the arithmetic.

    Returns:
        N x 3 x H x W float32.
    """
    count, height, width, _ = images.shape
    planes = images.permute(0, 3, 1, 2).reshape(count, 3, height * width)
    # On a CPU one image at a time, which stays in the cache: a third of the time of all at once.
    step = 1 if images.device.type == "cpu" else max(count, 1)
    parts = [slice(start, start + step) for start in range(0, count, step)]
    means = torch.empty(count, 3, device=images.device)
    if numbers is not None:
        for part in parts:
            torch.mean(planes[part].to(torch.float32), 2, out=means[part])
    total = maps(numbers, means, unit=unit, statistics=statistics)
    weight, shift = total[:, :, :3], total[:, :, 3:]
    found = planes.new_empty(planes.shape, dtype=torch.float32) if out is None else out
    found = found.view(planes.shape)
    for part in parts:
        torch.baddbmm(shift[part], weight[part], planes[part].to(torch.float32), out=found[part])
    return found.view(count, 3, height, width)


def maps(
    numbers: Tensor | None,
    means: Tensor,
    *,
    unit: float,
    statistics: Statistics = IMAGENET,
) -> Tensor:
    """From pixels as they are to what a network sees, N x 3 x 4.

    Args:
        numbers: N x 9 in [0, 1); None leaves the colours alone.
        means: N x 3, of the images' channels; used only with numbers.
        unit: the value of white.
        statistics: what is taken from the colours last.
    """
    total = normalisation(means, statistics)
    if numbers is not None:
        total = after(total, paper_colour(numbers.to(means), means / unit))
    total[:, :, :3] /= unit
    return total


def paper_colour(numbers: Tensor, means: Tensor) -> Tensor:
    """Jitter, then lighting: N x 9 uniform numbers, N x 3 channel means in [0, 1] -> N x 3 x 4."""
    return after(lighting(numbers[:, 5:9]), jitter(numbers[:, :5], means))


def jitter(numbers: Tensor, means: Tensor) -> Tensor:
    """Brightness, contrast and saturation in random order, each with alpha in 1 ± 0.4.

    Args:
        numbers: N x 5 in [0, 1): three strengths, two for the order (Fisher and Yates).
        means: N x 3, of the images' channels, in [0, 1].
    """
    alphas = 1 + STRENGTH * (2 * numbers[:, :3] - 1)
    order = _orders(numbers[:, 3:5])
    total = identity(means)
    for place in range(3):
        grey = means.new_tensor(GREY)
        mean_grey = ((total[:, :, :3] @ means[:, :, None])[..., 0] + total[:, :, 3]) @ grey
        steps = torch.stack(
            [
                brightness(alphas[:, 0]),
                contrast(alphas[:, 1], mean_grey),
                saturation(alphas[:, 2]),
            ]
        )
        total = after(steps[order[:, place], torch.arange(len(means))], total)
    return total


def _orders(numbers: Tensor) -> Tensor:
    """N x 2 uniform numbers -> N x 3, a permutation of 0, 1, 2 in each row."""
    order = torch.arange(3, device=numbers.device).repeat(len(numbers), 1)
    rows = torch.arange(len(numbers), device=numbers.device)
    for column, last in enumerate((2, 1)):
        chosen = (numbers[:, column] * (last + 1)).long().clamp_(max=last)
        order[rows, chosen], order[rows, last] = order[rows, last], order[rows, chosen]
    return order


def brightness(alpha: Tensor) -> Tensor:
    """Blend with black: alpha x."""
    return alpha[:, None, None] * identity(alpha)


def contrast(alpha: Tensor, mean_grey: Tensor) -> Tensor:
    """Blend with the mean grey of the image: alpha x + (1 - alpha) grey."""
    total = brightness(alpha)
    total[:, :, 3] = ((1 - alpha) * mean_grey)[:, None]
    return total


def saturation(alpha: Tensor) -> Tensor:
    """Blend with the grey image: alpha x + (1 - alpha) (grey · x)."""
    total = brightness(alpha)
    total[:, :, :3] += (1 - alpha)[:, None, None] * alpha.new_tensor(GREY)
    return total


def lighting(numbers: Tensor) -> Tensor:
    """PCA noise of AlexNet, deviation 0.1, added to all pixels alike: N x 4 numbers in [0, 1)."""
    radius = torch.sqrt(-2 * torch.log1p(-numbers[:, 0::2]))
    angle = 2 * math.pi * numbers[:, 1::2]
    normals = torch.stack(
        [radius[:, 0] * angle[:, 0].cos(), radius[:, 0] * angle[:, 0].sin(),
         radius[:, 1] * angle[:, 1].cos()], dim=1
    )  # fmt: skip
    scaled = LIGHTING * normals * normals.new_tensor(EIGENVALUES)
    total = identity(numbers)
    total[:, :, 3] = scaled @ normals.new_tensor(EIGENVECTORS).T
    return total


def normalisation(like: Tensor, statistics: Statistics = IMAGENET) -> Tensor:
    """(x - mean) / std, x in [0, 1], for each of the N images of `like`."""
    mean, std = like.new_tensor(statistics.mean), like.new_tensor(statistics.std)
    total = identity(like) / std[:, None]
    total[:, :, 3] = -mean / std
    return total


def identity(like: Tensor) -> Tensor:
    """The map that changes nothing, N x 3 x 4, with N, dtype and device of `like`."""
    return torch.eye(3, 4, dtype=like.dtype, device=like.device).repeat(len(like), 1, 1)


def after(outer: Tensor, inner: Tensor) -> Tensor:
    """The maps x -> outer(inner(x))."""
    total = outer[:, :, :3] @ inner
    total[:, :, 3] += outer[:, :, 3]
    return total
