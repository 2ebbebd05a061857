import pytest

from resnext.runs import plan
from resnext.runs.curve import Curve
from stand_ins import epoch_record


@pytest.fixture(scope="module")
def record():
    return plan("digits", device="cpu").record()


def test_the_default_run_has_a_curve_of_all_its_epochs(record):
    curve = Curve.of(record)
    assert len(curve.errors) == 6
    assert {len(run) for run in curve.errors} == {record.recipe.epochs}


def test_another_recipe_has_none(record):
    other = record.recipe.model_copy(update={"weight_decay": 0.1})
    assert Curve.of(record.model_copy(update={"recipe": other})) is None
    data = record.data.model_copy(update={"fingerprint": "0"})
    assert Curve.of(record.model_copy(update={"data": data})) is None


@pytest.mark.parametrize(
    ("error", "word"), [(2.0, "on"), (0.0, "on"), (4.0, "on"), (4.1, "off"), (100.0, "off")]
)
def test_what_lies_within_a_width_of_the_range_is_on_the_curve(record, error, word):
    curve = Curve.of(record).model_copy(update={"errors": ((9.0, 1.0), (8.0, 2.5))})
    line = curve.verdict([epoch_record(1, 50.0), epoch_record(2, error)])
    assert line == (f"{word} the golden curve: {error:.2f} % at epoch 2, 1.00 to 2.50 % in 2 runs")
