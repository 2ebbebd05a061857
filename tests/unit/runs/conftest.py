import numpy as np
import pytest

from resnext.data import DataSet
from resnext.data.arrays import ArraySource
from resnext.runs import plan

CLASSES = ("left", "right", "top", "bottom")


def part(count, seed):
    """8 x 8 pictures with noise, bright on the side that their class names."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    pixels = rng.integers(60, size=(count, 8, 8))
    for image, label in zip(pixels, labels, strict=True):
        rows, columns = ((slice(8), slice(2)), (slice(8), slice(6, 8)))[label % 2]
        image[(rows, columns) if label < 2 else (columns, rows)] += 180
    return ArraySource(
        title="sides", pixels=pixels.astype(np.uint8), labels=labels, classes=CLASSES
    )


@pytest.fixture
def sides():
    """A data set that a tiny network learns in seconds, under the preprocessing of the digits."""
    return DataSet(name="digits", location="digits", train=part(48, 0), validation=part(20, 1))


@pytest.fixture
def tiny(sides):
    """Two epochs of a tiny network on the sides."""
    return plan(sides, "ResNeXt-11 (2x2d, CIFAR)", "small", epochs=2, seed=3, device="cpu")
