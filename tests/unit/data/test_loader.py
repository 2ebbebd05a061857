"""Batches: the same bits however the work is done, and errors instead of hangs."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnext.data import Batch, evaluation_batches, open_data, open_source, profile, train_batches
from resnext.data.loader import Batches
from resnext.errors import DataError, ResourceError, UsageError
from unit.data.faulty import FAULTY, Faulty
from unit.data.pictures import write_folder

# torch advises against more workers than cores; the tests want them on any machine.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

DIGITS = profile("digits")


def joined(batches: Iterable[Batch]) -> Batch:
    """All images of some batches in one."""
    parts = list(batches)
    return Batch(
        images=torch.cat([part.images for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        indices=torch.cat([part.indices for part in parts]),
    )


def check_equal(found: Batch, expected: Batch) -> None:
    for name in ("indices", "labels", "images"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


def epoch_of(source: Faulty, **options: int) -> Batches:
    usual = {"batch_size": 4, "seed": 5, "epoch": 2}
    return train_batches(source, DIGITS, **{**usual, **options})  # type: ignore[arg-type]


def test_a_batch_holds_what_it_says() -> None:
    batches = train_batches(Faulty(), DIGITS, batch_size=8, seed=0, epoch=0)
    assert len(batches) == 4
    assert [len(batch.labels) for batch in batches] == [8, 8, 8, 6]
    for batch in batches:
        assert batch.images.shape == (len(batch.labels), 1, 8, 8)
        assert batch.images.dtype == torch.float32
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
        assert batch.labels.tolist() == [index % 2 for index in batch.indices.tolist()]
        # The middle of a picture is its index, wherever the crop fell.
        grey = batch.images[:, 0, 4, 4] * 95.9 + 77.8
        torch.testing.assert_close(grey.round(), batch.indices.float(), rtol=0, atol=0)


def test_the_last_batch_can_be_dropped() -> None:
    batches = train_batches(Faulty(), DIGITS, batch_size=8, seed=0, epoch=0, last="drop")
    assert [len(batch.labels) for batch in batches] == [8, 8, 8]


def test_an_epoch_can_be_read_twice_and_differs_from_the_next() -> None:
    batches = epoch_of(Faulty())
    first = joined(batches)
    check_equal(joined(batches), first)
    assert joined(epoch_of(Faulty(), epoch=3)).indices.tolist() != first.indices.tolist()
    assert joined(epoch_of(Faulty(), seed=6)).indices.tolist() != first.indices.tolist()


def test_augmentation_changes_from_epoch_to_epoch() -> None:
    data = open_data()
    views = []
    for epoch in range(2):
        batch = joined(train_batches(data.train, DIGITS, batch_size=512, seed=0, epoch=epoch))
        views.append(batch.images[batch.indices.argsort()])
    differ = (views[0] != views[1]).flatten(1).any(1).float().mean()
    assert 0.8 < differ < 0.95  # 8 of 9 draws of a shift differ


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 4))
def test_any_start_and_any_number_of_ranks_give_the_same_images(
    start: int, world: int, per_rank: int
) -> None:
    whole = joined(epoch_of(Faulty(), batch_size=30))
    size = per_rank * world
    ranks = [
        list(epoch_of(Faulty(), batch_size=size, start=start, rank=rank, world=world))
        for rank in range(world)
    ]
    found = [share for shares in zip(*ranks, strict=True) for share in shares]
    if start < 30:
        rest = Batch(whole.images[start:], whole.labels[start:], whole.indices[start:])
        check_equal(joined(found), rest)
    else:
        assert found == []


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_workers_change_nothing(workers: int) -> None:
    for start in (0, 9):
        expected = list(epoch_of(Faulty(), start=start))
        found = list(epoch_of(Faulty(), start=start, workers=workers))
        assert len(found) == len(expected)
        for theirs, ours in zip(found, expected, strict=True):
            check_equal(theirs, ours)


def test_workers_leave_the_generator_of_the_run_alone() -> None:
    state = torch.random.get_rng_state()
    list(epoch_of(Faulty(), workers=1))
    assert torch.random.get_rng_state().equal(state)


def test_workers_open_files_of_their_own(tmp_path: object) -> None:
    source = open_source(write_folder(tmp_path, {"a": 5, "b": 4}))  # type: ignore[arg-type]
    photo = profile("pil-32")
    expected = joined(evaluation_batches(source, photo, batch_size=4))
    check_equal(joined(evaluation_batches(source, photo, batch_size=4, workers=2)), expected)
    assert expected.indices.tolist() == list(range(9))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_evaluation_sees_each_image_once(world: int) -> None:
    ranks = [
        evaluation_batches(Faulty(), DIGITS, batch_size=4, rank=rank, world=world)
        for rank in range(world)
    ]
    found = joined(batch for batches in ranks for batch in batches)
    assert found.indices.tolist() == list(range(30))
    again = joined(evaluation_batches(Faulty(), DIGITS, batch_size=30))
    check_equal(found, again)


def test_more_ranks_than_images_leave_some_without() -> None:
    share = epoch_of(Faulty(), batch_size=40, start=28, rank=0, world=40)
    (batch,) = share
    assert batch.images.shape == (0, 1, 8, 8)
    assert len(evaluation_batches(Faulty(), DIGITS, batch_size=1, rank=0, world=40)) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_one_line(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(epoch_of(Faulty("unreadable"), workers=workers))
    assert str(caught.value) == "picture 13: expected an image, found none"


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_the_profile_refuses_is_named(workers: int) -> None:
    cifar = profile("cifar10")
    with pytest.raises(DataError, match=r"^picture 0: expected an image of 32 x 32 pixels"):
        list(evaluation_batches(Faulty(), cifar, batch_size=4, workers=workers))


@pytest.mark.parametrize("fault", ["mistake", "runtime"])
def test_our_own_mistakes_keep_their_traceback(fault: str) -> None:
    kind = {"mistake": ZeroDivisionError, "runtime": RuntimeError}[fault]
    with pytest.raises(kind, match=r"(?s)in misbehave.*mistake of ours"):
        list(epoch_of(Faulty(fault), workers=1))


def faulty_batch(batches: Batches) -> int:
    return next(n for n, group in enumerate(batches.groups) if FAULTY in group.tolist())


OTHERS: set[Any] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Processes that other tests keep, which are not this one's workers."""
    OTHERS.clear()
    OTHERS.update(multiprocessing.active_children())


