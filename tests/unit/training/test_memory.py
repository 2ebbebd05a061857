"""The estimated memory of a training step against what the system counts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnext import complexity

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's count of a process's memory"
)
MEASURE = Path(__file__).with_name("measure_memory.py")


def measured(network: str, batch: int, side: int) -> int:
    done = subprocess.run(
        [sys.executable, MEASURE, network, str(batch), str(side)],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.parametrize(
    ("network", "batch", "side"),
    [
        ("resnext29_8x16d", 16, 32),
        pytest.param("resnext50_32x4d", 8, 64, marks=pytest.mark.slow),
        *(
            pytest.param("resnext50_32x4d", batch, side, marks=pytest.mark.slow)
            for side in (128, 224)
            for batch in (8, 16, 32)
        ),
    ],
)
def test_the_estimate_is_what_a_step_takes(network: str, batch: int, side: int):
    estimate = complexity(network, side).training_memory(batch).total
    assert estimate == pytest.approx(measured(network, batch, side), rel=0.05)
