from pathlib import Path

import pytest

from golden.regenerate import golden_losses
from resnext.training.recipe import RECIPES

LOSSES = Path(__file__).parents[2] / "golden" / "losses"


def rows(text):
    return [[float(number) for number in line.split()] for line in text.splitlines()]


@pytest.mark.parametrize("name", RECIPES)
def test_twenty_steps_of_a_recipe_have_not_moved(name):
    """Where a change is meant: `uv run python tests/golden/regenerate.py`.

    In float64, kernels for AVX-512, AVX2 and none of them, oneDNN on and off, agree in all 12
    digits of the file; 1e-9 leaves room for other libraries, and a wrong constant moves far more.
    """
    expected, found = rows((LOSSES / f"{name}.txt").read_text()), rows(golden_losses(name))
    assert len(found) == 20
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2:] == pytest.approx(theirs[2:], rel=1e-9)


def test_every_recipe_has_its_file():
    assert {path.stem for path in LOSSES.iterdir()} == set(RECIPES)
