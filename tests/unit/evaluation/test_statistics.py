import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnext.evaluation.statistics import Outcomes, wilson

stats = pytest.importorskip("scipy.stats")
metrics = pytest.importorskip("sklearn.metrics")


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_are_scipy_s(pair):
    part, whole = pair
    theirs = stats.binomtest(part, whole).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(part, whole), [100 * p for p in theirs], atol=1e-9)


def test_an_error_of_22_2_percent_on_50000_images_is_known_to_a_third_of_a_point():
    low, high = wilson(11_100, 50_000)
    assert (round(low, 2), round(high, 2)) == (21.84, 22.57)
    assert all(map(math.isnan, wilson(0, 0)))


@pytest.fixture
def outcomes():
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(5000, 7, generator=generator)
    labels = torch.randint(6, (5000,), generator=generator)  # the last class has no image
    return scores, labels, Outcomes.of(scores, labels)


def test_confusion_is_scikit_learn_s(outcomes):
    scores, labels, found = outcomes
    theirs = metrics.confusion_matrix(labels, scores.argmax(1), labels=range(7))
    ours = np.diag(np.bincount(labels[found.ranks == 0], minlength=7))
    for true, predicted, images in found.confusion():
        ours[true, predicted] += images
    np.testing.assert_array_equal(ours, theirs)
    images = [cell[2] for cell in found.confusion()]
    assert images == sorted(images, reverse=True)


def test_errors_by_class_and_counts(outcomes):
    scores, labels, found = outcomes
    top5 = metrics.top_k_accuracy_score(labels, scores, k=5, labels=range(7), normalize=False)
    assert found.counts().top5_wrong == 5000 - top5
    assert found.counts().top1_wrong == int((scores.argmax(1) != labels).sum())
    chances = scores.double().softmax(1).numpy()
    loss = metrics.log_loss(labels, chances, labels=range(7))
    assert found.counts().loss == pytest.approx(loss)
    errors = found.class_errors()
    assert errors[6] is None
    assert errors[2] == pytest.approx(
        100 * float((scores.argmax(1) != labels)[labels == 2].double().mean())
    )


def test_calibration_error_is_that_of_its_definition(outcomes):
    scores, labels, found = outcomes
    confidence, predicted = scores.softmax(1).max(1)
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            right = (predicted == labels)[inside].double().mean()
            total += float(inside.double().mean() * (right - confidence[inside].mean()).abs())
    assert found.calibration_error() == pytest.approx(100 * total, abs=1e-5)


def test_a_network_that_knows_how_sure_it_may_be_is_calibrated():
    scores = torch.tensor([[0.8, 0.2]]).log().repeat(10, 1)
    found = Outcomes.of(scores, torch.tensor([0] * 8 + [1] * 2))
    assert found.calibration_error() == pytest.approx(0, abs=1e-5)
    assert Outcomes.of(scores, torch.zeros(10, dtype=torch.int64)).calibration_error() == (
        pytest.approx(20, abs=1e-5)
    )


def test_equal_scores_and_no_numbers():
    nan = math.nan
    scores = torch.tensor([[1.0, 1.0, 0.0], [nan, nan, nan], [0.0, nan, 1.0]])
    found = Outcomes.of(scores, torch.tensor([0, 0, 2]))
    assert found.predicted.tolist() == [0, 0, 1]
    assert found.ranks.tolist() == [0, 3, 1]
    assert found.confidence.tolist()[1:] == [1, 1]
    assert found.confusion() == [(0, 0, 1), (2, 1, 1)]


def test_outcomes_of_several_processes_are_those_of_one(outcomes):
    scores, labels, found = outcomes
    parts = [Outcomes.of(scores[a:b], labels[a:b]) for a, b in ((0, 1), (1, 4000), (4000, 5000))]
    joined = Outcomes.joined(parts)
    assert joined.counts() == found.counts()
    assert joined.confusion() == found.confusion()
    assert joined.calibration_error() == found.calibration_error()


def test_of_fewer_than_five_classes_the_top_k_is_all_of_them():
    found = Outcomes.of(torch.randn(20, 3), torch.randint(3, (20,)))
    assert found.counts().top5_wrong == 0
