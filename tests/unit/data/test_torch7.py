"""Torch7's resampling and colour recipe against literal re-tellings of the original code."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnext.data import colour, torch7
from resnext.data.draws import resized


def literal_row(source: NDArray, length: int) -> NDArray:
    """image.c, scaleCubic_rowcol, one row, statement by statement in float32."""
    f = np.float32
    count = len(source)
    if count == length:
        return source.copy()
    out = np.zeros(length, dtype=f)
    scale = f(count - 1) if length == 1 else f(f(count - 1) / f(length - 1))
    for i in range(length - 1):
        position = f(f(i) * scale)
        index = int(position)
        x = f(position - f(index))
        p1, p2 = source[index], source[index + 1]
        p0 = source[index - 1] if index > 0 else f(2) * p1 - p2
        p3 = source[index + 2] if index + 2 < count else f(2) * p2 - p1
        a1 = p2 - p0
        a2 = f(2) * p0 - f(5) * p1 + f(4) * p2 - p3
        a3 = f(3) * (p1 - p2) + p3 - p0
        out[i] = f(float(p1) + 0.5 * float(x) * float(f(a1 + x * f(a2 + x * a3))))
    out[length - 1] = source[count - 1]
    return out


def literal_scale(image: NDArray, height: int, width: int) -> NDArray:
    """Rows first, then columns, channel by channel."""
    rows, _, channels = image.shape
    out = np.zeros((height, width, channels), dtype=np.float32)
    for c in range(channels):
        between = np.stack([literal_row(image[r, :, c], width) for r in range(rows)])
        for column in range(width):
            out[:, column, c] = literal_row(between[:, column], height)
    return out


@pytest.mark.parametrize(
    ("size", "target"),
    [((5, 7), (5, 7)), ((5, 7), (9, 4)), ((13, 6), (4, 11)), ((2, 2), (7, 1)), ((3, 40), (8, 8))],
)
def test_resampling_is_the_original_s_bit_for_bit(size: tuple[int, int], target: tuple[int, int]):
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    found = torch7.scale_bicubic(image, *target)
    np.testing.assert_array_equal(found, literal_scale(image, *target))


@given(st.integers(2, 400), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_rows_of_any_length_are_the_original_s(count: int, length: int, seed: int):
    row = np.random.default_rng(seed).random(count, dtype=np.float32)
    found = torch7.scale_bicubic(row[None, :, None], 1, length)[0, :, 0]
    np.testing.assert_array_equal(found, literal_row(row, length))


def test_resampling_overshoots_and_is_not_clipped():
    step = np.zeros((1, 8, 1), dtype=np.float32)
    step[:, 4:] = 1
    found = torch7.scale_bicubic(step, 1, 21)
    assert found.min() < 0
    assert found.max() > 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [((500, 375), (341, 256)), ((375, 500), (256, 341)), ((256, 300), (256, 300)),
     ((300, 256), (300, 256)), ((100, 100), (256, 256)), ((333, 500), (256, 384))],
)  # fmt: skip
def test_the_longer_side_is_cut_to_an_integer(size: tuple[int, int], expected: tuple[int, int]):
    assert resized("torch7", *size, 256) == expected


def test_odd_margins_are_larger_at_the_top_left():
    image = np.arange(7 * 6, dtype=np.float32).reshape(7, 6, 1)
    cropped = torch7.scale_center(image, 6, 4)
    assert cropped[0, 0, 0] == image[2, 1, 0]  # ceil(3 / 2), ceil(2 / 2)


@pytest.mark.parametrize(
    ("size", "shorter", "side"),
    [((5, 7), 9, 4), ((5, 7), 5, 5), ((13, 6), 4, 4), ((1, 9), 6, 5), ((31, 8), 9, 8)],
)
def test_the_centre_is_that_of_the_whole_bit_for_bit(
    size: tuple[int, int], shorter: int, side: int
):
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    width, height = resized("torch7", size[1], size[0], shorter)
    top, left = math.ceil((height - side) / 2), math.ceil((width - side) / 2)
    whole = torch7.scale_bicubic(image, height, width)
    found = torch7.scale_center(image, shorter, side)
    np.testing.assert_array_equal(found, whole[top : top + side, left : left + side])


def literal_colour(image: NDArray, drawn: list[float]) -> NDArray:
    """transforms.lua on H x W x 3 in [0, 1]: ColorJitter, Lighting, ColorNormalize."""

    def grey(x: NDArray) -> NDArray:
        return 0.299 * x[..., :1] + 0.587 * x[..., 1:2] + 0.114 * x[..., 2:]

    def blend(one: NDArray, two: NDArray | float, alpha: float) -> NDArray:
        return one * alpha + (1 - alpha) * two

    b, c, s = (1.0 + (-0.4 + 0.8 * u) for u in drawn[:3])
    order = [0, 1, 2]
    second, first = int(drawn[3] * 3), int(drawn[4] * 2)
    order[2], order[second] = order[second], order[2]
    order[1], order[first] = order[first], order[1]
    for kind in order:
        if kind == 0:
            image = blend(image, 0.0, b)
        elif kind == 1:
            image = blend(image, grey(image).mean(), c)
        else:
            image = blend(image, grey(image), s)
    u = drawn[5:]
    r1, r2 = (math.sqrt(-2 * math.log(1 - v)) for v in (u[0], u[2]))
    normal = [r1 * math.cos(2 * math.pi * u[1]), r1 * math.sin(2 * math.pi * u[1])]
    normal.append(r2 * math.cos(2 * math.pi * u[3]))
    alpha = [0.1 * n for n in normal]
    eigval = [0.2175, 0.0188, 0.0045]
    eigvec = [
        [-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203],
    ]  # fmt: skip
    for i in range(3):
        image[..., i] += sum(eigvec[i][j] * alpha[j] * eigval[j] for j in range(3))
    return (image - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


@given(st.integers(0, 2**32 - 1))
def test_one_affine_map_is_the_whole_colour_recipe(seed: int):
    random = np.random.default_rng(seed)
    images, numbers = random.random((3, 5, 4, 3)), random.random((3, colour.NUMBERS))
    means = torch.from_numpy(images.mean((1, 2)))
    total = colour.paper_colour(torch.from_numpy(numbers), means)
    total = colour.after(colour.normalisation(means), total).numpy()
    applied = np.einsum("nhwc,ndc->nhwd", images, total[:, :, :3]) + total[:, None, None, :, 3]
    for found, image, drawn in zip(applied, images, numbers, strict=True):
        # Values up to 10, double precision: measured 5e-15 over 3,000 seeds.
        np.testing.assert_allclose(found, literal_colour(image.copy(), list(drawn)), atol=5e-14)


@pytest.mark.parametrize("jitter", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_are_normalised_in_float32(dtype: type, *, jitter: bool):
    random = np.random.default_rng(0)
    unit = 255.0 if dtype == np.uint8 else 1.0
    images = (random.random((4, 9, 7, 3)) * unit).astype(dtype)
    numbers = random.random((4, colour.NUMBERS)) if jitter else None
    before = images.copy()
    found = colour.normalised(
        torch.from_numpy(images),
        None if numbers is None else torch.from_numpy(numbers),
        unit=unit,
    )
    np.testing.assert_array_equal(images, before)
    assert found.shape == (4, 3, 9, 7)
    for i, image in enumerate(images / unit):
        if numbers is None:
            expected = (image - np.array(colour.MEAN)) / np.array(colour.STD)
        else:
            expected = literal_colour(image.copy(), list(numbers[i]))
        # Values up to 4 in float32: measured 1.5e-6.
        np.testing.assert_allclose(found[i].permute(1, 2, 0).numpy(), expected, atol=1.5e-5)


def test_all_orders_of_jitter_come_up_equally_often():
    numbers = torch.rand(3000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    orders = [tuple(row) for row in colour._orders(numbers).tolist()]
    counts = {order: orders.count(order) for order in set(orders)}
    assert sorted(counts) == sorted(itertools.permutations(range(3)))
    # Binomial: 500 expected, deviation 20.4; five of them.
    assert all(abs(count - 500) < 102 for count in counts.values())


def test_lighting_has_the_published_deviation():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(4000, 4, dtype=torch.float64, generator=generator)
    shifts = colour.lighting(numbers)[:, :, 3].numpy()
    scaled = np.array(colour.EIGENVECTORS) * np.array(colour.EIGENVALUES)
    expected = np.sqrt((scaled**2).sum(1)) * 0.1
    # Standard error of a deviation over n draws: 1 / sqrt(2n) of it; five of them.
    np.testing.assert_allclose(shifts.std(0), expected, rtol=5 / math.sqrt(2 * 4000))
