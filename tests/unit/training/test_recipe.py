import pytest
from pydantic import ValidationError

from resnext.errors import UsageError
from resnext.training.recipe import RECIPES, Recipe, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_name_and_survives_json(name):
    found = recipe(name)
    assert found.name == name
    assert Recipe.model_validate_json(found.model_dump_json()) == found


def test_the_papers_constants():
    cifar, imagenet = recipe("cifar"), recipe("imagenet-100")
    assert (cifar.epochs, cifar.batch_size, cifar.weight_decay) == (300, 128, 5e-4)
    assert (imagenet.epochs, imagenet.batch_size, imagenet.weight_decay) == (100, 256, 1e-4)
    for paper in (cifar, imagenet, recipe("cifar-code")):
        assert (paper.learning_rate, paper.momentum, paper.nesterov) == (0.1, 0.9, True)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"milestones": (3.0, 2.0)},
        {"milestones": (0.5,)},
        {"decay": "cosine"},
        {"unheard_of": 1},
    ],
    ids=str,
)
def test_nonsense_is_refused(change):
    with pytest.raises(ValidationError):
        Recipe(**recipe("cifar").model_dump() | change)


def test_a_recipe_does_not_change():
    with pytest.raises(ValidationError):
        recipe("cifar").epochs = 3


def test_another_number_of_epochs_moves_everything_in_proportion():
    short = recipe("cifar").with_epochs(30)
    assert (short.epochs, short.milestones) == (30, pytest.approx((15.9, 23.4)))
    digits = recipe("digits")
    longer = digits.with_epochs(2 * digits.epochs)
    assert longer.warmup_epochs == 2 * digits.warmup_epochs
    assert recipe("cifar").with_epochs(300) == recipe("cifar")


@pytest.mark.parametrize("epochs", [0, -3])
def test_no_epochs_are_refused(epochs):
    with pytest.raises(UsageError, match=f"at least 1 epoch, found {epochs}"):
        recipe("cifar").with_epochs(epochs)


def test_an_unknown_recipe_names_the_near_one_and_all():
    with pytest.raises(UsageError) as raised:
        recipe("cifar-cod")
    assert "did you mean 'cifar-code'?" in str(raised.value)
    assert all(name in str(raised.value) for name in RECIPES)
