import pytest

from resnext.cli.display import follow, step_text, wait
from resnext.evaluation.scores import Part, Scores
from resnext.metrics import Counts
from resnext.runs import DataRecord, EpochRecord, Evaluation
from resnext.training.loop import Step

COUNTS = Counts(samples=100, top1_wrong=25, top5_wrong=5, loss_sum=50.0)
RECORDS = [
    Step(epoch=1, step=4, steps=8, learning_rate=0.05, counts=COUNTS, seconds=2.0),
    Part(step=1, steps=2, counts=COUNTS),
    EpochRecord(
        epoch=1,
        learning_rate=0.05,
        train_loss=0.5,
        train_error=25.0,
        validation_loss=None,
        validation_error=12.5,
        validation_top5_error=1.0,
        seconds=4.0,
        images_per_second=50.0,
    ),
]
LINE = "      1/3     0.05  0.5000     25.00   12.50      1.00      50    4.0"


def test_without_a_terminal_an_epoch_is_one_plain_line(capsys):
    follow(RECORDS, 3)
    out = capsys.readouterr().out
    assert out.splitlines()[1:] == [LINE]
    assert "\x1b" not in out


@pytest.mark.parametrize("columns", ["20", "120"])
def test_on_a_terminal_there_is_a_bar_too(capsys, monkeypatch, columns):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", columns)
    follow(RECORDS, 3)
    out = capsys.readouterr().out
    assert LINE in out
    assert "\x1b[?25l" in out  # the cursor is hidden while the bar is there
    assert out.endswith("\x1b[2K")  # and the bar is gone at the end


def test_the_bar_says_where_the_epoch_stands():
    expected = "epoch 1/3 step 4/8  loss 0.500  err 25.0 %  rate 0.05  50 img/s"
    assert step_text(RECORDS[0], 3) == expected


def test_the_bar_of_an_evaluation_is_not_in_its_output(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    result = Evaluation(
        run=None,
        network="x",
        data=DataRecord(name="x", location="x", fingerprint="x", classes=()),
        own_data=True,
        scores=Scores(counts=COUNTS, protocol="single view", profile="x"),
    )
    assert wait([RECORDS[1], result]) is result
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "scoring" in captured.err
