"""Images and boxes that a detector may be given; anything else is refused in one line.

Torchvision's parts crash on boxes that are not finite, train on garbage when a box lies outside its
image, and take labels of 0 for background in silence.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resnext.errors import DataError

LEAST_SIDE = 2
"""Pixels of an image's side."""

MOST_STRETCH = 200
"""Times that one side may be the other."""


def checked_images(images: Any) -> list[Tensor]:
    """The images as float32 in 0..1; those of bytes are divided by 255.

    Args:
        images: 3 x H x W each.

    Raises:
        DataError: there is none, or one is something else.
    """
    if isinstance(images, Tensor) and images.ndim == 4:
        images = list(images)
    if not isinstance(images, Sequence) or not len(images):
        raise DataError(f"expected a list of images, found {_kind(images)}")
    return [_image(image, f"image {number}") for number, image in enumerate(images)]


def _image(image: Any, where: str) -> Tensor:
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"{where}: expected 3 x height x width (CHW, RGB), found {_kind(image)}")
    height, width = image.shape[1:]
    low, high = sorted((height, width))
    if low < LEAST_SIDE or high > MOST_STRETCH * low:
        raise DataError(
            f"{where}: expected sides of at least {LEAST_SIDE} pixels, one at most {MOST_STRETCH} "
            f"times the other, found {width} x {height}"
        )
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not image.is_floating_point():
        raise DataError(f"{where}: expected uint8 or floating point, found {image.dtype}")
    top = float(image.max())
    if not bool(torch.isfinite(image).all()):
        raise DataError(f"{where}: expected finite pixels, found NaN or infinity")
    if top > 2:
        raise DataError(f"{where}: expected pixels in 0..1, found {top:.4g}; divide by 255")
    return image.float()


def checked_targets(
    targets: Any, images: Sequence[Tensor], classes: int, *, masks: bool = False
) -> list[dict[str, Tensor]]:
    """The targets, boxes clipped to the images and of float32, labels of int64.

    Args:
        targets: one for each image: ``boxes`` (N x 4 as left, top, right, bottom, in pixels) and
            ``labels`` (N, from 1 to `classes`); ``image_id`` names the image in messages.
        images: 3 x H x W each.
        classes: how many there are.
        masks: whether ``masks`` (N x H x W) are wanted too.

    Raises:
        DataError: anything about them is wrong; the message says of which image and which row.
    """
    if not isinstance(targets, Sequence) or len(targets) != len(images):
        count = len(targets) if isinstance(targets, Sequence) else _kind(targets)
        raise DataError(f"expected a target for each of {len(images)} images, found {count}")
    return [
        _target(target, image, number, classes, masks=masks)
        for number, (target, image) in enumerate(zip(targets, images, strict=True))
    ]


def _target(
    target: Any, image: Tensor, number: int, classes: int, *, masks: bool
) -> dict[str, Tensor]:
    if not isinstance(target, dict) or not {"boxes", "labels"} <= target.keys():
        raise DataError(f"target {number}: expected boxes and labels, found {_kind(target)}")
    where = f"image {int(target['image_id'])}" if "image_id" in target else f"target {number}"
    boxes = _boxes(target["boxes"], where, image)
    labels = _labels(target["labels"], where, len(boxes), classes)
    checked = {**target, "boxes": boxes, "labels": labels}
    if masks:
        wanted = (len(boxes), *image.shape[1:])
        found = target.get("masks")
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
            raise DataError(f"{where}: expected masks of {wanted}, found {_kind(found)}")
    return checked


def _boxes(boxes: Any, where: str, image: Tensor) -> Tensor:
    if not isinstance(boxes, Tensor) or boxes.dtype in (torch.bool, torch.bfloat16, torch.float16):
        raise DataError(f"{where}: expected boxes of float32, found {_kind(boxes)}")
    if boxes.numel() == 0:
        return torch.zeros((0, 4), device=boxes.device)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{where}: expected boxes of N x 4, found {_kind(boxes)}")
    boxes = boxes.float()
    _refuse(~torch.isfinite(boxes).all(1), boxes, where, "finite numbers")
    height, width = image.shape[1:]
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    _refuse(flat, boxes, where, "right > left and bottom > top (not x, y, width, height)")
    limit = boxes.new_tensor([width, height, width, height])
    clipped = torch.minimum(boxes.clamp(min=0), limit)
    outside = (clipped[:, 2:] <= clipped[:, :2]).any(1)
    _refuse(outside, boxes, where, f"a part inside the image of {width} x {height}")
    return clipped


def _refuse(bad: Tensor, boxes: Tensor, where: str, wanted: str) -> None:
    if bool(bad.any()):
        row = int(torch.where(bad)[0][0])
        raise DataError(
            f"{where}: expected boxes with {wanted}, found {boxes[row].tolist()} in row {row} "
            f"({int(bad.sum())} such)"
        )


def _labels(labels: Any, where: str, count: int, classes: int) -> Tensor:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(f"{where}: expected labels of whole numbers, found {_kind(labels)}")
    if labels.shape != (count,):
        raise DataError(
            f"{where}: expected {count} labels for {count} boxes, found {labels.numel()}"
        )
    if count and not 1 <= int(labels.min()) <= int(labels.max()) <= classes:
        raise DataError(
            f"{where}: expected labels from 1 to {classes} (0 is background), found "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    return labels.long()


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        size = " x ".join(map(str, value.shape)) or "one number"
        return f"{size} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, dict):
        return f"{', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, Sequence) and not isinstance(value, str) and not len(value):
        return "an empty one"
    return type(value).__name__
