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


PAPER = {"momentum": 0.9, "nesterov": True, "learning_rate": 0.1, "decay": "steps"} | {
    "decay_all": True,
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "ema": None,
    "head_rate": 1.0,
    "warmup_epochs": 0.0,
    "leading": None,
    "stage_rate": 1.0,
    "frozen": "none",
    "class_weights": "none",
    "patience": None,
    "pretrained": False,
}
CIFAR = PAPER | {"epochs": 300, "batch_size": 128, "bn_batch": 128 // 8, "weight_decay": 5e-4}
IMAGENET = PAPER | {"epochs": 100, "batch_size": 256, "bn_batch": 256 // 8, "weight_decay": 1e-4}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cifar", CIFAR | {"milestones": (150, 225), "epoch_steps": None}),
        ("cifar-code", CIFAR | {"milestones": (148, 223), "epoch_steps": None}),
        ("imagenet-100", IMAGENET | {"milestones": (31, 61, 91), "epoch_steps": None}),
        # 5005 = 1,281,167 / 256, rounded up: as many mini-batches as on ImageNet-1K
        (
            "imagenet-5k",
            IMAGENET | {"milestones": (31, 61, 91), "epoch_steps": 5005, "leading": 1000},
        ),
    ],
)
def test_every_field_of_the_papers_recipes(name, fields):
    assert recipe(name).model_dump() == {"name": name, **fields}
    assert -(-1_281_167 // 256) == 5005


def test_the_modern_recipe_has_torchvisions_constants():
    found = recipe("modern")
    assert (found.learning_rate, found.batch_size) == (0.5, 1024)  # 0.5 for 8 x 128
    assert (found.mixup, found.cutmix, found.label_smoothing) == (0.2, 1.0, 0.1)
    assert (found.weight_decay, found.decay_all, found.warmup_epochs) == (2e-5, False, 5)
    assert (found.decay, found.nesterov, found.momentum) == ("cosine", False, 0.9)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("images", [1, 7, 64, 4096])
def test_another_batch_follows_the_linear_rule(name, images):
    before = recipe(name)
    found = before.with_batch_size(images)
    scale = images / before.batch_size
    assert found.learning_rate / images == pytest.approx(before.learning_rate / before.batch_size)
    assert (found.bn_batch or 1) <= images
    if before.ema:
        assert found.ema == pytest.approx(before.ema**scale)
    if before.epoch_steps:
        seen = before.epoch_steps * before.batch_size
        assert found.epoch_steps * images == pytest.approx(seen, rel=images / seen)
    changed = {field for field, value in found if value != getattr(before, field)}
    assert changed <= {"batch_size", "learning_rate", "bn_batch", "ema", "epoch_steps"}
    assert before.with_batch_size(before.batch_size) == before


@pytest.mark.parametrize("images", [0, -8])
def test_no_batch_is_refused(images):
    with pytest.raises(UsageError, match=f"at least 1 image, found {images}"):
        recipe("cifar").with_batch_size(images)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("weight_decay", "1e-4", 1e-4),
        ("decay_all", "false", False),
        ("bn_batch", "null", None),
        ("milestones", "[10, 20.5]", (10, 20.5)),
        ("epoch_steps", "7", 7),
        ("ema", "0.5", 0.5),
    ],
)
def test_a_field_is_set_from_text(field, text, value):
    found = recipe("cifar").with_fields({field: text})
    assert getattr(found, field) == value
    assert found == recipe("cifar").model_copy(update={field: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight_decoy": "1"}, "found 'weight_decoy' .did you mean 'weight_decay'"),
        ({"name": "mine"}, "a field of a recipe to set, found 'name'"),
        ({"weight_decay": "-1"}, "another value of weight_decay, found -1: "),
        ({"weight_decay": "much"}, "another value of weight_decay, found much: "),
        ({"epochs": "1.5"}, "another value of epochs, found 1.5: it should be a valid integer"),
        ({"epochs": "true"}, "another value of epochs, found true: "),
        ({"milestones": "[3, 2]"}, "milestones, found .3, 2.: .*in order"),
        ({"bn_batch": "129"}, "bn_batch, found 129: .*a part of batch_size"),
        ({"decay": "cosine"}, "decay, found cosine: .*a cosine has no milestones"),
        ({"decay": "linear"}, "another value of decay, found linear: "),
        ({"ema": "1"}, "another value of ema, found 1: "),
        ({"momentum": "0"}, "nesterov needs momentum"),
        ({"weight_decay": ""}, "another value of weight_decay, found : "),
        ({"learning_rate": "NaN"}, "another value of learning_rate, found NaN: "),
        ({"learning_rate": "Infinity"}, "another value of learning_rate, found Infinity: "),
        ({"weight_decay": "Infinity"}, "another value of weight_decay, found Infinity: "),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_set_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        recipe("cifar").with_fields(values)
