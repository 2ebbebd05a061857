"""Proposals: where objects may be, of any class (Ren et al., NIPS 2015).

Torchvision's network with what py-faster-rcnn does and it cannot: anchors that cross the border are
not trained on, and proposals are at least so large in the original image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)
from torchvision.ops import box_iou

from resnext.detection.method import Method

Target = dict[str, Tensor]
Sizes = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch of images, resized and padded, as the network sees it.

    Attributes:
        tensors: N x 3 x H x W.
        image_sizes: height and width of each without padding.
        originals: height and width of each before it was resized.
    """

    tensors: Tensor
    image_sizes: Sizes
    originals: Sizes

    def scales(self) -> list[float]:
        """Pixels of the resized image for one of the original."""
        pairs = zip(self.image_sizes, self.originals, strict=True)
        return [min(h / height, w / width) for (h, w), (height, width) in pairs]


class Anchors(AnchorGenerator):
    """Torchvision's anchors on maps whose strides are said.

    Theirs divides the padded image's size by the map's, which for odd maps is another number.
    """

    def __init__(self, method: Method, strides: Sequence[int]) -> None:
        super().__init__(method.anchors, (method.ratios,) * len(method.anchors))
        self.strides = tuple(strides)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each image all anchors, level by level: A x 4, in pixels of the resized image."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)
        grids = [list(feature_map.shape[-2:]) for feature_map in feature_maps]
        steps = [[torch.tensor(s, device=device)] * 2 for s in self.strides]
        anchors = torch.cat(self.grid_anchors(grids, steps))
        return [anchors] * len(image_list.image_sizes)


