"""Preprocessing against oracles that share no code with it."""

import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from resnext.data import default_profile, open_data, profile
from resnext.data.draws import train_cut
from resnext.data.order import Key, colour_numbers
from resnext.data.photos import Photo
from resnext.data.pictures import Picture
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


def augmented(name: str, image: Image.Image, draws: Fixed) -> torch.Tensor:
    view = profile(name).view
    assert isinstance(view, Picture)
    return torch.from_numpy(view.augmented(image, draws))  # type: ignore[arg-type]


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
    found = augmented(name, image, Fixed(flip, right, down))
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
    found = augmented("digits", image, Fixed(flip=True, right=right, down=down))
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
    for index in range(4000):
        out = profile("cifar10").train(image, Key(seed=0, epoch=1, index=index))
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
    # |values| < 2.7: one product and sum instead of three operations; measured 4.8e-7.
    torch.testing.assert_close(found, reference(image), rtol=0, atol=4.8e-6)


@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_a_training_crop_is_torchvisions_for_the_same_box(kind: str) -> None:
    from torchvision.transforms.v2 import functional as F

    image = picture(0, width=300, height=200)
    source = F.pil_to_tensor(image) if kind == "tensor" else image
    flips = set()
    for index in range(6):
        cut = train_cut("torchvision", 300, 200, side=64, seed=1, epoch=2, index=index)
        box = int(cut.y), int(cut.x), int(cut.height), int(cut.width)
        crop = F.resized_crop(source, *box, [64, 64], antialias=True)
        view = F.horizontal_flip(crop) if cut.mirrored else crop
        expected = normalised(view if kind == "tensor" else F.pil_to_tensor(view))
        found = profile(f"{kind}-64").train(image, Key(seed=1, epoch=2, index=index))
        flips.add(cut.mirrored)
        # |values| < 2.7, two roundings of float32 in another order; measured 2.4e-7.
        torch.testing.assert_close(found, expected, rtol=0, atol=2.4e-6)
    assert flips == {False, True}


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels / 255 - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize("size", [(500, 375), (301, 299), (40, 30)])
def test_evaluation_on_tensors_is_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.transforms.v2 import functional as F

    image = picture(0, width=size[0], height=size[1])
    resized = F.resize(F.pil_to_tensor(image), [256], antialias=True)
    expected = normalised(F.center_crop(resized, [224, 224]))
    found = profile("tensor-224").evaluate(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=2.4e-6)


def test_evaluation_at_320_of_320_shows_the_whole_shorter_side() -> None:
    from torchvision.transforms import functional as F

    image = picture(0, width=500, height=375)
    resized = F.center_crop(F.resize(image, [320]), [320, 320])
    found = profile("pil-320@320").evaluate(image)
    torch.testing.assert_close(found, normalised(F.pil_to_tensor(resized)), rtol=0, atol=2.4e-6)
    with pytest.raises(UsageError, match="expected a resize of at least 320"):
        profile("pil-320@256")


@pytest.mark.parametrize("name", ["pil-224", "tensor-224", "torch7-224", "torch7-antialias-224"])
def test_a_thin_image_is_refused_before_it_is_made_large(name: str) -> None:
    view = profile(name).view
    assert isinstance(view, Photo)
    for size, found in [((1, 20000), "256 x 5120000"), ((763, 1), "195328 x 256")]:
        for evaluated in (view.evaluate, lambda image: view.whole(image, 256)):
            with pytest.raises(DataError, match=r"at most 50 million pixels.* to 256") as refused:
                evaluated(Image.new("RGB", size))
            assert str(refused.value).endswith(f"found {found}")
    assert view.evaluate(Image.new("RGB", (1, 500))).shape == (224, 224, 3)
    assert view.evaluate(Image.new("L", (9000, 5000))).shape == (224, 224, 3)


def test_torch7s_last_resort_of_training_has_the_same_limit() -> None:
    with pytest.raises(DataError, match=r"at most 50 million pixels.* to 224, found 224 x 4480000"):
        profile("torch7-224").train(Image.new("RGB", (1, 20000)), Key(seed=0, epoch=0, index=0))


def test_torch7_is_the_authors_code_end_to_end() -> None:
    from unit.data.test_torch7 import literal_colour, literal_scale

    image = picture(3, width=31, height=23)
    unit = np.asarray(image).astype(np.float32) / np.float32(255)
    key = Key(seed=5, epoch=1, index=7)
    cut = train_cut("torch7", 31, 23, side=16, seed=5, epoch=1, index=7)
    x, y, w, h = (int(v) for v in (cut.x, cut.y, cut.width, cut.height))
    crop = literal_scale(unit[y : y + h, x : x + w], 16, 16).astype(np.float64)
    expected = literal_colour(crop, list(colour_numbers(key, 9)))
    if cut.mirrored:
        expected = expected[:, ::-1]
    found = profile("torch7-16").train(image, key).permute(1, 2, 0).double().numpy()
    # |values| < 4 in float32: measured 9.5e-7.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    shorter = literal_scale(unit, 18, int(31 / 23 * 18))  # 16 * 8 / 7 rounded; width is cut
    top, left = 1, math.ceil((shorter.shape[1] - 16) / 2)
    centre = shorter[top : top + 16, left : left + 16].astype(np.float64)
    expected = (centre - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = profile("torch7-16").evaluate(image).permute(1, 2, 0).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_strip_that_no_box_fits_is_resized_and_cropped_as_the_authors_did() -> None:
    image = picture(0, width=400, height=12)
    found = profile("torch7-antialias-16").train(image, Key(seed=0, epoch=1, index=0))
    assert found.shape == (3, 16, 16)


def test_grey_photos_become_colour() -> None:
    image = picture(0, width=80, height=80, mode="L")
    out = profile("pil-64").evaluate(image) * torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    raw = out + torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    torch.testing.assert_close(raw[0], raw[1], rtol=0, atol=1e-6)  # measured 1.2e-7
    torch.testing.assert_close(raw[0], raw[2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["digits", "cifar10", "pil-64", "torch7-64"])
def test_a_profile_survives_the_way_to_a_worker(name: str) -> None:
    chosen = profile(name)
    copy = pickle.loads(pickle.dumps(chosen))  # noqa: S301, our own bytes
    assert copy == chosen
    image = picture(0, width=chosen.resolution, height=chosen.resolution)
    assert copy.evaluate(image).equal(chosen.evaluate(image))


@pytest.mark.parametrize(
    "name", ["", "imagenet", "pil-", "pil-9", "pil-064", "pil-10000", "CIFAR10", "lua-224"]
)
def test_an_unknown_profile_is_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(UsageError, match=r"digits, cifar10, .*pil-R, .* found"):
        profile(name)


def test_profiles_have_the_size_of_their_name() -> None:
    assert (profile("digits").channels, profile("digits").resolution) == (1, 8)
    assert (profile("cifar100").channels, profile("cifar100").resolution) == (3, 32)
    assert (profile("pil-96").channels, profile("pil-96").resolution) == (3, 96)
    assert profile("pil-96").name == "pil-96"


def test_the_digits_have_their_own_default() -> None:
    assert default_profile(open_data()).name == "digits"
