import numpy as np
import pytest
import torch
from torch import nn

from resnext.errors import DataError
from resnext.training.loop import Epoch, Step, fit
from resnext.training.recipe import recipe
from resnext.training.trainer import Trainer
from stand_ins import Batch, Batches

CIFAR = recipe("cifar").model_copy(update={"bn_batch": None})


def problem(samples=24, size=8):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(samples, 3, 2, 2, generator=generator)
    labels = torch.randint(4, (samples,), generator=generator)
    pieces = zip(images.split(size), labels.split(size), strict=True)
    return Batches(Batch(x, y) for x, y in pieces)


def epochs(model, batches, plan, pulse=1e9):
    """The records of epochs alone."""
    records = fit(Trainer(model, plan), lambda _, step: batches[step:], pulse=pulse)
    return [record for record in records if isinstance(record, Epoch)]


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))


def numpy_descent(model, batches, plan, rates):
    """Softmax regression by hand: decay on everything, then Nesterov momentum as in torch."""
    weight, bias = (p.detach().double().numpy().copy() for p in model.parameters())
    theta, velocity = np.hstack([weight, bias[:, None]]), 0.0
    for batch, rate in zip(batches, rates, strict=True):
        x = batch.images.flatten(1).double().numpy()
        x = np.hstack([x, np.ones((len(x), 1))])
        p = np.exp(x @ theta.T)
        p = p / p.sum(1, keepdims=True) - np.eye(4)[batch.labels.numpy()]
        gradient = p.T @ x / len(x) + plan.weight_decay * theta
        velocity = plan.momentum * velocity + gradient
        theta = theta - rate * (gradient + plan.momentum * velocity)
    return theta


def test_two_epochs_are_nesterov_descent_written_out():
    plan = CIFAR.model_copy(update={"epochs": 2, "milestones": (2.0,)})
    batches = problem()
    model = linear().double()
    doubles = Batches(Batch(b.images.double(), b.labels) for b in batches)
    expected = numpy_descent(model, list(doubles) * 2, plan, [0.1] * 3 + [0.01] * 3)
    assert [r.epoch for r in epochs(model, doubles, plan)] == [1, 2]
    weight, bias = (p.detach().numpy() for p in model.parameters())
    # float64, 6 steps, |theta| < 1: measured 2e-16.
    np.testing.assert_allclose(np.hstack([weight, bias[:, None]]), expected, rtol=0, atol=2e-15)


def test_the_record_of_an_epoch():
    (epoch,) = epochs(linear(), problem(), CIFAR.with_epochs(1))
    assert (epoch.epoch, epoch.learning_rate, epoch.counts.samples) == (1, 0.1, 24)
    assert 0 < epoch.counts.top1_error < 100
    assert epoch.images_per_second == 24 / epoch.seconds


def test_progress_is_yielded_inside_the_epoch():
    trainer = Trainer(linear(), CIFAR.with_epochs(1))
    *steps, _ = fit(trainer, lambda *_: problem(), pulse=0)
    assert all(isinstance(step, Step) for step in steps)
    assert [(s.step, s.steps, s.counts.samples) for s in steps] == [
        (1, 3, 8),
        (2, 3, 16),
        (3, 3, 24),
    ]


def test_the_device_is_looked_at_when_it_is_time_only():
    trainer = Trainer(linear(), CIFAR.with_epochs(1))
    *steps, _ = fit(trainer, lambda *_: problem(), pulse=1e9)
    assert [step.counts for step in steps] == [None] * 3


def test_batches_are_asked_for_by_epoch_and_step_and_only_when_pulled():
    asked = []
    records = fit(Trainer(linear(), CIFAR), lambda *at: asked.append(at) or problem())
    assert asked == []
    for _ in range(5):
        next(records)
    assert asked == [(1, 0), (2, 0)]


def test_the_model_trains_even_if_the_caller_evaluated_between_epochs():
    model = nn.Sequential(linear(), nn.BatchNorm1d(4))
    for record in fit(Trainer(model, CIFAR.with_epochs(2)), lambda *_: problem()):
        assert model.training
        if isinstance(record, Epoch):
            model.eval()


def test_the_same_seed_gives_the_same_weights():
    def weights(seed):
        model = linear(seed)
        epochs(model, problem(), CIFAR.with_epochs(3))
        return model[1].weight.detach()

    torch.testing.assert_close(weights(1), weights(1), rtol=0, atol=0)
    assert (weights(1) != weights(2)).all()


def test_an_epoch_without_images_is_refused():
    with pytest.raises(DataError, match="found none in epoch 1"):
        epochs(linear(), Batches(), CIFAR)
