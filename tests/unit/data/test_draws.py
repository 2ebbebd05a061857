"""The cuts: whose rule, which distribution, the same for ever."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from resnext.data.draws import Cut, Rule, central_cut, train_cut

RULES: tuple[Rule, ...] = ("torchvision", "torch7")


def many(rule: Rule, width: int, height: int, count: int = 4000) -> list[Cut]:
    return [
        train_cut(rule, width, height, side=224, seed=3, epoch=5, index=index)
        for index in range(count)
    ]


@pytest.mark.parametrize("rule", RULES)
@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    side=st.integers(1, 300),
    seed=st.integers(0, 2**64 - 1),
    index=st.integers(0, 2**40),
)
def test_every_box_lies_in_the_image(
    rule: Rule, width: int, height: int, side: int, seed: int, index: int
) -> None:
    cut = train_cut(rule, width, height, side=side, seed=seed, epoch=1, index=index)
    assert cut.x >= 0
    assert cut.y >= 0
    assert 0 < cut.width <= width - cut.x + 1e-9 * width
    assert 0 < cut.height <= height - cut.y + 1e-9 * height
    if not cut.beyond:
        assert all(float(edge).is_integer() for edge in (cut.x, cut.y, cut.width, cut.height))


@pytest.mark.parametrize("rule", RULES)
def test_the_area_is_uniform_and_half_are_mirrored(rule: Rule) -> None:
    # In so large an image rounding does not matter; with 4000 draws the deviation of the mean area
    # is 0.0042, of the share of mirror images 0.0079. A box wider or higher than the image is drawn
    # again, which takes from large areas: torchvision's own mean was 0.481, ours 0.473 and 0.475.
    cuts = many(rule, 4000, 4000)
    areas = np.array([cut.width * cut.height for cut in cuts]) / 4000**2
    assert 0.0799 < areas.min() < 0.082
    assert areas.max() > 0.97
    assert 0.44 < areas.mean() < 0.50
    assert abs(np.mean([cut.mirrored for cut in cuts]) - 0.5) < 0.03


def test_torchvision_draws_the_logarithm_of_the_aspect_and_torch7_the_aspect() -> None:
    # Small areas only, whose boxes always fit, so that nothing is drawn again.
    shapes = {
        rule: np.array(
            [
                cut.width / cut.height
                for cut in many(rule, 6000, 6000)
                if cut.width * cut.height < 0.5 * 6000**2
            ]
        )
        for rule in RULES
    }
    for shape in shapes.values():
        assert shape.min() > 0.7490
        assert shape.max() < 1.3345
        # Both rules treat width and height alike (measured 0.002 and 0.004).
        assert abs(np.log(shape).mean()) < 0.02
    # The share of aspects, upright or not, beyond 1.2: uniform in the logarithm, or by swapping.
    extreme = {
        rule: np.mean(np.abs(np.log(shape)) > math.log(1.2)) for rule, shape in shapes.items()
    }
    third = 4 / 3
    uniform = ((third - 1.2) + (1 / 1.2 - 0.75)) / (third - 0.75)
    assert extreme["torchvision"] == pytest.approx(1 - math.log(1.2) / math.log(third), abs=0.04)
    assert extreme["torch7"] == pytest.approx(uniform, abs=0.04)


def test_the_draws_never_change() -> None:
    # A run that continues under another version of this package must see the same images.
    assert train_cut("torchvision", 500, 375, side=224, seed=1, epoch=2, index=3) == Cut(
        38.0, 4.0, 375.0, 329.0, mirrored=False, beyond=False
    )
    assert train_cut("torch7", 500, 375, side=224, seed=1, epoch=2, index=3) == Cut(
        39.0, 29.0, 417.0, 318.0, mirrored=False, beyond=False
    )


def test_seed_epoch_and_index_each_change_the_cut() -> None:
    cuts = {
        train_cut("torch7", 500, 375, side=224, seed=seed, epoch=epoch, index=index)
        for seed in range(3)
        for epoch in range(3)
        for index in range(3)
    }
    assert len(cuts) == 27


def test_a_narrow_image_ends_in_the_last_resort() -> None:
    # No box of aspect 3/4 or more and 8% of the area fits into 10 x 1000.
    for index in range(20):
        cut = train_cut("torchvision", 10, 1000, side=224, seed=0, epoch=0, index=index)
        assert (cut.x, cut.y, cut.width, cut.height) == (0, 493, 10, 13)
        assert not cut.beyond
        cut = train_cut("torch7", 10, 1000, side=224, seed=0, epoch=0, index=index)
        assert (cut.x, cut.width, cut.height) == (0, 10, 10)
        assert cut.beyond


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (257, 300), (1000, 30)])
def test_torchvisions_central_cut_is_resize_then_center_crop(size: tuple[int, int]) -> None:
    # A ramp tells where a resized and cropped pixel came from: its value is its position, up to
    # 0.04 by the triangle's few samples; one pixel to the side would be 3 and more.
    width, height = size
    ramp = np.tile(np.arange(width, dtype=np.float32), (height, 1))
    cropped = v2.CenterCrop(64)(v2.Resize(80)(Image.fromarray(ramp)))
    cut = central_cut("torchvision", width, height, resize=80, side=64)
    centres = cut.x + (np.arange(64) + 0.5) * cut.width / 64 - 0.5
    inner = (centres > 10) & (centres < width - 11)  # at the edges the filter is cut off
    np.testing.assert_allclose(np.asarray(cropped)[32][inner], centres[inner], atol=0.1)


def test_torch7_rounds_the_offset_up() -> None:
    # 384 x 256 -> longer side 384, (384 - 223) / 2 = 80.5.
    assert central_cut("torch7", 384, 256, resize=256, side=223).x == 81
    assert central_cut("torchvision", 384, 256, resize=256, side=223).x == 80
