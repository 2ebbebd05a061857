"""Losses of rare classes count more, and all together as much as before."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import resnext
from resnext.training.class_weights import class_weights
from resnext.training.recipe import recipe
from resnext.training.trainer import Trainer
from stand_ins import Batch, Batches

BALANCED = recipe("finetune").model_copy(update={"class_weights": "balanced", "bn_batch": None})
LABELS = np.array([0] * 6 + [1] * 3 + [3])


def test_weights_are_the_inverse_of_how_many_there_are():
    found = class_weights(BALANCED, LABELS, 4)
    torch.testing.assert_close(found, torch.tensor([10 / 18, 10 / 9, 1.0, 10 / 3]))
    assert abs(float(found[LABELS].mean()) - 1) < 1e-6
    assert class_weights(recipe("finetune"), LABELS, 4) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_gradient_is_that_of_the_weighted_mean(smoothing):
    """An image's whole loss is weighted, the part that smoothing adds included."""
    g = torch.Generator().manual_seed(0)
    images, labels = torch.randn(10, 3, 8, 8, generator=g), torch.from_numpy(LABELS)
    weights = class_weights(BALANCED, LABELS, 4)
    plain = resnext.build("ResNeXt-11 (2x2d, CIFAR)", classes=4, seed=0).double()
    logits = plain.train()(images.double())
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    (losses * weights[labels]).mean().backward()
    model = resnext.build("ResNeXt-11 (2x2d, CIFAR)", classes=4, seed=0).double()
    smooth = BALANCED.model_copy(update={"label_smoothing": smoothing})
    trainer = Trainer(model, smooth, class_weights=weights)
    next(trainer.train_epoch(Batches([Batch(images.double(), labels)])))
    ours = dict(model.named_parameters())
    for name, p in plain.named_parameters():
        torch.testing.assert_close(ours[name].grad, p.grad, rtol=1e-9, atol=1e-12)
