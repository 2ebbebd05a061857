"""The order of an epoch: nothing lost, nothing twice, the same for any split of the work."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnext.data.order import (
    Key,
    batch_sizes,
    evaluation_batches,
    generator,
    permutation,
    training_batches,
)
from resnext.errors import UsageError

counts = st.integers(0, 300)
seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**64 - 1)


@given(counts, seeds, epochs)
def test_an_epoch_holds_every_image_once(count: int, seed: int, epoch: int) -> None:
    order = permutation(count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))


def test_seeds_and_epochs_give_different_orders() -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2**64 - 1, 0), (0, 2**64 - 1)]
    orders = {tuple(permutation(50, seed=seed, epoch=epoch).tolist()) for seed, epoch in keys}
    assert len(orders) == len(keys)


def test_the_order_is_pinned() -> None:
    # Philox' raw bits are promised not to change; a change here would break the resuming of runs.
    assert permutation(8, seed=3, epoch=5).tolist() == [0, 6, 2, 1, 3, 4, 7, 5]


def test_the_order_is_uniform() -> None:
    # Each of the 24 orders of 4 images is expected 250 times in 6000 epochs; chi-square with 23
    # degrees of freedom exceeds 49.7 with probability 0.001. The draws are fixed.
    seen: dict[tuple[int, ...], int] = {}
    for epoch in range(6000):
        order = tuple(permutation(4, seed=0, epoch=epoch).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 24
    assert sum((count - 250) ** 2 / 250 for count in seen.values()) < 49.7


def test_images_and_epochs_draw_from_different_streams() -> None:
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2**40)]
    draws = {
        float(generator(Key(seed=seed, epoch=epoch, index=index)).random())
        for seed, epoch, index in keys
    }
    assert len(draws) == len(keys)
    again = generator(Key(seed=0, epoch=1, index=0)).random()
    assert again == generator(Key(seed=0, epoch=1, index=0)).random()


worlds = st.integers(1, 5)


@given(counts, worlds, st.integers(1, 20), st.data())
def test_ranks_share_each_batch_and_resume_anywhere(
    count: int, world: int, per_rank: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, count))
    order = permutation(count, seed=1, epoch=2)
    size = per_rank * world
    ranks = [
        training_batches(order, batch_size=size, start=start, last="keep", rank=rank, world=world)
        for rank in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    joined = [np.concatenate(shares).tolist() for shares in zip(*ranks, strict=True)]
    expected = order[start:].tolist()
    sizes = [len(batch) for batch in joined]
    assert [index for batch in joined for index in batch] == expected
    assert all(length == size for length in sizes[:-1])
    if len(sizes) > 1:
        # One image alone joins the batch before it.
        assert 1 < sizes[-1] <= size + 1 or size == 1
    for shares in zip(*ranks, strict=True):
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 300), worlds, st.integers(1, 20))
def test_dropping_the_last_batch_keeps_only_full_ones(
    count: int, world: int, per_rank: int
) -> None:
    order, size = permutation(count, seed=1, epoch=2), per_rank * world
    if size > count:
        with pytest.raises(UsageError, match="would leave none"):
            training_batches(order, batch_size=size, start=0, last="drop", rank=0, world=world)
        return
    for rank in range(world):
        dropped = training_batches(
            order, batch_size=size, start=0, last="drop", rank=rank, world=world
        )
        kept = training_batches(
            order, batch_size=size, start=0, last="keep", rank=rank, world=world
        )
        assert len(dropped) == count // size
        if count % size == 1:  # the one image has joined the last of the others
            kept = [*kept[:-1], kept[-1][: len(dropped[-1])]] if world == 1 else dropped
        assert [batch.tolist() for batch in dropped] == [b.tolist() for b in kept[: len(dropped)]]
        assert {len(batch) for batch in dropped} == {per_rank}


@given(counts, worlds, st.integers(1, 20))
def test_evaluation_counts_every_image_once(count: int, world: int, size: int) -> None:
    seen = [
        index
        for rank in range(world)
        for batch in evaluation_batches(count, batch_size=size, rank=rank, world=world)
        for index in batch.tolist()
    ]
    assert seen == list(range(count))


@given(
    st.integers(1, 300),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 20),
)
def test_parts_stay_whole_whoever_has_them(
    count: int, part: int, world: int, parts: int, done: int
) -> None:
    """Of every batch, each rank has whole parts in their order; what is left over is the last's."""
    batch = part * (world + parts - 1)
    start = min(done * batch, count)
    order = permutation(count, seed=1, epoch=1)
    usual = {"batch_size": batch, "start": start, "last": "keep", "part": part}
    whole = training_batches(order, rank=0, world=1, **usual)
    shares = [training_batches(order, rank=r, world=world, **usual) for r in range(world)]
    sizes = batch_sizes(count, batch_size=batch, start=start, last="keep")
    assert [len(images) for images in whole] == sizes
    for images, split in zip(whole, zip(*shares, strict=True), strict=True):
        assert np.concatenate(split).tolist() == images.tolist()
        cuts = np.cumsum([len(share) for share in split])
        assert all(cut % part == 0 or cut == len(images) for cut in cuts)
        assert all(len(images) - cut >= part or cut == len(images) for cut in cuts if cut)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_evaluation_of_50001_images(world: int) -> None:
    parts = [evaluation_batches(50_001, batch_size=256, rank=r, world=world) for r in range(world)]
    assert sum(len(batch) for part in parts for batch in part) == 50_001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "expected a batch of at least 1 image, found 0"),
        ({"batch_size": 1, "world": 2}, "at most 1 processes for batches of 1 images"),
        ({"start": 11}, "expected a start within the 10 images, found 11"),
        ({"start": -1}, "found -1"),
        ({"rank": 1}, "expected a rank below the world size 1, found 1"),
        ({"rank": -1}, "found -1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments: dict[str, int], message: str) -> None:
    usual = {"batch_size": 2, "start": 0, "rank": 0, "world": 1}
    with pytest.raises(UsageError, match=message):
        training_batches(permutation(10, seed=0, epoch=0), last="keep", **{**usual, **arguments})


def test_evaluation_refuses_a_batch_of_nothing() -> None:
    with pytest.raises(UsageError, match="at least 1, found 0"):
        evaluation_batches(10, batch_size=0, rank=0, world=1)
