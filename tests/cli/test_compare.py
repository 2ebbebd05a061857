import json

import pytest

from resnext.cli.main import run
from resnext.runs import RunFolder, plan
from stand_ins import epoch_record


def outcome(capsys, *words):
    """The exit code, stdout and stderr of the command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs each of two networks, the second's seed 1 unfinished."""
    monkeypatch.chdir(tmp_path)
    for name, errors in {"2x4d": (5.0, 5.5), "4x4d": (4.0, None)}.items():
        for seed, error in enumerate(errors):
            network = f"ResNeXt-11 ({name}, CIFAR)"
            record = plan("digits", network, epochs=1, seed=seed, device="cpu").record()
            folder = RunFolder.create(tmp_path / f"{name}-{seed}", "", record)
            if error is not None:
                line = epoch_record(1, error).model_dump_json() + "\n"
                (folder.path / "metrics.jsonl").write_text(line)
    return ["2x4d-0", "2x4d-1", "4x4d-0", "4x4d-1"]


def test_a_comparison_says_what_differs_and_by_how_much(runs, capsys):
    status, out, err = outcome(capsys, "compare", *runs)
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["A", "0", "5.00", "5.00", "1.00", "4.0", "2x4d-0"]
    assert lines[4][:6] == ["B", "1", "–", "–", "–", "0.0"]
    assert "4x4d-1 (left out: unfinished: 0 of 1 epochs)" in out
    assert "5.25 % last validation error, 2 seeds, deviation 0.35" in out
    assert ["network", "spec.stages.0.paths.0.template", "2x4d", "→", "4x4d"] in lines
    assert "  error   -1.25 points\n" in out
    assert out.endswith(
        "verdict undecided: B has one seed, which cannot tell a change from chance\n"
    )


def test_the_same_as_json(runs, capsys):
    status, out, err = outcome(capsys, "compare", *runs, "--json")
    assert (status, err) == (0, "")
    record = json.loads(out)
    assert [group["mean"] for group in record["groups"]] == [5.25, 4.0]
    assert record["groups"][1]["runs"][1]["last_top1_error"] is None
    (found,) = record["contrasts"]
    assert (found["difference"], found["test"]) == (-1.25, None)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "expected the argument RUN, found none; see resnext compare --help"),
        (["2x4d-0"], 2, "expected at least two runs to compare, found 1"),
        (["2x4d-0", "./2x4d-0"], 2, "expected different runs, found 2x4d-0 twice"),
        (["2x4d-0", "nowhere"], 4, "expected a run folder, found nowhere: no such folder"),
        (["2x4d-0", "."], 4, "expected a run folder, found .: it holds no run.json"),
    ],
)
def test_what_cannot_be_compared_is_one_line(runs, capsys, words, status, message):
    code, out, err = outcome(capsys, "compare", *words)
    assert (code, out) == (status, "")
    assert err == f"resnext: error: {message}\n"
