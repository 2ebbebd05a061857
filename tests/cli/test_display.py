import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from resnext.cli import display
from resnext.cli.display import follow, loading, step_texts, wait
from resnext.evaluation.scores import Part, Scores
from resnext.metrics import Counts
from resnext.runs import DataRecord, Evaluation
from resnext.training.loop import Step
from stand_ins import epoch_record

COUNTS = Counts(samples=100, top1_wrong=25, top5_wrong=5, loss_sum=50.0)
EPOCH = epoch_record()
HEADER = "    epoch     rate    loss train err val err val top-5   img/s      s"
LINE = "      1/3     0.05  0.5000     25.00   12.50      1.00      50    4.0"


def step(number):
    return Step(
        epoch=1,
        step=number,
        steps=8,
        learning_rate=0.05,
        batch=None,
        counts=COUNTS,
        seconds=2.0,
        waited=0.5,
    )


RECORDS = [step(4), Part(step=1, steps=2, counts=COUNTS), EPOCH]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def on_terminal(width, records=RECORDS, classes=10, seconds=10.0):
    """What a terminal of a width is sent, without what moves and colours."""
    clock = Clock()
    sent = io.StringIO()
    console = Console(
        file=sent,
        width=width,
        force_terminal=True,
        highlight=False,
        soft_wrap=True,
        get_time=clock,
        _environ={},
    )

    def slowly():
        for record in records:
            clock.now += seconds
            yield record

    follow(slowly(), 3, classes, console)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.getvalue()).replace("\r", "\n")


def test_without_a_terminal_an_epoch_is_one_plain_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    follow(RECORDS, 3, 10)
    out = capsys.readouterr().out
    assert out.splitlines() == [HEADER, LINE]
    assert "\x1b" not in out


def test_on_a_terminal_there_is_a_bar_too(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    follow(RECORDS, 3, 10)
    out = capsys.readouterr().out
    assert LINE in out
    assert "\x1b[?25l" in out  # the cursor is hidden while the bar is there
    assert out.endswith("\x1b[2K")  # and the bar is gone at the end


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (30, ""),
        (40, "epoch 1/3 "),
        (60, "epoch 1/3 step 4/8 "),
        (80, "epoch 1/3 step 4/8  loss 0.500  err 25.0 % "),
        (100, "epoch 1/3 step 4/8  loss 0.500  err 25.0 %  50 img/s "),
        (120, "epoch 1/3 step 4/8  loss 0.500  err 25.0 %  50 img/s  rate 0.05 "),
    ],
)
def test_percentage_and_time_left_are_whole_on_any_terminal(width, words):
    # A quarter of an epoch of three takes 10 s: after half of one, 100 s are left.
    lines = on_terminal(width, [step(2), step(4)]).splitlines()
    bar = next(line for line in lines if "17%" in line)
    assert bar.rstrip().endswith(" 17% 0:01:40")
    assert bar.startswith(words)
    assert "━" in bar
    assert "…" not in bar
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("width", "names"),
    [
        (120, ["epoch", "rate", "loss", "train err", "val err", "val top-5", "img/s", "s"]),
        (80, ["epoch", "rate", "loss", "train err", "val err", "val top-5", "img/s", "s"]),
        (65, ["epoch", "rate", "loss", "train err", "val err", "val top-5", "img/s"]),
        (60, ["epoch", "rate", "loss", "train err", "val err", "val top-5"]),
        (50, ["epoch", "rate", "loss", "train err", "val err"]),
        (40, ["epoch", "loss", "train err", "val err"]),
        (20, ["epoch", "val err"]),
    ],
)
def test_the_table_fits_the_terminal(width, names):
    lines = [line.rstrip() for line in on_terminal(width).splitlines()]
    header = next(line for line in lines if "val err" in line)
    row = next(line for line in lines if line.startswith("      1/3 "))
    assert [name for name in re.split(r" (?!err|top)|^ +", header) if name] == names
    assert len(header) == len(row) <= width
    assert "12.50" in row


def test_the_fifth_best_of_five_classes_says_nothing(capsys):
    follow(RECORDS, 3, 5)
    assert LINE.replace("1.00", "   –") in capsys.readouterr().out.splitlines()
    follow(RECORDS, 3, 6)
    assert LINE in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("seconds", "epochs", "line"),
    [
        (30.0, 3, None),
        (31.0, 3, "about 1 min left"),
        (30.0, 25, "about 12 min left"),
        (3600.0, 30, "about 29 h left"),
        (36000.0, 100, "about 41 days left"),
    ],
)
def test_without_a_terminal_one_line_says_how_long_it_takes(
    capsys, monkeypatch, seconds, epochs, line
):
    clock = Clock()
    monkeypatch.setattr(display.time, "monotonic", clock)

    def slowly():
        clock.now += 5.0  # until the first step begins; it is not needed again
        for number in (1, 2):
            clock.now += 2.0
            yield step(4)
            clock.now += seconds - 2.0
            yield EPOCH.model_copy(update={"epoch": number})

    follow(slowly(), epochs, 10)
    lines = capsys.readouterr().out.splitlines()[1:]
    expected = [f"{n}/{epochs}" for n in (1, 2)]
    if line:
        expected.insert(1, line)
    assert [text if text.startswith("about") else text.split()[0] for text in lines] == expected


def test_a_minute_of_steps_says_how_long_it_takes(capsys, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(display.time, "monotonic", clock)

    def slowly():
        for number in (1, 2, 3):
            clock.now += 40.0
            yield replace(step(number), seconds=40.0 * number)

    follow(slowly(), 3, 10)
    _, line, left = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 1/3 step 2/8  loss 0.500  err 25.0 %  1.2 img/s")
    assert left == "about 15 min left"


def test_slow_steps_tell_the_time_left_on_a_terminal_too():
    shown = on_terminal(120, [step(1), step(2), step(3)], seconds=60.0)
    assert "0:21:00" in shown


def test_loading_is_shown_on_terminals_only(capsys, monkeypatch):
    with loading() as doing:
        doing("opening photos")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with loading():
        pass
    out, err = capsys.readouterr()
    assert "loading torch …" in out
    assert err == ""
    assert out.endswith("\x1b[2K")
    with loading(stderr=True):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert "loading torch …" in err


def test_the_bar_says_where_the_epoch_stands():
    expected = (
        "epoch 1/3 step 4/8  loss 0.500  err 25.0 %  50 img/s  rate 0.05  top-5 5.0 %"
        "  data wait 25%  "
    )
    text = step_texts(RECORDS[0], COUNTS, 3)[0]
    assert text.startswith(expected)
    assert re.fullmatch(r"\d+\.\d GiB", text.removeprefix(expected))


def test_the_bar_of_an_evaluation_is_not_in_its_output(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    result = Evaluation(
        run=None,
        network="x",
        data=DataRecord(name="x", location="x", fingerprint="x", classes=()),
        own_data=True,
        scores=Scores(counts=COUNTS, protocol="single view", profile="x"),
        about=None,
        readings=(),
    )
    assert wait([Part(step=1, steps=2, counts=COUNTS), result]) == [result]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "scoring" in captured.err
