"""Preprocessing against oracles that share no code with it."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from resnext.data import default_profile, open_data, profile
from resnext.data.profiles import crop_box
from resnext.errors import DataError, UsageError
from unit.data.pictures import picture

MEAN_10, STD_10 = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
MEAN_100, STD_100 = (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)


@dataclass
class Fixed:
    """A stand-in for the generator: flips or not, then shifts as told."""

    flip: bool
    right: int
    down: int

    def random(self) -> float:
        return 0.49 if self.flip else 0.5

    def integers(self, high: int, *, endpoint: bool) -> int:
        assert endpoint
        assert high in (2, 8)
        value, self.right = self.right, self.down
        return value


def lua(
    image: Image.Image,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    flip: bool,
    right: int,
    down: int,
    raw_pad: bool = False,
) -> NDArray[np.float64]:
    """ResNeXt datasets/cifar10.lua, pixel by pixel: ColorNormalize, HorizontalFlip, RandomCrop."""
    pixels = np.asarray(image)
    out = np.empty((3, 32, 32))
    for c in range(3):
        for y in range(32):
            for x in range(32):
                source_y, source_x = y + down - 4, x + right - 4
                inside = 0 <= source_y < 32 and 0 <= source_x < 32
                if not inside:
                    out[c, y, x] = (0 - mean[c]) / std[c] if raw_pad else 0
                    continue
                column = 31 - source_x if flip else source_x
                out[c, y, x] = (int(pixels[source_y, column, c]) - mean[c]) / std[c]
    return out


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (4, 4), (8, 0), (1, 7)])
@pytest.mark.parametrize(
    ("name", "mean", "std", "raw_pad"),
    [
        ("cifar10", MEAN_10, STD_10, False),
        ("cifar100", MEAN_100, STD_100, False),
        ("cifar10-raw-pad", MEAN_10, STD_10, True),
        ("cifar100-raw-pad", MEAN_100, STD_100, True),
    ],
)
def test_cifar_is_the_authors_normalise_flip_pad_crop(
    name: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    raw_pad: bool,
    flip: bool,
    right: int,
    down: int,
) -> None:
    image = picture(0, width=32, height=32)
    found = profile(name).train(image, Fixed(flip, right, down))  # type: ignore[arg-type]
    expected = lua(image, mean, std, flip=flip, right=right, down=down, raw_pad=raw_pad)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    # |values| < 2.1: float32 rounds the constants, the difference and the quotient; measured 1.6e-7
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=0, atol=2e-6)


def test_cifar_is_evaluated_without_a_crop() -> None:
    image = picture(0, width=32, height=32)
    expected = torch.from_numpy(lua(image, MEAN_10, STD_10, flip=False, right=4, down=4))
    found = profile("cifar10").evaluate(image).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def digits_picture() -> Image.Image:
    return picture(0, width=8, height=8, mode="L")


@pytest.mark.parametrize(("right", "down"), [(0, 0), (1, 1), (2, 0)])
def test_digits_move_by_a_pixel_over_their_own_background(right: int, down: int) -> None:
    image = digits_picture()
    padded = np.pad(np.asarray(image, dtype=np.float64), 1)
    expected = (padded[down : down + 8, right : right + 8][None] - 77.8) / 95.9
    found = profile("digits").train(image, Fixed(flip=True, right=right, down=down))  # type: ignore[arg-type]
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=0, atol=2e-6)


def test_the_digits_are_normalised() -> None:
    data = open_data()
    chosen = profile("digits")
    values = torch.stack([chosen.evaluate(data.train.read(i)) for i in range(len(data.train))])
    assert values.shape == (len(data.train), 1, 8, 8)
    # The constants are those of all 1797 pictures, the quarter held out included.
    assert abs(float(values.mean())) < 0.01
    assert abs(float(values.std()) - 1) < 0.01


def test_every_shift_and_flip_occurs_equally_often() -> None:
    image = Image.new("RGB", (32, 32))
    image.putpixel((16, 15), (255, 255, 255))
    seen: dict[tuple[int, int], int] = {}
    for key in range(4000):
        out = profile("cifar10").train(image, np.random.Generator(np.random.Philox(key=key)))
        place = divmod(int(out[0].argmax()), 32)
        seen[place] = seen.get(place, 0) + 1
    # The pixel lands on rows 11 to 19; mirrored it starts at column 15 instead of 16, so that the
    # columns 11 and 20 belong to one of the two alone and the others to both.
    rows = {row: sum(n for (r, _), n in seen.items() if r == row) for row, _ in seen}
    columns = {col: sum(n for (_, c), n in seen.items() if c == col) for _, col in seen}
    assert set(rows) == set(range(11, 20))
    assert set(columns) == set(range(11, 21))
    expected = {column: 4000 / 18 * (1 if column in (11, 20) else 2) for column in columns}
    # Chi-square with 8 and 9 degrees of freedom exceeds 26.1 and 27.9 with probability 0.001.
    assert sum((n - 4000 / 9) ** 2 / (4000 / 9) for n in rows.values()) < 26.1
    assert sum((n - expected[c]) ** 2 / expected[c] for c, n in columns.items()) < 27.9


@pytest.mark.parametrize("name", ["cifar10", "digits"])
def test_a_picture_of_another_size_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"expected an image of (32 x 32|8 x 8) .* found 20 x 16"):
        profile(name).evaluate(picture(0))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (301, 299), (40, 30), (257, 1000)])
@pytest.mark.parametrize("resolution", [224, 96, 64])
def test_evaluation_of_photos_is_torchvisions(size: tuple[int, int], resolution: int) -> None:
    from torchvision import transforms

    image = picture(0, width=size[0], height=size[1])
    reference = transforms.Compose(
        [
            transforms.Resize({224: 256, 96: 110, 64: 73}[resolution]),
            transforms.CenterCrop(resolution),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    found = profile(f"pil-{resolution}").evaluate(image)
    assert found.shape == (3, resolution, resolution)
    torch.testing.assert_close(found, reference(image), rtol=0, atol=0)


def test_a_training_crop_is_torchvisions_for_the_same_box() -> None:
    from torchvision.transforms import functional as F

    image = picture(0, width=300, height=200)
    flips = set()
    for key in range(6):
        philox = np.random.Philox(key=key)
        left, top, right, bottom = crop_box(300, 200, np.random.Generator(philox))
        crop = F.resized_crop(image, top, left, bottom - top, right - left, [64, 64])
        plain, mirrored = (
            F.normalize(F.to_tensor(view), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            for view in (crop, F.hflip(crop))
        )
        rng = np.random.Generator(np.random.Philox(key=key))
        found = profile("pil-64").train(image, rng)
        flip = bool(found.equal(mirrored))
        flips.add(flip)
        torch.testing.assert_close(found, mirrored if flip else plain, rtol=0, atol=0)
    assert flips == {False, True}


def test_crop_boxes_lie_inside_and_are_spread_as_stated() -> None:
    areas, aspects = [], []
    for key in range(2000):
        rng = np.random.Generator(np.random.Philox(key=key))
        left, top, right, bottom = crop_box(1000, 1000, rng)
        assert 0 <= left < right <= 1000
        assert 0 <= top < bottom <= 1000
        areas.append((right - left) * (bottom - top) / 1e6)
        aspects.append((right - left) / (bottom - top))
    assert 0.079 < min(areas) < 0.085
    assert 0.95 < max(areas) <= 1
    assert 0.74 < min(aspects) < 0.76
    assert 1.31 < max(aspects) < 1.35
    # Symmetric in the logarithm: as many wide boxes as tall ones (2.6 standard deviations).
    assert abs(sum(aspect > 1 for aspect in aspects) - 1000) < 58


@pytest.mark.parametrize(
    ("size", "box"),
    [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506)), ((1, 1), (0, 0, 1, 1))],
)
def test_a_strip_falls_back_to_its_middle(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    class Largest:
        """Draws the largest area and the middle aspect, which no strip can hold."""

        def uniform(self, low: float, high: float) -> float:
            return high if high == 1.0 else (low + high) / 2

        def integers(self, high: int, *, endpoint: bool) -> int:
            assert high >= 0
            assert endpoint
            return 0

    assert crop_box(*size, Largest()) == box  # type: ignore[arg-type]


def test_grey_photos_become_colour() -> None:
    image = picture(0, width=80, height=80, mode="L")
    out = profile("pil-64").evaluate(image) * torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    raw = out + torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    torch.testing.assert_close(raw[0], raw[1], rtol=0, atol=1e-6)  # measured 1.2e-7
    torch.testing.assert_close(raw[0], raw[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["digits", "cifar10", "pil-64"])
def test_a_profile_survives_the_way_to_a_worker(name: str) -> None:
    chosen = profile(name)
    copy = pickle.loads(pickle.dumps(chosen))  # noqa: S301, our own bytes
    assert copy == chosen
    image = picture(0, width=chosen.resolution, height=chosen.resolution)
    assert copy.evaluate(image).equal(chosen.evaluate(image))


@pytest.mark.parametrize(
    "name", ["", "imagenet", "pil-", "pil-9", "pil-064", "pil-10000", "CIFAR10"]
)
def test_an_unknown_profile_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(UsageError, match=r"cifar10, .*digits, pil-R .* got"):
        profile(name)


def test_profiles_have_the_size_of_their_name() -> None:
    assert (profile("digits").channels, profile("digits").resolution) == (1, 8)
    assert (profile("cifar100").channels, profile("cifar100").resolution) == (3, 32)
    assert (profile("pil-96").channels, profile("pil-96").resolution) == (3, 96)
    assert profile("pil-96").name == "pil-96"


def test_the_digits_have_their_own_default() -> None:
    assert default_profile(open_data()).name == "digits"
