"""Training that meets a number that is none: what stops, what stays, what is said."""

import json

import pytest

from faults.conftest import EACH, contents, differing, lines

# Batch 4 is the last of two in the second epoch, and has 16 images; the batches before have 32,
# 16 and 32.


def test_it_stops_and_names_the_update_its_images_and_the_last_checkpoint(
    injector, tmp_path, undisturbed
):
    ended = injector.run(tmp_path, EACH, inf=4)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert (
        "the gradient of update 4 (epoch 2, learning rate 0.00234) is not finite, 1 " in ended.err
    )
    assert "not-finite.json names its 16 images: sides row" in ended.err
    found = json.loads((tmp_path / "run" / "not-finite.json").read_text())
    assert len(set(found["numbers"]) & set(range(48))) == len(found["images"]) == 16
    assert (found["update"], found["epoch"]) == (4, 2)
    assert "the last good checkpoint is run/checkpoints/step-00000003" in ended.err
    checkpoint = "checkpoints/step-00000003/"
    for name in ("weights.safetensors", "training.safetensors"):
        good = (undisturbed[0] / checkpoint / name).read_bytes()
        assert (tmp_path / "run" / checkpoint / name).read_bytes() == good
    again = injector.run(tmp_path, EACH)  # the pixels are sound now
    assert (again.status, again.err) == (0, "")
    assert differing(contents(tmp_path / "run"), contents(undisturbed[0])) == []


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_no_checkpoint_of_what_is_not_finite_is_kept(injector, tmp_path, undisturbed, batch):
    ended = injector.run(tmp_path, EACH, inf=batch)
    assert ended.status == 2
    assert f"of update {batch} " in ended.err
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == [f"step-{step:08d}" for step in range(1, batch)][-2:]
    expected = saved[-1] if saved else "no checkpoint was saved yet"
    assert expected in ended.err
    again = injector.run(tmp_path, EACH)
    assert (again.status, again.err) == (0, "")
    assert differing(contents(tmp_path / "run"), contents(undisturbed[0])) == []


SKIP = (*EACH, "--on-nan", "skip")


def test_it_skips_one_such_step_and_goes_on(injector, tmp_path):
    ended = injector.run(tmp_path, SKIP, inf=2)
    assert (ended.status, ended.err) == (0, "")
    assert [line["epoch"] for line in lines(tmp_path / "run" / "metrics.jsonl")] == [1, 2]


def test_more_than_the_limit_are_too_many(injector, tmp_path):
    words = (*SKIP, "--nan-limit", "0")
    ended = injector.run(tmp_path, words, inf=2)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "the gradient of update 2 (epoch 1" in ended.err
    assert "step-00000001" in ended.err


def test_the_limit_counts_what_was_skipped_before_it_continued(injector, tmp_path):
    limited = (*SKIP, "--nan-limit", "1")
    assert injector.run(tmp_path, limited, inf=2, kind="kill", at=90).status == -9
    ended = injector.run(tmp_path, limited, inf=1)
    assert ended.status == 2
    assert ", 2 such; " in ended.err


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_on_one_of_two_processes_all_of_them_agree(injector, tmp_path, on_nan):
    words = (*EACH, "--on-nan", on_nan)
    ends = injector.run_all(tmp_path, words, 2, inf=2, rank=1)
    if on_nan == "skip":
        assert [(end.status, end.err) for end in ends] == [(0, ""), (0, "")]
        return
    assert [end.status for end in ends] == [2, 2]
    # batch 2 has 16 images, one part of normalisation: they are all in the second process
    assert "of update 2 (epoch 1, learning rate" in ends[0].err
    assert "not-finite.json names its 16 images: " in ends[0].err
    assert [end.err.count("resnext: error:") for end in ends] == [1, 1]
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-00000001"
    ]