def none_left() -> bool:
    """Whether all worker processes are gone, or soon will be: torch 2.11 does not wait for them."""
    deadline = time.monotonic() + 5
    while set(multiprocessing.active_children()) - OTHERS and time.monotonic() < deadline:
        time.sleep(0.05)
    return set(multiprocessing.active_children()) <= OTHERS


@pytest.mark.parametrize("fault", ["killed", pytest.param("exit", marks=pytest.mark.slow)])
def test_a_dead_worker_is_an_error_in_seconds(fault: str) -> None:
    batches = epoch_of(Faulty(fault), workers=2)
    list(epoch_of(Faulty(), workers=1))  # the server that starts workers is warm
    begin = time.monotonic()
    with pytest.raises(ResourceError, match=r"found it dead within 4 batches from ") as caught:
        list(batches)
    assert time.monotonic() - begin < 15
    # The dead worker may have taken along the batch before, made but not handed over.
    last = faulty_batch(batches)
    firsts = [
        f"from picture {group[0]} on" for group in batches.groups[max(last - 3, 0) : last + 1]
    ]
    assert any(first in str(caught.value) for first in firsts)
    assert "\n" not in str(caught.value)
    assert none_left()


def test_a_stuck_worker_is_an_error_and_is_ended() -> None:
    batches = replace(epoch_of(Faulty("stuck"), workers=1), stall_seconds=2.0)
    with pytest.raises(ResourceError, match="found it stuck for 2 s in the batch") as caught:
        list(batches)
    first = batches.groups[faulty_batch(batches)][0]
    assert f"from picture {first} on" in str(caught.value)
    assert none_left()


def test_a_slow_worker_is_waited_for() -> None:
    # 2.5 s is longer than the interval at which the workers are looked after.
    check_equal(joined(epoch_of(Faulty("slow"), workers=1)), joined(epoch_of(Faulty())))


def test_leaving_an_epoch_early_ends_the_workers() -> None:
    batches = iter(epoch_of(Faulty(), workers=2))
    next(batches)
    assert not none_left()
    batches.close()  # type: ignore[attr-defined]
    assert none_left()


def test_a_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="expected 0 or more workers, found -1"):
        epoch_of(Faulty(), workers=-1)


def test_the_digits_need_neither_torchvision_nor_pyarrow() -> None:
    # Importing torchvision takes 7 s, which a first run on the digits must not spend.
    program = (
        "import sys, resnext.data as d; p = d.default_profile(d.open_data())\n"
        "print(sorted({'torchvision', 'pyarrow'} & set(sys.modules)), p.name)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[] digits\n"
