import numpy as np
import pytest
from PIL import Image

from resnext.deploy import artifact_of_model
from unit.deploy.networks import settled
from unit.runs.conftest import sides, tiny

__all__ = ["artifact", "picture", "sides", "tiny"]


@pytest.fixture
def artifact():
    """A small network of four classes with names, in memory."""
    return artifact_of_model(settled(), classes=("ant", "bee", "cat", "dog"))


@pytest.fixture
def picture():
    """Noise of 32 x 32 in colour."""
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3))
    return Image.fromarray(pixels.astype(np.uint8))
