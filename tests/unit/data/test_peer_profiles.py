"""The peers' preprocessing, to the bit of its normalisation: the same images reach the network."""

import pytest
import torch
from PIL import Image
from torch import Tensor

from resnext.data import profile
from resnext.data.colour import HALF, IMAGENET, Statistics
from resnext.data.profiles import pillow_profile
from resnext.errors import UsageError
from unit.data.pictures import picture

# One pixel of 255 in 1 or 2 roundings of float32: measured 4.8e-7, of values up to 2.7.
TOLERANCE = 5e-6


def theirs(image: Image.Image, name: str) -> Tensor:
    """timm's own transform for evaluation."""
    timm_data = pytest.importorskip("timm.data")
    side, crop, interpolation, statistics = {
        "pil-bicubic-half-29@33": (29, 0.875, "bicubic", HALF),
        "pil-half-29@33": (29, 0.875, "bilinear", HALF),
        "pil-bicubic-28@29": (28, 0.95, "bicubic", IMAGENET),
    }[name]
    transform = timm_data.create_transform(
        (3, side, side),
        interpolation=interpolation,
        mean=statistics.mean,
        std=statistics.std,
        crop_pct=crop,
    )
    found: Tensor = transform(image)
    return found


@pytest.mark.parametrize("name", ["pil-bicubic-half-29@33", "pil-half-29@33", "pil-bicubic-28@29"])
@pytest.mark.parametrize("size", [(61, 47), (40, 90), (33, 33)])
def test_they_are_timm_s(name: str, size: tuple[int, int]) -> None:
    image = picture(1, width=size[0], height=size[1])
    ours = profile(name).evaluate(image)
    torch.testing.assert_close(ours, theirs(image, name), rtol=0, atol=TOLERANCE)


def test_a_profile_is_found_by_what_it_does() -> None:
    found = pillow_profile(299, 333, interpolation="bicubic", statistics=HALF, of="x")
    assert (found.name, found.kind) == ("pil-bicubic-half-299@333", "pil-bicubic-half")
    assert profile("digits").kind is None


def test_preprocessing_without_a_name_is_refused() -> None:
    odd = Statistics((0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    with pytest.raises(UsageError, match=r"of timm:odd by Pillow's .* found bilinear, mean \(0\.4"):
        pillow_profile(224, 256, interpolation="bilinear", statistics=odd, of="timm:odd")
