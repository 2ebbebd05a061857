"""Measure the golden curve of the digits anew (5 minutes): ``uv run python`` this file.

A run's last line says whether it went as these did.
"""

import sys
import tempfile
from collections import deque
from pathlib import Path

from resnext.runs import plan, train_run
from resnext.runs.curve import Curve
from resnext.runs.provenance import machine

OUT = Path(__file__).parents[2] / "src" / "resnext" / "runs" / "curves" / "digits.json"


def main(seeds: int = 6) -> None:
    """Train the bundled digits with several seeds and write how it went."""
    errors = []
    for seed in range(seeds):
        decided = plan("digits", seed=seed, device="cpu")
        with tempfile.TemporaryDirectory() as scratch:
            folder = decided.create(Path(scratch) / "run")
            deque(train_run(decided, folder), maxlen=0)
            errors.append(tuple(epoch.validation_error for epoch in folder.epochs()))
        sys.stdout.write(f"seed {seed}: {errors[-1][-1]:.2f} %\n")
        sys.stdout.flush()
    record = folder.record
    curve = Curve(
        network=record.network,
        recipe=record.recipe,
        images=record.data.fingerprint,
        profile=record.profile,
        commit=record.commit,
        machine=machine(),
        errors=tuple(errors),
    )
    OUT.write_text(curve.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
