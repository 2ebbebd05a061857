"""Whole detectors: one network for both tasks, or two that share nothing.

Images come as 3 x H x W tensors in 0..1 or bytes; boxes are left, top, right, bottom in pixels of
the original image. Torchvision's transform resizes, normalises and pads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import clip_boxes_to_image

from resnext.detection.backbone import C4, STRIDES, Conv5, Pyramid, check_backbone
from resnext.detection.checks import checked_images, checked_targets
from resnext.detection.classifying import Classifier, Perceptron
from resnext.detection.method import Method
from resnext.detection.proposing import Prepared, Proposer, Target
from resnext.errors import NotFiniteError
from resnext.model.network import ResNeXt

Detection = dict[str, Tensor]
"""Of one image: boxes D x 4, labels D, scores D, and perhaps masks D x 1 x H x W."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """How pixels in 0..1 are normalised: what the backbone was trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Part(nn.Module):
    """A backbone behind the transform: what both tasks begin with."""

    def __init__(self, network: ResNeXt, method: Method, pixels: Pixels, classes: int) -> None:
        super().__init__()
        self.method, self.classes = method, classes
        self.transform = GeneralizedRCNNTransform(
            method.shorter, method.longer, list(pixels.mean), list(pixels.std)
        )
        self.backbone: C4 | Pyramid = (
            Pyramid(network, method.frozen_stages, method.pyramid_channels)
            if method.pyramid
            else C4(network, method.frozen_stages)
        )

    def prepared(
        self, images: Sequence[Tensor], targets: list[Target] | None
    ) -> tuple[Prepared, list[Target] | None]:
        """Checked, resized and padded; boxes of crowds along with the others.

        Raises:
            DataError: images or targets are not what they should be.
        """
        images = checked_images(images)
        if targets is not None:
            targets = checked_targets(targets, images, self.classes, masks=self.method.masks)
        originals = [_size(image) for image in images]
        batch, moved = self.transform(images, targets)
        prepared = Prepared(batch.tensors, batch.image_sizes, originals)
        if moved is not None:
            moved = [
                self._crowds(*of) for of in zip(moved, originals, prepared.image_sizes, strict=True)
            ]
        return prepared, moved

    @staticmethod
    def _crowds(target: Target, before: tuple[int, int], now: tuple[int, int]) -> Target:
        if "crowd" not in target:
            return target
        return {**target, "crowd": resize_boxes(target["crowd"], list(before), list(now))}

    def maps(self, images: Prepared) -> Mapping[str, Tensor]:
        """Of the backbone.

        Raises:
            NotFiniteError: while testing, they are no numbers.
        """
        maps = self.backbone(images.tensors)
        if not self.training:
            for level, found in maps.items():
                if not bool(torch.isfinite(found).all()):
                    raise NotFiniteError(
                        f"expected finite features, found others in {level}: the weights ran away"
                    )
        return maps


class Joint(Part):
    """Faster R-CNN that shares its features: names of tensors are torchvision's."""

    def __init__(self, network: ResNeXt, method: Method, pixels: Pixels, classes: int) -> None:
        super().__init__(network, method, pixels, classes)
        self.rpn = _proposer(method, self.backbone.out_channels)
        self.roi_heads = _classifier(network, method, self.backbone.out_channels, classes)

    def forward(
        self, images: Sequence[Tensor], targets: list[Target] | None = None
    ) -> "dict[str, Tensor] | list[Detection]":
        """Losses while targets are given, detections otherwise.

        Raises:
            DataError: images or targets are not what they should be.
        """
        batch, moved = self.prepared(images, targets)
        maps = self.maps(batch)
        proposals, proposing = self.rpn(batch, maps, moved)
        found, classifying = self.roi_heads(maps, proposals, batch.image_sizes, moved)
        if moved is not None:
            return {**classifying, **proposing}
        return _original(self, found, batch)


