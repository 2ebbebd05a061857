import json

import pytest
import torch

from resnext.cli.main import run


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def outcome(capsys, *words):
    """The exit code, stdout and stderr of the command."""
    with pytest.raises(SystemExit) as ended:
        run(("benchmark", "training", *map(str, words)))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


TINY = ("--network", "resnext11_4x8d", "--batch", 4, "--resolution", 16, "--steps", 1)


def test_a_table_of_steps_and_its_records(capsys, tmp_path):
    file = tmp_path / "new" / "training.jsonl"
    status, out, err = outcome(capsys, *TINY, "--modes", "eager,channels-last", "--save", file)
    assert (status, err) == (0, "")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(record["mode"], record["method"]) for record in records] == [
        ("eager", "resnext"),
        ("eager", "torchvision's loop, our network"),
        ("channels-last", "resnext"),
        ("channels-last", "resnext, normalised by 2"),
        ("channels-last", "resnext, micro-batches of 2"),
        ("channels-last", "torchvision's loop, our network"),
    ]
    for record in records:
        assert f"{record['mode']}: {record['method']}" in out
        assert {"machine", "commit", "versions", "threads", "precision"} <= record.keys()


def test_json(capsys):
    status, out, err = outcome(capsys, *TINY, "--modes", "eager", "--threads", 1, "--json")
    assert (status, err) == (0, "")
    assert [record["threads"] for record in json.loads(out)] == [1, 1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--modes", "eager,fast"], "mode out of eager, channels-last, compiled, found 'fast'"),
        (["--precision", "fp8"], "expected precision out of fp32, bf16, found 'fp8'"),
        (["--batch", "4", "--parts", "8"], "expected parts of 1 to 4 images, found 8"),
    ],
)
def test_wrong_words(capsys, words, expected):
    status, _, err = outcome(capsys, *words)
    assert status == 2
    assert expected in err
