"""The held-out part of a source: which images it has depends on the labels and never changes."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from resnext.data.subset import _smallest, hold_out
from resnext.errors import DataError


@dataclass
class Labels:
    """As much of a source as holding out looks at."""

    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def held_out(labels: NDArray[np.int64], classes: int, fraction: float) -> list[int]:
    """Class by class: of its images in their order, those with the smallest random bits."""
    held: list[int] = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        bits = np.random.Philox(key=[0, label]).random_raw(len(members))
        size = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held += members[np.argsort(bits, kind="stable")[:size]].tolist()
    return sorted(held)


@given(
    counts=st.lists(st.integers(2, 60), min_size=1, max_size=30),
    fraction=st.sampled_from([0.01, 0.2, 0.25, 0.5, 0.99]),
    seed=st.integers(0, 2**32 - 1),
    shuffled=st.booleans(),
)
def test_the_choice_of_any_layout_of_classes_is_that_of_a_plain_loop(
    counts: list[int], fraction: float, seed: int, *, shuffled: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    if shuffled:
        np.random.default_rng(seed).shuffle(labels)
    source = Labels(labels, tuple(map(str, range(len(counts)))))
    train, validation = hold_out(source, fraction)  # type: ignore[arg-type]
    expected = held_out(labels, len(counts), fraction)
    assert validation.indices.tolist() == expected
    assert train.indices.tolist() == sorted(set(range(len(labels))) - set(expected))


@given(arrays.arrays(np.uint64, st.integers(1, 30), elements=st.integers(0, 5)), st.data())
def test_of_equal_bits_the_first_count(values: NDArray[np.uint64], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    expected = np.zeros(len(values), dtype=np.bool_)
    expected[np.argsort(values, kind="stable")[:count]] = True
    np.testing.assert_array_equal(_smallest(values, count), expected)


@pytest.mark.parametrize(("labels", "found"), [([0, 0, 2, 2], 0), ([0, 0, 1, 2, 2], 1)])
def test_a_class_without_two_images_is_named(labels: list[int], found: int) -> None:
    source = Labels(np.array(labels), ("a", "b", "c"))
    with pytest.raises(DataError, match=rf"2 images of class 'b', .* found {found}$"):
        hold_out(source, 0.2)  # type: ignore[arg-type]
