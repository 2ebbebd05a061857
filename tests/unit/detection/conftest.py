"""A network, pictures and boxes that are small enough for tests of whole detectors."""

import pytest
import torch

from resnext import build, compose
from resnext.detection.method import method
from resnext.detection.networks import Pixels, assemble
from resnext.spec import Stem, StemConv

TINY = compose(
    (1, 1, 1, 1),
    "4x8d",
    stem=Stem(convs=(StemConv(out_channels=32, kernel=7, stride=2),), pool=True),
    out_channels=32,
)
"""Stem 32, stages of 32 to 256 channels, one bottleneck each: 0.4 million parameters."""

PIXELS = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def tiny_method(name, **changes):
    """A method for pictures of about 100 pixels, with few proposals."""
    small = {"shorter": (128,), "longer": 192, "after": (60, 40), "rois": 16}
    return method(name).model_copy(update=small | changes)


def tiny_detector(name="small", *, classes=5, seed=0, **changes):
    wanted = tiny_method(name, **changes)
    count = 1 if wanted.shared else 2
    torch.manual_seed(seed)
    return assemble([build(TINY, seed=seed + i) for i in range(count)], wanted, PIXELS, classes)


def pictures(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, height, width, generator=generator) for height, width in sizes]


def target(*rows, image_id=None):
    """Rows of label, left, top, right, bottom."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    found = {"boxes": values[:, 1:], "labels": values[:, 0].long()}
    return found if image_id is None else found | {"image_id": torch.tensor(image_id)}


@pytest.fixture
def two_pictures():
    images = pictures((100, 150), (120, 90))
    boxes = [target((2, 10, 10, 90, 80), (5, 60, 20, 140, 95)), target((1, 5, 30, 60, 100))]
    return images, boxes
