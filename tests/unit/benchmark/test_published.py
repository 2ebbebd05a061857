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
    with pytest.raises(DataError, match="expected steps, kernels or a profile in here"):
        page_of(tmp_path, {"something": 1})
