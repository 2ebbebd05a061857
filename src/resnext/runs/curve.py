"""Golden curves: how a run of a recipe goes when nothing is wrong, measured over several seeds.

`tests/golden/measure_curves.py` measures them anew; a curve speaks only of the very recipe,
network and images that it was measured on.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from resnext.runs.records import EpochRecord, RunRecord
from resnext.training.recipe import Recipe


class Curve(BaseModel):
    """Validation errors in percent of several runs that differ in their seed alone."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    network: str
    recipe: Recipe
    images: str
    """Fingerprint of the data set."""
    profile: str
    commit: str | None
    machine: str
    errors: tuple[tuple[float, ...], ...]
    """One row for each run, one number for each epoch."""

    @classmethod
    def of(cls, record: RunRecord) -> Self | None:
        """The curve of this run's network, recipe and images, where one is known."""
        for file in sorted(_FOLDER.glob("*.json")):
            curve = cls.model_validate_json(file.read_bytes())
            ours = (curve.network, curve.recipe, curve.images, curve.profile)
            if ours == (record.network, record.recipe, record.data.fingerprint, record.profile):
                return curve
        return None

    def verdict(self, epochs: Sequence[EpochRecord]) -> str:
        """One line on the last epoch of a run.

        On the curve is what lies within the runs' range, widened by its own width: the range of a
        few seeds is narrower than that of many.
        """
        last = epochs[-1]
        errors = [run[last.epoch - 1] for run in self.errors]
        lowest, highest = min(errors), max(errors)
        margin = highest - lowest
        on = lowest - margin <= last.validation_error <= highest + margin
        word = "on" if on else "off"
        return (
            f"{word} the golden curve: {last.validation_error:.2f} % at epoch "
            f"{last.epoch}, {lowest:.2f} to {highest:.2f} % in {len(errors)} runs"
        )


_FOLDER = Path(str(resources.files("resnext.runs"))) / "curves"
