import pytest

from resnext.training.loop import rate_of_step
from resnext.training.recipe import recipe
from resnext.training.schedule import learning_rate


def rates(name, epochs):
    return [learning_rate(recipe(name), epoch - 1) for epoch in epochs]


@pytest.mark.parametrize(
    ("name", "epochs"),
    [("cifar", (150, 225)), ("cifar-code", (148, 223)), ("imagenet-100", (31, 61, 91))],
)
def test_the_rate_drops_tenfold_with_the_named_epochs(name, epochs):
    for power, epoch in enumerate(epochs):
        assert rates(name, [epoch - 1, epoch]) == pytest.approx([10**-power / 10, 10**-power / 100])
    assert rates(name, [1])[0] == 0.1


def test_imagenet_is_the_formula_of_the_reference_code():
    expected = [0.1 * 0.1 ** ((epoch - 1) // 30) for epoch in range(1, 101)]
    assert rates("imagenet-100", range(1, 101)) == pytest.approx(expected)


def test_cifar_code_is_the_comparison_of_the_reference_code():
    expected = [
        0.1 * 0.1 ** ((epoch / 300 > 0.49) + (epoch / 300 > 0.74)) for epoch in range(1, 301)
    ]
    assert rates("cifar-code", range(1, 301)) == pytest.approx(expected)


def test_a_rate_is_the_same_for_every_step_of_an_epoch_with_steps():
    for step in (1, 500, 5005):
        assert rate_of_step(recipe("imagenet-100"), 30, step, 5005) == 0.1
        assert rate_of_step(recipe("imagenet-100"), 31, step, 5005) == pytest.approx(0.01)


def test_a_cosine_rises_then_falls_to_nothing():
    small = recipe("small")
    peak, warmup, end = small.learning_rate, small.warmup_epochs, small.epochs
    assert learning_rate(small, 0) == 0
    assert learning_rate(small, warmup / 2) == pytest.approx(peak / 2)
    assert learning_rate(small, warmup) == peak
    assert learning_rate(small, (warmup + end) / 2) == pytest.approx(peak / 2)
    assert learning_rate(small, end) == pytest.approx(0)


def test_the_only_step_of_a_one_epoch_run_still_learns():
    digits = recipe("digits").with_epochs(1)
    assert rate_of_step(digits, 1, 1, 1) > digits.learning_rate / 3
