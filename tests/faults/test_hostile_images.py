"""Images that claim or hold far more than they should cost neither memory nor the run."""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unit.data.jpegs import claiming, kinds
from unit.data.pictures import encoded, write_folder
from unit.data.test_decode import png

ALLOWED = 50e6
"""Bytes by which memory may rise. Measured: 2.5e6, 0.1e6, 22e6 and 12e6 in the order of `CASES`."""

_PROGRAM = """
import json, os, sys
from pathlib import Path
import numpy as np
import torch
from resnext.data import checking, profile
from resnext.data.making import maker, why_not
from resnext.data.opening import open_parts

def look(root):
    parts = open_parts(root)
    source, view = parts["all"], profile("pil-64")
    findings = [step for step in checking.check(parts, threads=1)
                if isinstance(step, checking.Finding)]
    replaced = {}
    for engine in ("native", "simplejpeg", "pillow"):
        if why_not(engine, source, view) is None:
            options = dict(seed=1, epoch=1, replace=True, engine=engine, threads=1)
            raw = maker(source, view, **options).batch(np.arange(len(source)))
            replaced[engine] = [source.describe(bad.index) for bad in raw.bad]
    return {finding.kind: finding.detail for finding in findings}, replaced

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

look(sys.argv[1])  # imports, threads
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from now
before = peak()
kinds, replaced = look(sys.argv[2])
print(json.dumps({"rise": peak() - before, "kinds": kinds, "replaced": replaced}))
"""


def bomb() -> bytes:
    """588 MB of black in 0.6 MB: every pixel is there."""
    rows, packer = bytes(100 * (1 + 3 * 14_000)), zlib.compressobj(1)
    return png(
        14_000, 14_000, b"".join([packer.compress(rows) for _ in range(140)]) + packer.flush()
    )


def film() -> bytes:
    """200 pictures of 0.8 MB."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((512, 512))
    frames = [image.rotate(7 * number) for number in range(1, 200)]
    return encoded(image, "WEBP", save_all=True, append_images=frames, method=0, quality=10)


def book() -> bytes:
    """400 pages of 0.75 MB."""
    pages = [Image.new("RGB", (500, 500), (number % 256, 9, 9)) for number in range(400)]
    return encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")


CASES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "bomb.png": (bomb, "unreadable", "more than 50 million pixels"),
    "claim.jpg": (
        lambda: claiming(kinds(64, 48)["4:2:0"], 65_535, 65_535),
        "unreadable",
        "more than 50 million pixels",
    ),
    "film.webp": (film, "animated", "several pictures, of which the first is used"),
    "book.tiff": (book, "animated", "several pictures, of which the first is used"),
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize("name", list(CASES))
def test_memory_does_not_rise(name: str, tmp_path: Path) -> None:
    make, kind, detail = CASES[name]
    write_folder(tmp_path / "good", {"a": 2, "b": 2})
    root = write_folder(tmp_path / "bad", {"a": 2, "b": 2})
    (root / "a" / name).write_bytes(make())
    found = looked_at(tmp_path / "good", root)
    assert found["rise"] < ALLOWED
    assert kind in found["kinds"]
    assert detail in found["kinds"][kind]
    expected = [str(root / "a" / name)] if kind == "unreadable" else []
    assert found["replaced"]
    assert all(names == expected for names in found["replaced"].values())


def looked_at(good: Path, bad: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", _PROGRAM, str(good), str(bad)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
