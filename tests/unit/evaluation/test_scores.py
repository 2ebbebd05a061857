import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from resnext.errors import DataError
from resnext.evaluation.scores import Part, Scores, evaluate


@dataclass
class Batch:
    images: torch.Tensor
    labels: torch.Tensor


LOGITS = torch.eye(7).repeat(2, 1)[:10]
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 6, 6])
BATCHES = [Batch(x, y) for x, y in zip(LOGITS.split(4), LABELS.split(4), strict=True)]


def test_the_scores_of_a_network_that_says_its_input():
    (scores,) = evaluate(nn.Identity(), BATCHES, samples=10, profile="none", pulse=1e9)
    assert isinstance(scores, Scores)
    assert (scores.protocol, scores.profile) == ("single view", "none")
    # Wrong are images 8 and 9 (classes 1 and 2 for 6), and 6 is the last of the equal others.
    assert (scores.counts.top1_error, scores.counts.top5_error) == (20.0, 20.0)


def test_parts_come_first():
    records = list(evaluate(nn.Identity(), BATCHES, samples=10, profile="none", pulse=0))
    assert [type(r) for r in records] == [Part, Part, Part, Scores]
    assert [(r.step, r.steps, r.counts.samples) for r in records[:2]] == [(1, 3, 4), (2, 3, 8)]


def test_normalisation_uses_running_statistics_and_nothing_changes():
    model = nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 7))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    one = list(evaluate(model, BATCHES, samples=10, profile="none"))[-1]
    single = [Batch(LOGITS[i : i + 1], LABELS[i : i + 1]) for i in range(10)]
    other = list(evaluate(model.train(), single, samples=10, profile="none"))[-1]
    assert one.counts.top1_wrong == other.counts.top1_wrong
    assert one.counts.loss == pytest.approx(other.counts.loss, abs=1e-6)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("samples", [9, 11, 0])
def test_a_set_not_seen_exactly_once_has_no_score(samples):
    with pytest.raises(DataError, match=f"expected {samples} images to score on, found 10"):
        list(evaluate(nn.Identity(), BATCHES, samples=samples, profile="none"))


def test_leading_classes_are_counted_among_themselves():
    """Of classes 0 to 5, image 8 (of class 6) is left out, and class 6 is no answer."""
    (scores,) = evaluate(nn.Identity(), BATCHES, samples=10, profile="none", pulse=1e9, leading=6)
    own = LABELS < 6
    wrong = LOGITS[own][:, :6].argmax(1) != LABELS[own]
    assert scores.leading.samples == int(own.sum()) == 7
    assert scores.leading.top1_wrong == int(wrong.sum())
    assert scores.counts.top1_error == 20.0


def test_leading_classes_without_images_have_no_error():
    (scores,) = evaluate(
        nn.Identity(), BATCHES[2:], samples=2, profile="none", pulse=1e9, leading=3
    )
    assert scores.leading.samples == 0
    assert math.isnan(scores.leading.top1_error)
