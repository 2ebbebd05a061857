from dataclasses import replace

import pytest
import torch

import resnext
from resnext.errors import NotationError, ResourceError, UsageError
from resnext.runs import plan
from resnext.runs.planning import resolve_device


def test_the_network_follows_the_data(sides):
    decided = plan(sides, "ResNeXt-29 (8x64d, CIFAR)")
    assert decided.spec == resnext.spec("ResNeXt-29 (8x64d, CIFAR)", classes=4, in_channels=1)


def test_what_is_not_said_follows_from_the_data(sides):
    decided = plan(sides)
    assert (decided.recipe.name, decided.profile.name) == ("digits", "digits")
    assert decided.name.startswith("resnext11_")
    photos = replace(sides, name="photos")
    decided = plan(photos)
    assert (decided.recipe.name, decided.profile.name) == ("small", "pil-224")
    assert decided.spec == resnext.spec("ResNeXt-50 (32x4d)", classes=4)


def test_another_resolution_is_for_photos(sides):
    assert plan(replace(sides, name="photos"), resolution=64).profile.name == "pil-64"
    with pytest.raises(UsageError, match="expected resolution 8 for digits, found 64"):
        plan(sides, resolution=64)
    assert plan(sides, resolution=8).profile.name == "digits"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"recipe_name": "digit"}, UsageError, "unknown recipe 'digit'.*did you mean 'digits'"),
        ({"network": "ResNext-50 (32y4d)"}, NotationError, "32y4d"),
        ({"epochs": 0}, UsageError, "positive number of epochs, found 0"),
        ({"seed": -1}, UsageError, "a seed of at least 0, found -1"),
        ({"device": "gpu"}, UsageError, "unknown device 'gpu'; expected cpu, cuda"),
        ({"device": "meta"}, UsageError, "unknown device 'meta'"),
        ({"device": "cpu:1"}, ResourceError, "no device 'cpu:1' here: found 1 of kind cpu"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_does_not_exist_is_refused(sides, wrong, error, message):
    with pytest.raises(error, match=message):
        plan(sides, **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_a_lack_of_resources():
    with pytest.raises(ResourceError, match="no device 'cuda' here: found 0 of kind cuda"):
        resolve_device("cuda")
    assert resolve_device(None) == torch.device("cpu")
