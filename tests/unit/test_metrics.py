import numpy as np
import pytest
import torch
from torch.nn import functional as F

from resnext.metrics import Counts, Tally, ranks


def tallied(logits, labels, parts=1):
    tally = Tally()
    for x, y in zip(logits.chunk(parts), labels.chunk(parts), strict=True):
        tally.add(x, y, F.cross_entropy(x, y))
    return tally.counts()


def numpy_wrong(logits, labels, top):
    best = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    return sum(label not in row for row, label in zip(best, labels, strict=True))


@pytest.mark.parametrize("classes", [2, 5, 6, 100])
@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
def test_counts_are_those_of_a_stable_sort(classes, rounded):
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(500, classes)).astype(np.float32)
    logits = np.round(logits) if rounded else logits
    labels = rng.integers(classes, size=500)
    counts = tallied(torch.from_numpy(logits), torch.from_numpy(labels), parts=7)
    assert counts.samples == 500
    assert counts.top1_wrong == numpy_wrong(logits, labels, 1) > 0
    assert counts.top5_wrong == numpy_wrong(logits, labels, min(5, classes))
    assert counts.top1_error == counts.top1_wrong / 5


def test_loss_is_the_mean_over_images_whatever_the_batches():
    logits = torch.linspace(-3, 3, 70).view(10, 7).sin()
    labels = torch.arange(10) % 7
    exponent = np.exp(logits.double().numpy())
    probability = exponent[np.arange(10), labels.numpy()] / exponent.sum(1)
    # Three batches of 4, 4 and 2 images; float32 losses of about 2: noise measured 6e-8.
    assert tallied(logits, labels, parts=3).loss == pytest.approx(
        -np.log(probability).mean(), abs=6e-7
    )


def test_a_constant_network_is_right_about_the_first_class_only():
    assert ranks(torch.zeros(10, 10), torch.arange(10)).tolist() == list(range(10))


def test_what_is_not_a_number_is_wrong():
    nan = float("nan")
    logits = torch.tensor([[nan, nan, nan], [nan, 2.0, 1.0], [0.0, nan, 1.0]])
    assert ranks(logits, torch.tensor([0, 1, 1])).tolist() == [3, 1, 3]


def test_counts_add_and_are_not_a_number_when_empty():
    one = Counts(samples=4, top1_wrong=1, top5_wrong=0, loss_sum=2.0)
    two = Counts(samples=12, top1_wrong=3, top5_wrong=2, loss_sum=6.0)
    both = one + two + Counts()
    assert both == Counts(samples=16, top1_wrong=4, top5_wrong=2, loss_sum=8.0)
    assert (both.top1_error, both.top5_error, both.loss) == (25.0, 12.5, 0.5)
    assert np.isnan([Counts().top1_error, Counts().loss]).all()
