"""Detections: the class of each proposal, a better box, and on request a mask.

Torchvision's ``RoIHeads`` samples, matches and decodes; what differs is the loss, which has a
constant of its own there, one pass through conv5 for boxes and masks (C4), and answers that are not
finite, which end with an error or are left out and counted.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from resnext.detection.crops import Crop
from resnext.detection.method import Method
from resnext.detection.proposing import Sizes, Target
from resnext.errors import NotFiniteError

if TYPE_CHECKING:
    from resnext.detection.backbone import Conv5

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""What box offsets are multiplied with: deviations of 0.1 and 0.2."""


class Perceptron(TwoMLPHead):
    """The two hidden layers behind a pyramid's crops; the crop itself is what masks begin with."""

    def maps(self, crops: Tensor) -> Tensor:
        """R x C x 7 x 7, as they are."""
        return crops

    def vectors(self, maps: Tensor) -> Tensor:
        """R x C x 7 x 7 -> R x hidden."""
        return super().forward(maps)


class Predictor(FastRCNNPredictor):
    """Logits of all classes and four offsets for each; begins as py-faster-rcnn does."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """R x channels -> R x (1 + K) and R x 4 (1 + K), in float32."""
        logits, offsets = super().forward(x)
        return logits.float(), offsets.float()


class Classifier(RoIHeads):
    """What is done with proposals.

    Attributes:
        dropped: predictions so far that were not finite and were left out.
        at_once: crops that go through the head together while testing; None is all.
    """

    def __init__(
        self,
        method: Method,
        head: "Conv5 | Perceptron",
        channels: int,
        vector: int,
        strides: tuple[int, ...],
        classes: int,
    ) -> None:
        """`classes` are the object classes, without the background; `vector` is what they read."""
        masks: dict[str, nn.Module | None] = {}
        if method.masks and method.pyramid:
            masks = {
                "mask_roi_pool": Crop(method, strides, 14),
                "mask_head": MaskRCNNHeads(channels, (256,) * 4, 1),
                "mask_predictor": MaskRCNNPredictor(256, 256, classes + 1),
            }
        elif method.masks:
            masks = {"mask_predictor": MaskRCNNPredictor(vector, 256, classes + 1)}
        super().__init__(
            Crop(method, strides),
            head,
            Predictor(vector, classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=method.rois,
            positive_fraction=0.25,
            bbox_reg_weights=WEIGHTS,
            score_thresh=method.least_score,
            nms_thresh=method.nms,
            detections_per_img=method.detections,
            **masks,
        )
        self.method = method
        self.dropped = 0
        self.at_once: int | None = None

    def has_mask(self) -> bool:
        """Whether masks are made: torchvision asks for three modules, conv5 stands for two."""
        return self.method.masks

    def forward(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Tensor],
        image_shapes: Sizes,
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections of each image; or with targets, losses.

        A target may hold ``crowd`` boxes: proposals inside them are nobody's background.
        """
        if targets is None:
            return self._detections(features, proposals, image_shapes), {}
        kept = [_outside_crowds(p, t) for p, t in zip(proposals, targets, strict=True)]
        boxes, matched, labels, wanted = self.select_training_samples(kept, targets)
        maps = self.box_head.maps(self.box_roi_pool(features, boxes))
        logits, offsets = self.box_predictor(self.box_head.vectors(maps))
        found, moved = self._box_losses(logits, offsets, torch.cat(labels), torch.cat(wanted))
        losses = {"loss_classifier": found, "loss_box_reg": moved}
        if self.method.masks:
            losses["loss_mask"] = self._mask_loss(features, maps, boxes, matched, labels, targets)
        return [], losses

    def _box_losses(
        self, logits: Tensor, offsets: Tensor, labels: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy, and smooth L1 of objects over the number of all."""
        objects = torch.where(labels > 0)[0]
        offsets = offsets.view(*logits.shape, 4)
        moved = F.smooth_l1_loss(
            offsets[objects, labels[objects]],
            wanted[objects],
            beta=self.method.box_beta,
            reduction="sum",
        )
        reduction = "mean" if len(labels) else "sum"
        found = F.cross_entropy(logits, labels, reduction=reduction)
        return found, moved / max(1, len(labels))

    def _mask_loss(
        self,
        features: Mapping[str, Tensor],
        maps: Tensor,
        boxes: list[Tensor],
        matched: list[Tensor],
        labels: list[Tensor],
        targets: list[Target],
    ) -> Tensor:
        objects = [torch.where(found > 0)[0] for found in labels]
        inside = [b[at] for b, at in zip(boxes, objects, strict=True)]
        of = [m[at] for m, at in zip(matched, objects, strict=True)]
        if self.method.pyramid:
            maps = self.mask_head(self.mask_roi_pool(features, inside))
        else:
            maps = maps[torch.cat(labels) > 0]  # conv5 has seen these crops already
        logits = self.mask_predictor(maps).float()
        masks, classes = [t["masks"] for t in targets], [t["labels"] for t in targets]
        return maskrcnn_loss(logits, inside, masks, classes, of)

    def _detections(
        self, features: Mapping[str, Tensor], proposals: list[Tensor], image_shapes: Sizes
    ) -> list[dict[str, Tensor]]:
        logits, offsets = self._predictions(features, proposals)
        logits, offsets, proposals = self._finite(logits, offsets, proposals)
        boxes, scores, labels = self.postprocess_detections(
            logits, offsets, proposals, image_shapes
        )
        found = [
            {"boxes": b, "labels": c, "scores": s}
            for b, c, s in zip(boxes, labels, scores, strict=True)
        ]
        if self.method.masks:
            for one, masks in zip(found, self._masks(features, boxes, labels), strict=True):
                one["masks"] = masks
        return found

    def _predictions(
        self, features: Mapping[str, Tensor], proposals: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Logits and offsets of all proposals, `at_once` at a time."""
        crops = self.box_roi_pool(features, proposals)
        parts = torch.split(crops, self.at_once or max(1, len(crops)))
        answers = [self.box_predictor(self.box_head(part)) for part in parts]
        return torch.cat([a for a, _ in answers]), torch.cat([b for _, b in answers])

    def _finite(
        self, logits: Tensor, offsets: Tensor, proposals: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The predictions that are numbers.

        Raises:
            NotFiniteError: none of them is.
        """
        good = torch.isfinite(logits).all(1) & torch.isfinite(offsets).all(1)
        if bool(good.all()):
            return logits, offsets, proposals
        if not bool(good.any()):
            raise NotFiniteError(
                f"expected finite predictions, found none among {len(good)}: the weights ran away"
            )
        self.dropped += int((~good).sum())
        parts = torch.split(good, [len(p) for p in proposals])
        return (
            logits[good],
            offsets[good],
            [p[keep] for p, keep in zip(proposals, parts, strict=True)],
        )

    def _masks(
        self, features: Mapping[str, Tensor], boxes: list[Tensor], labels: list[Tensor]
    ) -> list[Tensor]:
        """Probabilities of the class of each detection: D x 1 x side x side."""
        if self.method.pyramid:
            maps = self.mask_head(self.mask_roi_pool(features, boxes))
        else:
            maps = self.box_head.maps(self.box_roi_pool(features, boxes))
        return list(maskrcnn_inference(self.mask_predictor(maps).float(), labels))

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: Sizes,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes, scores and labels of each image, best first.

        As torchvision's, but a pair of proposal and class below the threshold is not decoded: of
        300 proposals and 80 classes a few dozen are left.
        """
        counts = [len(p) for p in proposals]
        probabilities = torch.split(F.softmax(class_logits, -1), counts)
        offsets = torch.split(box_regression.view(*class_logits.shape, 4), counts)
        found = [
            self._of_image(*image)
            for image in zip(probabilities, offsets, proposals, image_shapes, strict=True)
        ]
        boxes, scores, labels = zip(*found, strict=True)
        return list(boxes), list(scores), list(labels)

    def _of_image(
        self, probabilities: Tensor, offsets: Tensor, proposals: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, classes = torch.where(probabilities[:, 1:] > self.score_thresh)
        classes = classes + 1
        scores = probabilities[rows, classes]
        boxes = self.box_coder.decode_single(offsets[rows, classes], proposals[rows])
        boxes = clip_boxes_to_image(boxes, size)
        keep = remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, classes = boxes[keep], scores[keep], classes[keep]
        keep = batched_nms(boxes, scores, classes, self.nms_thresh)[: self.detections_per_img]
        return boxes[keep], scores[keep], classes[keep]


def _outside_crowds(proposals: Tensor, target: Target) -> Tensor:
    """The proposals that do not lie to 70 % of their area in a crowd."""
    crowd = target.get("crowd")
    if crowd is None or not len(crowd) or not len(proposals):
        return proposals
    left_top = torch.maximum(proposals[:, None, :2], crowd[None, :, :2])
    right_bottom = torch.minimum(proposals[:, None, 2:], crowd[None, :, 2:])
    shared = (right_bottom - left_top).clamp(min=0).prod(-1)
    area = (proposals[:, 2:] - proposals[:, :2]).prod(-1)
    return proposals[(shared / area[:, None]).amax(1) <= 0.7]
