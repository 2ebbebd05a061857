"""The views of an image that a protocol names, and the average of their scores, on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resnext.data.draws import Rule
from resnext.data.photos import offset
from resnext.evaluation.dense import Dense
from resnext.evaluation.protocols import Average, Protocol
from resnext.training.speed import PLAIN, Speed, autocast, compiled


@dataclass(frozen=True, slots=True)
class Averaged:
    """The scores of N images over all their views.

    Attributes:
        logits: N x classes float32, the mean.
        probabilities: N x classes float32, the mean of what softmax makes of each view; None where
            there is one view.
    """

    logits: Tensor
    probabilities: Tensor | None = None

    def scores(self, average: Average) -> Tensor:
        """N x classes whose softmax are the probabilities of an image."""
        if average == "logits" or self.probabilities is None:
            return self.logits
        return self.probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


Score = Callable[[Any], Averaged]
"""From a batch of the kind that the protocol asks for to its scores."""


def scorer(
    protocol: Protocol,
    model: nn.Module,
    device: torch.device | str = "cpu",
    *,
    side: int | None = None,
    channels: int = 3,
    rule: Rule = "torchvision",
    speed: Speed = PLAIN,
) -> Score:
    """A protocol as a function of a batch: `Batch` of one size, or `WholeBatch`.

    Args:
        protocol: which views.
        model: N x C x H x W -> N x classes; it is left in evaluation mode.
        device: where the model is.
        side: of the images that the model was trained at; a convolutional classifier needs it.
        channels: of the images.
        rule: whose rounding of the centre.
        speed: precision and compilation.

    Raises:
        UsageError: the network has no classifier that can be applied convolutionally.
    """
    where = torch.device(device)
    network: nn.Module = model.eval()
    if protocol.convolutional:
        assert side is not None
        network = Dense(model, side, channels)
    forward = compiled(network, speed.compilation)

    def look(images: Tensor) -> Tensor:
        with autocast(where, speed.precision):
            found: Tensor = forward(images.to(where, non_blocking=True))
        return found.float()

    if protocol.kind == "ten-crop":
        crop = protocol.side
        assert crop is not None
        return lambda batch: _ten_crop(look, batch.images[0], crop, rule)
    if protocol.kind == "dense":
        return lambda batch: _dense(look, batch.images, flips=protocol.flips)
    return lambda batch: averaged(_mirrored(look, batch.images, flips=protocol.flips))


def _mirrored(look: Callable[[Tensor], Tensor], images: Tensor, *, flips: bool) -> list[Tensor]:
    """Scores of the images and perhaps of their mirror images."""
    return [look(images), look(images.flip(-1))] if flips else [look(images)]


def averaged(views: Sequence[Tensor]) -> Averaged:
    """The mean over views, and over the positions in each.

    Every view weighs the same, however many positions it has.

    Args:
        views: N x classes, or N x classes x h x w, each.
    """
    flat = [view.flatten(2) if view.ndim > 2 else view.unsqueeze(2) for view in views]
    logits = torch.stack([view.mean(2) for view in flat]).mean(0)
    if len(flat) == 1 and flat[0].shape[2] == 1:
        return Averaged(logits)
    return Averaged(logits, torch.stack([view.softmax(1).mean(2) for view in flat]).mean(0))


def _ten_crop(
    look: Callable[[Tensor], Tensor], images: Sequence[Tensor], side: int, rule: Rule
) -> Averaged:
    """The mean over ten crops, as many images at once as there are in the batch."""
    crops = zip(*(ten_crops(image, side, rule) for image in images), strict=True)
    return averaged([look(torch.stack(crop)) for crop in crops])


def ten_crops(image: Tensor, side: int, rule: Rule) -> list[Tensor]:
    """C x H x W -> ten of C x S x S: centre and corners of the image, then of its mirror image.

    As `TenCrop` of fb.resnet.torch datasets/transforms.lua, in its order.
    """
    height, width = image.shape[1:]
    down, right = height - side, width - side
    corners = [(0, 0), (0, right), (down, 0), (down, right)]
    starts = [(offset(rule, height, side), offset(rule, width, side)), *corners]
    return [
        seen[:, top : top + side, left : left + side]
        for seen in (image, image.flip(-1))
        for top, left in starts
    ]


def _dense(
    look: Callable[[Tensor], Tensor], scales: Sequence[Sequence[Tensor]], *, flips: bool
) -> Averaged:
    """The mean over scales, which weigh the same; images of equal size go together."""
    found = [_by_size(look, images, flips=flips) for images in scales]
    probabilities = [scale.probabilities for scale in found if scale.probabilities is not None]
    logits = torch.stack([scale.logits for scale in found]).mean(0)
    return Averaged(logits, torch.stack(probabilities).mean(0) if probabilities else None)


def _by_size(
    look: Callable[[Tensor], Tensor], images: Sequence[Tensor], *, flips: bool
) -> Averaged:
    groups: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image.shape, []).append(place)
    logits: list[Tensor] = [images[0]] * len(images)
    probabilities = list(logits)
    for places in groups.values():
        views = _mirrored(look, torch.stack([images[place] for place in places]), flips=flips)
        found = averaged(views)
        chances = found.logits.softmax(1) if found.probabilities is None else found.probabilities
        for place, row, chance in zip(places, found.logits, chances, strict=True):
            logits[place], probabilities[place] = row, chance
    return Averaged(torch.stack(logits), torch.stack(probabilities))
