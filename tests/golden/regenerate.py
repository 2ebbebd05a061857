"""Write the golden files anew and print what changed: ``uv run python tests/golden/regenerate.py``.

A change of a golden file is a reviewed act: it says that a published integer was wrong.
"""

import difflib
import json
import sys
import tempfile
from collections import deque
from dataclasses import asdict
from pathlib import Path

from resnext import CATALOG, complexity
from resnext.spec import Spec

HERE = Path(__file__).parent
CURVES = HERE.parents[1] / "src" / "resnext" / "runs" / "curves"


def cost_record(spec: Spec) -> dict[str, object]:
    """What the golden file keeps of one network: totals and stages."""
    cost = complexity(spec)
    return {
        "resolution": cost.resolution[0],
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "activations": cost.activations,
        "training_bytes_batch_32": cost.training_memory(32).total,
        "stages": [asdict(stage) for stage in cost.stages],
    }


def golden_complexity() -> str:
    """The text of ``complexity.json``."""
    records = {entry.identifier: cost_record(entry.spec) for entry in CATALOG}
    return json.dumps(records, indent=1) + "\n"


def measure_curve(out: Path, seeds: int = 6) -> None:
    """Train the bundled digits with several seeds and write their golden curve (5 minutes)."""
    from resnext.runs import plan, train_run
    from resnext.runs.curve import Curve
    from resnext.runs.provenance import machine

    errors = []
    for seed in range(seeds):
        decided = plan("digits", seed=seed, device="cpu")
        with tempfile.TemporaryDirectory() as scratch:
            folder = decided.create(Path(scratch) / "run")
            deque(train_run(decided, folder), maxlen=0)
            errors.append(tuple(epoch.validation_error for epoch in folder.epochs()))
        sys.stdout.write(f"seed {seed}: {errors[-1][-1]:.2f} %\n")
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
    out.write_text(curve.model_dump_json(indent=1) + "\n")


def main() -> None:
    """Regenerate and show the difference; with the word `curves`, measure those instead."""
    if sys.argv[1:] == ["curves"]:
        measure_curve(CURVES / "digits.json")
        return
    path = HERE / "complexity.json"
    before = path.read_text() if path.exists() else ""
    after = golden_complexity()
    sys.stdout.writelines(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), "before", "after")
    )
    path.write_text(after)


if __name__ == "__main__":
    main()
