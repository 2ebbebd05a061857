import sys

import pytest

from resnext.errors import UsageError
from resnext.runs import EpochRecord, StepRecord, train_run
from resnext.runs.events import with_events

STEP = StepRecord(
    epoch=1,
    step=2,
    updates=102,
    learning_rate=0.5,
    loss=None,
    error=25.0,
    top5_error=5.0,
    seconds=1.0,
    data_wait=0.25,
)


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(s.step, s.value) for s in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_a_run_as_events(tiny, tmp_path):
    folder = tiny.create(tmp_path / "run")
    records = list(with_events(train_run(tiny, folder), tmp_path / "events"))
    epochs = [record for record in records if isinstance(record, EpochRecord)]
    found = scalars(tmp_path / "events")
    assert [step for step, _ in found["epoch/train_loss"]] == [1, 2]
    for tag in ("train_loss", "validation_error", "learning_rate"):
        values = [value for _, value in found[f"epoch/{tag}"]]
        assert values == pytest.approx([getattr(epoch, tag) for epoch in epochs], rel=1e-6)


def test_steps_are_counted_in_updates_and_what_is_missing_is_left_out(tmp_path):
    assert list(with_events(iter([STEP]), tmp_path)) == [STEP]
    found = scalars(tmp_path)
    assert found["steps/error"] == [(102, 25.0)]
    assert "steps/loss" not in found


def test_what_was_written_before_an_error_is_there(tmp_path):
    def failing():
        yield STEP
        raise UsageError("stop")

    with pytest.raises(UsageError, match="stop"):
        list(with_events(failing(), tmp_path))
    assert scalars(tmp_path)["steps/error"] == [(102, 25.0)]


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'resnext\[tensorboard\]'"):
        with_events(iter([]), tmp_path / "events")
    assert not (tmp_path / "events").exists()
