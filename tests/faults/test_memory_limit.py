"""Memory that really runs out, by a limit that the system sets."""

import resource
import subprocess
import sys

import pytest

GIB = 2**30
HUGE = ("--network", "ResNeXt-29 (8x64d, CIFAR)", "--batch-size", "1024", "--micro-batch", "1024")


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (5 * GIB, 5 * GIB))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit that Linux enforces")
def test_a_step_that_does_not_fit_says_what_would(tmp_path):
    words = [sys.executable, "-m", "resnext", "train", *HUGE, "--set", "bn_batch=1024"]
    done = subprocess.run(
        [*words, "--device", "cpu", "--out", "run"],
        cwd=tmp_path,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "1024 images at once, found too little; " in done.stderr
    assert " would fit: say --micro-batch " in done.stderr
    assert done.stderr.count("\n") == 1
