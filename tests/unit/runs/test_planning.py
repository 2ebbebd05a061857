from dataclasses import replace
from functools import partial

import pytest
import torch

import resnext
from resnext.errors import NotationError, ResourceError, UsageError
from resnext.runs import RunFolder, differences, plan, plan_again
from resnext.runs.planning import resolve_device
from resnext.training.speed import Speed


def test_the_network_follows_the_data(sides):
    decided = plan(sides, "ResNeXt-29 (8x64d, CIFAR)")
    assert decided.spec == resnext.spec("ResNeXt-29 (8x64d, CIFAR)", classes=4, in_channels=1)


def test_what_is_not_said_follows_from_the_data(sides):
    decided = plan(sides)
    assert (decided.recipe.name, decided.profile.name) == ("digits", "digits")
    assert decided.name.startswith("resnext11_")
    photos = replace(sides, location="photos")
    decided = plan(photos)
    assert (decided.recipe.name, decided.profile.name) == ("small", "pil-224")
    assert decided.spec == resnext.spec("ResNeXt-50 (32x4d)", classes=4)


def test_another_resolution_is_for_photos(sides):
    assert plan(replace(sides, location="photos"), resolution=64).profile.name == "pil-64"
    with pytest.raises(UsageError, match="expected resolution 8 for the digits, found 64"):
        plan(sides, resolution=64)
    assert plan(sides, resolution=8).profile.name == "digits"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            {"recipe_name": "digit"},
            UsageError,
            "expected a recipe out of .*, found 'digit'.*did you mean 'digits'",
        ),
        ({"network": "ResNext-50 (32y4d)"}, NotationError, "32y4d"),
        ({"epochs": 0}, UsageError, "at least 1 epoch, found 0"),
        ({"seed": -1}, UsageError, "a seed from 0 to .*, found -1"),
        ({"seed": 2**64}, UsageError, "a seed from 0 to .*, found 18446744073709551616"),
        ({"workers": 10**5}, UsageError, "workers on this machine, found 100000"),
        ({"bad_limit": 2.0}, UsageError, "from 0 to 1, found 2.0"),
        (
            {"network": "ResNet-18 (7 classes)"},
            UsageError,
            r"for the 4 classes of digits, found ResNet-18 \(7 classes\)",
        ),
        ({"network": "ResNeXt-50 (9999x9d)"}, ResourceError, "GiB of memory for ResNeXt-50"),
        ({"device": "gpu"}, UsageError, "expected device cpu, cuda.*, found 'gpu'"),
        ({"device": "meta"}, UsageError, "found 'meta'"),
        ({"device": "cpu:1"}, ResourceError, "expected device 'cpu:1' on this machine, found 1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_does_not_exist_is_refused(sides, wrong, error, message):
    with pytest.raises(error, match=message):
        plan(sides, **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_a_lack_of_resources():
    with pytest.raises(ResourceError, match="expected device 'cuda' on this machine, found 0"):
        resolve_device("cuda")
    assert resolve_device(None) == torch.device("cpu")


def test_a_folder_called_digits_is_a_folder(tmp_path, monkeypatch):
    from unit.data.pictures import write_folder

    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "digits", {"a": 4, "b": 4})
    decided = plan("./digits", resolution=64)
    assert decided.profile.name == "pil-64"
    assert decided.recipe.name == "small"


def test_runs_are_named_without_what_follows_from_the_data(sides):
    photos = replace(sides, location="photos", name="my photos.v2 é")
    assert plan(photos, seed=3).name == "resnext50_32x4d-my-photos.v2-seed3"


def test_the_same_images_elsewhere_are_the_same_run():
    here = plan("digits", epochs=1, device="cpu").record()
    moved = here.model_copy(
        update={"data": here.data.model_copy(update={"location": "/elsewhere"})}
    )
    assert list(differences(here, moved)) == []
    other = moved.model_copy(update={"data": moved.data.model_copy(update={"fingerprint": "f00"})})
    assert [text.split()[0] for text in differences(here, other)] == ["data", "images"]


def test_a_processor_s_run_is_the_framework_s_unless_said(sides):
    assert plan(sides).speed.backend == "framework"
    assert plan(sides, speed=Speed(backend="auto")).speed.backend == "framework"
    assert plan(sides, speed=Speed(backend="merged")).record().backend == "merged"
    with pytest.raises(UsageError, match="a GPU and triton for backend triton, found cpu"):
        plan(sides, speed=Speed(backend="triton"))


def test_a_run_goes_on_with_its_limits_unless_others_are_given(sides, tmp_path):
    folder = plan(sides, bad_limit=0.5, nan_limit=3).create(tmp_path / "run")
    again = partial(plan_again, RunFolder.open(folder.path), {"data": sides})
    assert (again().bad_limit, again().nan_limit) == (0.5, 3)
    given = again(bad_limit=0.0, nan_limit=0)
    assert (given.bad_limit, given.nan_limit) == (0.0, 0)
    assert list(differences(folder.record, given.record())) == []


def test_a_run_goes_on_with_its_backend_where_that_is_at_hand(sides, tmp_path):
    folder = plan(sides, speed=Speed(backend="merged")).create(tmp_path / "run")
    again = partial(plan_again, folder, {"data": sides})
    assert again().speed.backend == "merged"
    assert again(speed=Speed(backend="framework")).speed.backend == "framework"
    record = folder.record.model_copy(update={"backend": "triton"})
    (folder.path / "run.json").write_text(record.model_dump_json())
    again = partial(plan_again, RunFolder.open(folder.path), {"data": sides})
    assert again().speed.backend == "framework"  # begun on a GPU, continued on a processor
