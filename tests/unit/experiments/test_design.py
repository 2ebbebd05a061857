"""The designs are those of the paper, by its own figures."""

import re

import pytest

import resnext
from resnext.errors import UsageError
from resnext.experiments.cifar import TEN
from resnext.experiments.design import Small
from resnext.experiments.imagenet import TABLE6_ROWS
from resnext.experiments.paper import NUMBERS, number
from resnext.experiments.registry import EXPERIMENTS, chosen, experiment
from resnext.training.recipe import about, cifar, imagenet_5k, imagenet_100

ROWS = {row.id: row for one in EXPERIMENTS for row in one.rows}


def test_networks_have_the_parameters_that_the_paper_states():
    for row in TEN:
        found = resnext.complexity(row.spec).parameters / 1e6
        assert round(found, 1) == pytest.approx(
            number("Table 7", row.label, "parameters"), abs=0.11
        )
    for row in ROWS.values():
        cost = resnext.complexity(row.spec).multiply_adds / 1e9
        if row.home == "table3":
            assert cost == pytest.approx(4.1 if "50" in row.id.split("_")[0] else 7.8, rel=0.05)
        if row.home == "table4":
            assert cost == pytest.approx(15.2, rel=0.02)


def test_small_networks_keep_the_design():
    table3 = experiment("table3").rows
    for row in table3:
        # Eqn. 4 at 64 channels, beside 1x32d: no other whole width comes nearer
        template = row.small.spec(8).stages[0].paths[0].template

        def far(width, cardinality=template.cardinality):
            return abs(cardinality * (128 * width + 9 * width**2) - (128 * 32 + 9 * 32**2))

        assert far(template.width) <= min(far(template.width - 1), far(template.width + 1))
    assert [row.small.blocks for row in table3] == [1] * 5 + [2] * 5
    sizes = {
        row.id: resnext.complexity(row.small.spec(32), 32).parameters
        for row in experiment("fig7").rows
    }
    for more, wider in (("2x64d", "1x128d"), ("4x64d", "1x192d"), ("8x64d", "1x256d")):
        wide = ROWS[f"resnet29_{wider}"].small
        width = int(wide.template.removeprefix("1x").removesuffix("d"))
        far = [
            abs(parameters(w) - sizes[f"resnext29_{more}"]) for w in (width - 1, width, width + 1)
        ]
        assert min(far) == far[1]


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.id)
def test_the_paper_s_scale_is_the_paper_s_recipe(row):
    original = {"table6": imagenet_5k, "fig7": cifar, "table7": cifar}.get(row.home, imagenet_100)
    assert row.recipe_at("paper", 1000, is_digits=False) == original()
    shortened = row.recipe_at("short", 1000, is_digits=False)
    assert shortened == original().with_epochs(shortened.epochs)
    assert shortened.epochs < original().epochs
    with pytest.raises(UsageError, match="expected no --epochs at the scale paper, found 3"):
        row.recipe_at("paper", 1000, is_digits=False, epochs=3)


def parameters(width):
    return resnext.complexity(Small(template=f"1x{width}d").spec(32), 32).parameters


def test_ids_are_unique_and_runs_have_one_home():
    names = [one.id for one in EXPERIMENTS]
    assert len(names) == len(set(names))
    for one in EXPERIMENTS:
        own = [what.id for what in one.whats]
        assert len(own) == len(set(own))
        assert {what.home for what in one.whats} <= set(names)
    specs: dict[tuple[str, str], object] = {}
    for one in EXPERIMENTS:
        for row in one.rows:
            same = (row.spec, row.small, row.recipe)
            assert specs.setdefault((row.home, row.id), same) == same


def test_table_6_is_trained_on_5000_classes():
    assert [row.spec.classes for row in TABLE6_ROWS] == [5000] * 4


def test_ten_seeds_for_cifar():
    assert experiment("fig7").seeds["paper"] == experiment("table7").seeds["paper"] == 10


def test_a_number_of_the_paper_stands_once():
    keys = [(one.source, one.row, one.column) for one in NUMBERS]
    assert len(keys) == len(set(keys))
    assert number("Table 3", "ResNeXt-50 (32x4d)", "top-1") == 22.2
    assert number("Table 3", "ResNeXt-50 (32x4d)", "top-5") is None


def test_what_recipes_expect_is_what_the_paper_says():
    def expected(name):
        words = about(name).partition("Expect")[2]
        return [float(text) for text in re.findall(r"(\d+\.\d+) %", words)]

    both = [number("Table 7", "ResNeXt-29 (8x64d)", f"CIFAR-{n}") for n in (10, 100)]
    assert expected("cifar") == both
    assert expected("imagenet-100") == [number("Table 3", "ResNeXt-50 (32x4d)", "top-1")]


@pytest.mark.parametrize(
    ("name", "near"), [("fig8", "fig7"), ("tabel3", "table3"), ("TABLE33", "table3")]
)
def test_an_unknown_experiment_is_refused_with_the_nearest(name, near):
    with pytest.raises(UsageError, match=rf"found '{name}' \(did you mean '{near}'\?\)"):
        experiment(name)


def test_an_unknown_row_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"found 'resnext50_32x4' \(did you mean 'resnext50_32x4d"):
        chosen(experiment("table3"), ["resnext50_32x4"])
