import json

import pytest

from resnext.benchmark.published import files, with_results
from resnext.errors import DataError

FACTS = {"machine": "M", "commit": "abcdefabcdef", "precision": "bf16", "batch": 4}
STEP = FACTS | {
    "resolution": 32, "threads": 1, "network": "A", "mode": "eager", "method": "resnext",
    "images_per_second": 2.0, "least": 1.5, "most": 2.5, "ratio": 1.25, "slices": 9,
}  # fmt: skip
KERNEL = FACTS | {
    "gpu": "G", "shape": "forward g4 c64 7x7 s1", "direction": "forward", "method": "triton",
    "median": 12.0, "floor": 10.0, "ratio": 1.2, "images": 256,
}  # fmt: skip
SHARE = FACTS | {
    "resolution": 32, "threads": 2, "network": "A", "level": "kernel", "name": "conv: jit",
    "calls": 3, "share": 60.0, "fallback": False,
}  # fmt: skip
RATE = {"images_per_second": 2.0, "least": 1.5, "most": 2.5, "ratio": 1.25, "slices": 9}
HERE = {"machine": "M", "commit": "abcdefabcdef", "network": "A", "threads": 1, "load": 0.5}
ENGINE = HERE | RATE | {
    "batch": 1, "method": "resnext auto", "precision": "fp32", "difference": 2.5e-7,
    "agreement": 1.0,
}  # fmt: skip
SERVER = HERE | RATE | {
    "batch": 16, "clients": 32, "seconds": 10.0, "method": "server", "answers": 1200, "wrong": 0,
    "lost": 0, "p50_ms": 12.4, "p99_ms": 30.6,
}  # fmt: skip
FILE = HERE | {
    "kind": "onnx", "precision": "int8", "bytes": 4000, "seconds": {"1": 0.002, "16": 0.02},
    "difference": 0.02, "agreement": 0.99, "accuracy": None, "images": 50, "refused": None,
}  # fmt: skip
PAGE = "before\n<!-- results: here.jsonl -->\nold\n<!-- end -->\nafter\n"


def page_of(tmp_path, *records):
    (tmp_path / "here.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return with_results(PAGE, tmp_path)


def test_steps(tmp_path):
    text = page_of(tmp_path, STEP, STEP | {"method": "timm", "ratio": 1.0})
    assert (
        text
        == """\
before
<!-- results: here.jsonl -->

A, 4 images of 32 pixels, bf16, 1 thread (M; commit abcdefa; `here.jsonl`); median of 9 by \
processor time:

| mode | step | images/s | from, to | to the best peer |
|---|---|---|---|---|
| eager | resnext | 2.00 | 1.50 to 2.50 | 1.25 |
| eager | timm | 2.00 | 1.50 to 2.50 | 1.00 |

<!-- end -->
after
"""
    )
    assert files(text) == ["here.jsonl"]
    assert with_results(text, tmp_path) == text


def test_steps_of_several_networks_with_floors(tmp_path):
    other = STEP | {"network": "B", "gpu": "G", "over_floor": 1.3}
    text = page_of(tmp_path, other | {"network": "A"}, other)
    assert "| B | eager | resnext | 2.00 | 1.50 to 2.50 | 1.25 | 2000.0 | 1.30 |" in text
    assert (
        "4 images of 32 pixels, bf16 (G; commit abcdefa; `here.jsonl`); median of 9 by time" in text
    )


def test_kernels_show_the_fastest_launch_that_is_right(tmp_path):
    slow, wrong = KERNEL | {"median": 15.0}, KERNEL | {"median": None, "ratio": None}
    text = page_of(tmp_path, slow, wrong, KERNEL)
    assert text.count("triton") == 1
    assert "| forward g4 c64 7x7 s1 | triton | 12.0 | 10.0 | 1.20 |" in text


def test_a_profile_leaves_out_what_is_small_but_no_fallback(tmp_path):
    small = SHARE | {"share": 0.5, "name": "small"}
    text = page_of(tmp_path, SHARE, small, small | {"name": "slow", "fallback": True})
    assert "| bf16 | kernel | `conv: jit` | 3 | 60.0 |" in text
    assert "`small`" not in text
    assert "`slow` (fallback)" in text


def test_what_no_table_is_known_for(tmp_path):
    with pytest.raises(DataError, match="expected lines of JSON in here"):
        with_results(PAGE, tmp_path)
    with pytest.raises(DataError, match="expected results of a benchmark in here"):
        page_of(tmp_path, {"something": 1})


def test_engines(tmp_path):
    text = page_of(tmp_path, ENGINE, ENGINE | {"batch": 16, "load": 1.5})
    assert "A, 1 thread, load 0.5 to 1.5 (M; commit abcdefa; `here.jsonl`); median of 9:" in text
    assert "| 1 | resnext auto fp32 | 2.00 | 1.50 to 2.50 | 1.25 | 2.5e-07 |" in text


def test_servers(tmp_path):
    alone = SERVER | {"method": "engine", "answers": 0, "p50_ms": None, "p99_ms": None}
    text = page_of(tmp_path, alone, SERVER)
    assert "batches of 16, 32 clients, median of 9 slices of 10 s:" in text
    assert "| engine | 2.00 | 1.50 to 2.50 | 1.25 |  |  |  |" in text
    assert "| server | 2.00 | 1.50 to 2.50 | 1.25 | 1,200: 0 wrong, 0 lost | 12 | 31 |" in text


def test_exported_files_and_those_that_were_refused(tmp_path):
    none = dict.fromkeys(("bytes", "seconds", "difference", "agreement"))
    text = page_of(tmp_path, FILE, FILE | none | {"kind": "torch", "refused": "too far off"})
    assert "| onnx int8 | 4 | 2.00 | 20.00 | 2.0e-02 | 99.00 |  |" in text
    assert "| torch int8 | too far off |  |  |  |  |  |" in text


def test_a_summary_has_a_row_of_each(tmp_path):
    files_ = {"steps": [STEP, STEP | {"method": "timm"}], "engines": [ENGINE], "server": [SERVER]}
    for name, records in files_.items():
        lines = "".join(json.dumps(one) + "\n" for one in records)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    names = [f"{name}.jsonl" for name in files_]
    page = f"<!-- summary: {' '.join(names)} -->\n<!-- end -->\n"
    text = with_results(page, tmp_path)
    assert files(text) == names
    assert text.count("1.25 times as fast") == 3
    assert "| inference of A, 1 picture at once, processor |" in text
    assert with_results(text, tmp_path) == text
