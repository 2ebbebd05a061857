"""Write the golden files anew and print what changed: ``uv run python tests/golden/regenerate.py``.

A change of a golden file is a reviewed act: it says that a published integer was wrong.
"""

import difflib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from resnext import CATALOG, complexity
from resnext.spec import Spec

HERE = Path(__file__).parent


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


def main() -> None:
    """Regenerate and show the difference."""
    path = HERE / "complexity.json"
    before = path.read_text() if path.exists() else ""
    after = golden_complexity()
    sys.stdout.writelines(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), "before", "after")
    )
    path.write_text(after)


if __name__ == "__main__":
    main()
