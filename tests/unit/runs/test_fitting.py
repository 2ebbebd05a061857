from dataclasses import dataclass, replace

import pytest
import torch

import resnext
from resnext.errors import ResourceError
from resnext.runs import fitting
from resnext.training.distributed import World
from resnext.training.recipe import recipe
from resnext.training.speed import PLAIN

LARGE = resnext.spec("ResNeXt-101 (64x4d)")
IMAGENET = 1_281_167
PAPER = recipe("imagenet-100")


@dataclass(frozen=True)
class Same(World):
    """Processes of equal machines."""

    def gather(self, value):
        return [value]


@pytest.fixture
def room_for(monkeypatch):
    """Gives each process the memory for so many images at once, in float32 at 224 pixels."""

    def give(images):
        room = resnext.complexity(LARGE, 224).training_memory(images, accumulated=True).total
        monkeypatch.setattr(fitting, "_room", lambda *_: room)

    return give


def fitted(speed=PLAIN, wanted=PAPER, device="cuda", world=Same(), images=IMAGENET):
    return fitting.fitting_speed(speed, LARGE, 224, wanted, torch.device(device), world, images)


@pytest.mark.parametrize(("room", "device", "at_once"), [
    (255, "cuda", 224), (256, "cuda", None), (100, "cuda", 96), (47, "cuda", 32), (300, "cpu", 32),
])  # fmt: skip
def test_whole_parts_go_through_as_far_as_they_fit(room_for, room, device, at_once):
    room_for(room)
    assert fitted(device=device).micro_batch == at_once


def test_the_rest_that_joins_the_last_part_must_fit_too(room_for):
    room_for(46)  # the last 143 images go as 32, 32, 32 and 47
    with pytest.raises(ResourceError, match=r"47 images at once.* 30 would fit: .*bn_batch=30"):
        fitted()
    smaller = PAPER.model_copy(update={"bn_batch": 30})
    assert fitted(replace(PLAIN, micro_batch=30), smaller).micro_batch == 30
    assert fitted(images=1024).micro_batch == 32  # no rest


def test_a_last_batch_may_leave_one_process_more_than_its_share(room_for):
    many = replace(Same(), size=64)
    wanted = PAPER.model_copy(update={"batch_size": 2048})
    room_for(62)
    images = 10 * 2048 + 2047  # 62 parts for 63 processes, and one with 31 more for the last
    assert fitted(wanted=wanted, world=many, images=images).micro_batch == 32
    room_for(63)
    assert fitted(wanted=wanted, world=many, images=images).micro_batch is None


def test_the_process_with_fewer_images_may_have_the_larger_piece(room_for):
    two = replace(Same(), size=2)
    wanted = PAPER.model_copy(update={"batch_size": 200})
    room_for(80)  # shares of 96, and of 104 as 64 and 40: 96 must not go through at once
    assert fitted(wanted=wanted, world=two, images=2000).micro_batch == 64


def test_what_is_asked_for_is_taken_where_it_fits(room_for):
    room_for(64)
    assert fitted(replace(PLAIN, micro_batch=64)).micro_batch == 64
    room_for(63)
    with pytest.raises(ResourceError, match=r"64 images at once.* 32 would fit"):
        fitted(replace(PLAIN, micro_batch=64))


def test_half_precision_needs_less(room_for):
    room_for(100)
    assert fitted(replace(PLAIN, precision="bf16")).micro_batch > 96
    room_for(20)
    with pytest.raises(ResourceError) as whole:
        fitted()
    room_for(10)
    with pytest.raises(ResourceError) as half:
        fitted(replace(PLAIN, precision="bf16"))
    needs = [float(str(error.value).split()[1]) for error in (whole, half)]
    assert needs[1] < 0.7 * needs[0]


def test_the_processes_of_a_machine_share_its_memory():
    device = torch.device("cpu")
    alone, beside = (fitting._room(device, World(local_size=n)) for n in (1, 4))
    assert beside == pytest.approx(alone / 4, rel=0.1)
