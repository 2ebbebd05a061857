import json

import pytest
import torch

import measured_kernels
from measured_kernels import CEILING
from resnext.cli.main import run
from resnext.kernels.choices import read_table


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
        (
            ["--modes", "eager,fast"],
            "mode out of eager, channels-last, compiled, cuda-graphs, found 'fast'",
        ),
        (["--precision", "fp8"], "expected precision out of fp32, bf16, found 'fp8'"),
        (
            ["--backends", "cudnn"],
            "backend out of framework, merged, triton, fused, auto, found 'cudnn'",
        ),
        (["--profile", "--device", "cuda:9"], "device 'cuda:9' on this machine"),
        (["--batch", "4", "--parts", "8"], "expected parts of 1 to 4 images, found 8"),
    ],
)
def test_wrong_words(capsys, words, expected):
    status, _, err = outcome(capsys, *words)
    assert status == (5 if "cuda:9" in words else 2)
    assert expected in err


@pytest.mark.parametrize("what", ["inference", "serving"])
def test_weights_without_a_name_are_refused(capsys, what):
    with pytest.raises(SystemExit) as ended:
        run(("benchmark", what, "--network", "resnext11_2x4d", "--weights", "nowhere"))
    assert ended.value.code == 2
    assert "expected a network by name beside --weights nowhere, found none" in (
        capsys.readouterr().err
    )


def test_where_a_step_s_time_goes(capsys, tmp_path):
    file = tmp_path / "profile.jsonl"
    status, out, err = outcome(capsys, *TINY, "--batch", 16, "--profile", "--save", file)
    assert (status, err) == (0, "")
    assert "aten::convolution_backward" in out
    assert "none of them a fallback without a fast kernel" in out
    assert {json.loads(line)["level"] for line in file.read_text().splitlines()} == {
        "operation",
        "kernel",
    }


def of_kernels(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        run(("benchmark", "kernels", *map(str, words)))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_the_floors_of_kernels_need_no_gpu(capsys):
    status, out, _ = of_kernels(capsys, "--dry-run")
    assert status == 0
    assert "128x56x56, 4 per group                     3   411.0          3.7      95.6" in out
    status, out, _ = of_kernels(capsys, "--dry-run", "--json", "--batch", 1)
    assert [entry["count"] for entry in json.loads(out)] == [3, 1, 3, 1, 5, 1, 2]


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--network", "resnet50"], 2, "a network with grouped convolutions, found none in it"),
        (["--write-table", "."], 2, "expected a table of choices in ., found another file"),
        pytest.param(
            [], 5, "expected a CUDA GPU to measure kernels on, found none; --dry-run prints",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)  # fmt: skip
def test_what_kernels_cannot_be_measured_on(capsys, words, code, expected):
    status, out, err = of_kernels(capsys, *words)
    assert (status, out) == (code, "")
    assert expected in err


def test_a_gpu_s_measurement_is_shown_and_goes_into_the_table(
    capsys, tmp_path, monkeypatch, interpret
):
    """The whole command; the GPU is a processor that interprets kernels."""
    rows = interpret(measured_kernels.rows)
    monkeypatch.setattr("resnext.benchmark.kernels.require_gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr("resnext.benchmark.kernels.benchmark_kernels", lambda *_: iter(rows))
    monkeypatch.setattr("resnext.benchmark.roofline.measured_ceiling", lambda _: CEILING)
    monkeypatch.setattr("resnext.cli.benchmark_kernels.gpu_facts", lambda: {"gpu": "GPU X"})
    table, lines = tmp_path / "table.json", tmp_path / "kernels.jsonl"
    words = ("--write-table", table, "--save", lines)
    status, out, err = of_kernels(capsys, *words)
    assert (status, err) == (0, "")
    assert "64x5x5, 8 per group: forward, floor 25.6 us" in out
    assert "ours are ahead of cuDNN's best in" in out
    assert f"3 choices for GPU X written to {table}" in out
    record = json.loads(lines.read_text().splitlines()[0])
    assert {"gpu", "commit", "versions", "bandwidth", "shape", "floor"} <= record.keys()
    device = read_table(table)["GPU X"]
    assert device["basis"]["commit"] == record["commit"]
    assert len(device["rows"]) == 3
    assert of_kernels(capsys, *words)[0] == 0  # once more: the device's rows are replaced
    assert len(read_table(table)["GPU X"]["rows"]) == 3


def of_tables(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        run(("benchmark", "tables", *map(str, words)))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_tables_of_a_page_are_made_and_checked(capsys, tmp_path):
    outcome(capsys, *TINY, "--modes", "eager", "--save", tmp_path / "steps.jsonl")
    page = tmp_path / "page.md"
    page.write_text("<!-- results: steps.jsonl -->\n<!-- end -->\n")
    words = (page, "--root", tmp_path)
    status, out, err = of_tables(capsys, *words, "--check")
    assert (status, out) == (3, "")
    assert f"expected in {page} what its results say, found another table" in err
    assert of_tables(capsys, *words)[:2] == (0, f"{page}: 1 table made anew\n")
    assert "| eager | resnext |" in page.read_text()
    assert of_tables(capsys, *words, "--check")[:2] == (0, f"{page}: 1 table as they were\n")
    assert sorted(tmp_path.iterdir()) == [page, tmp_path / "steps.jsonl"]


@pytest.mark.parametrize("text", [None, "no marks"])
def test_a_page_without_tables_is_refused(capsys, tmp_path, text):
    page = tmp_path / "page.md"
    if text:
        page.write_text(text)
    status, out, err = of_tables(capsys, page)
    assert (status, out) == (2, "")
    assert "expected " in err
