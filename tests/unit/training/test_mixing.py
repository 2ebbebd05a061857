import numpy as np
import pytest
import torch

from resnext.training.mixing import Mix, draw_mix, mixed, partners

PINNED = (0.04448687805184876, (0.7613551513161183, 1.0, 0.12155574020022669, 0.4107256146226637))
BOTH = {"mixup": 0.2, "cutmix": 1.0}


def test_a_draw_is_a_function_of_seed_and_step():
    draws = [draw_mix(7, step, **BOTH) for step in range(50)]
    np.random.seed(1)  # noqa: NPY002 - what others draw does not matter
    torch.manual_seed(1)
    assert [draw_mix(7, step, **BOTH) for step in reversed(range(50))] == draws[::-1]
    assert len(set(draws)) == 50
    assert draws != [draw_mix(8, step, **BOTH) for step in range(50)]


def test_a_draw_never_changes():
    """Pinned: another version of NumPy must not change what a run goes on with."""
    assert draw_mix(0, 0, mixup=0.2, cutmix=0) == Mix(pytest.approx(PINNED[0], rel=1e-12))
    box = draw_mix(0, 0, mixup=0, cutmix=1.0).box
    assert box == pytest.approx(PINNED[1], rel=1e-12)


def test_without_either_there_is_none():
    assert draw_mix(0, 3, mixup=0, cutmix=0) is None


@pytest.mark.parametrize(
    ("kinds", "boxes"), [({"mixup": 0.2, "cutmix": 0}, 0), ({"mixup": 0, "cutmix": 1.0}, 1)]
)
def test_one_of_them_alone(kinds, boxes):
    assert {draw_mix(0, s, **kinds).box is not None for s in range(99)} == {bool(boxes)}


def test_a_fair_coin_and_the_distributions():
    draws = [draw_mix(1, step, **BOTH) for step in range(4000)]
    mixups = [mix.weight for mix in draws if mix.box is None]
    # 4000 tosses: four standard deviations are 126
    assert abs(len(mixups) - 2000) < 126
    # Beta(0.2, 0.2): mean 1/2, variance 1 / (4 (2 x 0.2 + 1)) = 0.179
    assert np.mean(mixups) == pytest.approx(0.5, abs=4 * 0.423 / len(mixups) ** 0.5)
    assert np.var(mixups) == pytest.approx(0.179, abs=0.01)


def test_a_box_has_the_area_of_what_the_labels_lose():
    """Where it is not cut at the border, sides are the root of a uniform number of the image's."""
    for step in range(300):
        mix = draw_mix(2, step, mixup=0, cutmix=1.0)
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 1
        assert 0 <= left <= right <= 1
        images = torch.zeros(1, 1, 224, 160)
        found, kept = mixed(images, torch.ones_like(images), mix)
        assert 1 - kept == pytest.approx(found.double().mean().item(), abs=1e-9)
        assert 1 - kept == pytest.approx((bottom - top) * (right - left), abs=2 / 160)
        if min(top, left) > 0 and max(bottom, right) < 1:
            assert bottom - top == pytest.approx(right - left)


def test_images_are_blended_with_their_partners():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    others = partners(4, 2)
    assert others.tolist() == [1, 0, 3, 2]
    found, kept = mixed(images, images[others], Mix(0.75))
    assert kept == 0.75
    assert found[:, 0, 0, 0].tolist() == [0.25, 0.75, 2.25, 2.75]


def test_a_box_comes_from_the_partner_and_the_original_stays_as_it_was():
    images = torch.zeros(2, 1, 4, 4)
    images[1] = 1
    before = images.clone()
    found, kept = mixed(images, images[partners(2, 2)], Mix(1.0, (0.25, 0.75, 0.0, 0.5)))
    assert kept == 1 - 4 / 16
    expected = torch.zeros(4, 4)
    expected[1:3, 0:2] = 1
    assert found[0, 0].equal(expected)
    assert found[1, 0].equal(1 - expected)
    assert images.equal(before)


@pytest.mark.parametrize("count", range(1, 21))
@pytest.mark.parametrize("part", [1, 3, 8])
def test_partners_stay_within_their_part(count, part):
    others = partners(count, part)
    assert (others // part).equal(torch.arange(count) // part)
    assert others[others].equal(torch.arange(count))