class ProposalHead(RPNHead):
    """Torchvision's head with a width of its own, whose answers are float32."""

    def __init__(self, channels: int, anchors: int, width: int | None) -> None:
        super().__init__(channels, anchors)
        if width is not None and width != channels:
            self.conv[0][0] = nn.Conv2d(channels, width, 3, padding=1)
            self.cls_logits = nn.Conv2d(width, anchors, 1)
            self.bbox_pred = nn.Conv2d(width, 4 * anchors, 1)
            for layer in (self.conv[0][0], self.cls_logits, self.bbox_pred):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps -> N x A x h x w logits and N x 4A x h x w offsets of each."""
        logits, offsets = super().forward(x)
        return [y.float() for y in logits], [y.float() for y in offsets]


class Proposer(RegionProposalNetwork):
    """A head over the maps, trained on anchors, which proposes boxes and scores them."""

    def __init__(self, method: Method, channels: int, strides: Sequence[int]) -> None:
        super().__init__(
            Anchors(method, strides),
            ProposalHead(channels, method.anchors_per_place, method.rpn_width),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=method.rpn_anchors,
            positive_fraction=0.5,
            pre_nms_top_n=dict(zip(("training", "testing"), method.before, strict=True)),
            post_nms_top_n=dict(zip(("training", "testing"), method.after, strict=True)),
            nms_thresh=method.proposal_nms,
        )
        self.method = method

    def propose(
        self, images: Prepared, maps: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes (P x 4, in pixels of the resized image) and scores of each image, best first."""
        logits, offsets, anchors, levels = self._heads(images, maps)
        return self._selected(images, logits, offsets, anchors, levels)

    def forward(
        self,
        images: Prepared,
        features: Mapping[str, Tensor],
        targets: list[Target] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Boxes of each image, and while training two losses."""
        logits, offsets, anchors, levels = self._heads(images, features)
        boxes, _ = self._selected(images, logits, offsets, anchors, levels)
        if targets is None:
            return boxes, {}
        return boxes, self._losses(images, logits, offsets, anchors, targets)

    def losses(
        self, images: Prepared, maps: Mapping[str, Tensor], targets: list[Target]
    ) -> dict[str, Tensor]:
        """The two losses alone: nothing is proposed."""
        logits, offsets, anchors, _ = self._heads(images, maps)
        return self._losses(images, logits, offsets, anchors, targets)

    def _heads(
        self, images: Prepared, maps: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor], list[int]]:
        """Logits (N·A x 1), offsets (N·A x 4), anchors of each image, anchors on each level."""
        found = list(maps.values())
        logits, offsets = self.head(found)
        anchors = self.anchor_generator(images, found)
        levels = [y[0].numel() for y in logits]
        return *concat_box_prediction_layers(logits, offsets), anchors, levels

    def _selected(
        self,
        images: Prepared,
        logits: Tensor,
        offsets: Tensor,
        anchors: list[Tensor],
        levels: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        boxes = self.box_coder.decode(offsets.detach(), anchors).view(len(anchors), -1, 4)
        logits = logits.detach().view(len(anchors), -1)
        kept_boxes, kept_scores = [], []
        for i, scale in enumerate(images.scales()):
            # what is too small counts in the original image, and each has been resized by its own
            self.min_size = max(1e-3, self.method.least_side * scale)
            found, scores = self.filter_proposals(
                boxes[i : i + 1], logits[i : i + 1], images.image_sizes[i : i + 1], levels
            )
            kept_boxes += found
            kept_scores += scores
        return kept_boxes, kept_scores

    def _losses(
        self,
        images: Prepared,
        logits: Tensor,
        offsets: Tensor,
        anchors: list[Tensor],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        labels, matched = self.labelled(images, anchors, targets)
        wanted = self.box_coder.encode(matched, anchors)
        objectness, boxes = self.compute_loss(logits, offsets, labels, wanted)
        return {"loss_objectness": objectness, "loss_rpn_box_reg": boxes}

    def labelled(
        self, images: Prepared, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What each anchor should say, and the box that it belongs to.

        Returns:
            Labels (A): 1 object, 0 background, -1 not trained on; and boxes (A x 4).
        """
        if self.method.border_anchors:
            return self.assign_targets_to_anchors(anchors, targets)
        # those across the border take no part: not even as the best anchor of an object
        inside = [
            within(boxes, size) for boxes, size in zip(anchors, images.image_sizes, strict=True)
        ]
        pairs = list(zip(anchors, inside, strict=True))
        some, boxes = self.assign_targets_to_anchors([a[keep] for a, keep in pairs], targets)
        labels = [torch.full((len(a),), -1.0, device=a.device) for a in anchors]
        matched = [a.clone() for a in anchors]
        for i, (_, keep) in enumerate(pairs):
            if keep.any():
                labels[i][keep] = some[i]
                matched[i][keep] = boxes[i]
        return labels, matched

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision's, where an image may have no anchor at all, and a box may meet none.

        The best anchor of such a box is all of them: every one would be called an object.
        """
        targets = [_met(target, found) for target, found in zip(targets, anchors, strict=True)]
        empty = [len(found) == 0 for found in anchors]
        some = [a for a, none in zip(anchors, empty, strict=True) if not none]
        theirs = [t for t, none in zip(targets, empty, strict=True) if not none]
        labels, boxes = super().assign_targets_to_anchors(some, theirs)
        rest_labels, rest_boxes = iter(labels), iter(boxes)
        return (
            [
                a.new_zeros(0) if e else next(rest_labels)
                for a, e in zip(anchors, empty, strict=True)
            ],
            [a if e else next(rest_boxes) for a, e in zip(anchors, empty, strict=True)],
        )

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy and smooth L1 over the sampled anchors, both divided by their number."""
        positive, negative = self.fg_bg_sampler(labels)
        objects = torch.where(torch.cat(positive))[0]
        sampled = torch.cat([objects, torch.where(torch.cat(negative))[0]])
        # of nothing the mean is no number; the sum still touches every weight
        reduction, count = ("mean", len(sampled)) if len(sampled) else ("sum", 1)
        boxes = F.smooth_l1_loss(
            pred_bbox_deltas[objects],
            torch.cat(regression_targets)[objects],
            beta=self.method.rpn_beta,
            reduction="sum",
        )
        found = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled], reduction=reduction
        )
        return found, boxes / count


def _met(target: Target, anchors: Tensor) -> Target:
    """The boxes that any anchor overlaps."""
    boxes = target["boxes"]
    if not len(boxes) or not len(anchors):
        return target
    return {"boxes": boxes[box_iou(boxes, anchors).amax(1) > 0]}


def within(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Which boxes do not cross the border of an image of this height and width."""
    height, width = size
    left, top, right, bottom = boxes.unbind(1)
    return (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)