class Proposing(Part):
    """The first of two networks: it says where objects may be."""

    def __init__(self, network: ResNeXt, method: Method, pixels: Pixels, classes: int) -> None:
        super().__init__(network, method, pixels, classes)
        self.rpn = _proposer(method, self.backbone.out_channels)

    def forward(self, images: Sequence[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Losses."""
        batch, moved = self.prepared(images, targets)
        assert moved is not None
        return self.rpn.losses(batch, self.maps(batch), moved)

    @torch.no_grad()
    def proposals(self, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Boxes (P x 4, in pixels of the original) and scores of each image, best first.

        As many as its mode says: 2000 while training, 300 while testing (`Method.after`).
        """
        return proposals_of(self, images)


class Classifying(Part):
    """The second: it says what is in the boxes that it is given."""

    def __init__(self, network: ResNeXt, method: Method, pixels: Pixels, classes: int) -> None:
        super().__init__(network, method, pixels, classes)
        self.roi_heads = _classifier(network, method, self.backbone.out_channels, classes)

    def forward(
        self, images: Sequence[Tensor], targets: list[Target] | None, proposals: Sequence[Tensor]
    ) -> "dict[str, Tensor] | list[Detection]":
        """Losses while targets are given, detections otherwise; proposals are P x 4 for each."""
        batch, moved = self.prepared(images, targets)
        boxes = [
            clip_boxes_to_image(resize_boxes(p, list(before), list(now)), now)
            for p, before, now in zip(proposals, batch.originals, batch.image_sizes, strict=True)
        ]
        found, losses = self.roi_heads(self.maps(batch), boxes, batch.image_sizes, moved)
        return losses if moved is not None else _original(self, found, batch)


class TwoStep(nn.Module):
    """Both networks, for testing: the image is prepared once, each has its own features."""

    def __init__(self, proposing: Proposing, classifying: Classifying) -> None:
        super().__init__()
        self.proposing, self.classifying = proposing, classifying
        self.method, self.classes = classifying.method, classifying.classes

    def forward(self, images: Sequence[Tensor]) -> list[Detection]:
        """Detections of each image."""
        first, second = self.proposing, self.classifying
        batch, _ = second.prepared(images, None)
        boxes, _ = first.rpn.propose(batch, first.maps(batch))
        found, _ = second.roi_heads(second.maps(batch), boxes, batch.image_sizes)
        return _original(second, found, batch)


Detector = Joint | TwoStep


def proposals_of(part: Joint | Proposing, images: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Boxes in pixels of the original images, with scores, best first."""
    batch, _ = part.prepared(images, None)
    boxes, scores = part.rpn.propose(batch, part.maps(batch))
    moved = [
        resize_boxes(b, list(now), list(before))
        for b, now, before in zip(boxes, batch.image_sizes, batch.originals, strict=True)
    ]
    return list(zip(moved, scores, strict=True))


def assemble(networks: Sequence[ResNeXt], method: Method, pixels: Pixels, classes: int) -> Detector:
    """A detector on a backbone, or on two that learn apart.

    Args:
        networks: one of `model.build`, taken over; two for two steps.
        method: all constants.
        pixels: how the backbone wants them.
        classes: object classes, without the background.

    Raises:
        SpecError: the network has not the stages that detection needs.
    """
    for network in networks:
        check_backbone(network.spec)
    if method.shared:
        (network,) = networks
        return Joint(network, method, pixels, classes)
    first, second = networks
    return TwoStep(
        Proposing(first, method, pixels, classes), Classifying(second, method, pixels, classes)
    )


def _proposer(method: Method, channels: int) -> Proposer:
    strides = (*STRIDES, 64) if method.pyramid else (16,)
    return Proposer(method, channels, strides)


def _classifier(network: ResNeXt, method: Method, channels: int, classes: int) -> Classifier:
    head: Conv5 | Perceptron
    if method.pyramid:
        head = Perceptron(channels * method.crop_side**2, method.box_hidden)
        return Classifier(method, head, channels, method.box_hidden, STRIDES, classes)
    head = Conv5(network, method.conv5_stride)
    return Classifier(method, head, channels, head.out_channels, (16,), classes)


def _original(part: Part, found: list[Detection], batch: Prepared) -> list[Detection]:
    """Boxes and masks in pixels of the original images."""
    moved: list[Detection] = part.transform.postprocess(found, batch.image_sizes, batch.originals)
    return moved


def _size(image: Tensor) -> tuple[int, int]:
    height, width = image.shape[-2:]
    return height, width
