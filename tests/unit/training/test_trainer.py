"""One step of training: what moves, what stays, what is saved."""

import pytest
import torch
from torch import nn

from resnext.training.batch_norm import use_parts
from resnext.training.mixing import draw_mix, mixed
from resnext.training.recipe import recipe
from resnext.training.speed import Speed
from resnext.training.trainer import Trainer
from stand_ins import Batch, Batches

CIFAR = recipe("cifar").model_copy(update={"bn_batch": 4, "ema": 0.9})


def network(dtype=torch.float32):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4))
    return nn.Sequential(*layers).to(dtype)


def batches(count, size=8, dtype=torch.float32, seed=1):
    g = torch.Generator().manual_seed(seed)
    return Batches(
        Batch(
            torch.randn(size, 3, 4, 4, generator=g).to(dtype),
            torch.randint(4, (size,), generator=g),
        )
        for _ in range(count)
    )


def snapshot(trainer):
    state = trainer.state()
    return {k: v.clone() for k, v in (state.weights | state.tensors).items()}


def moved(before, after):
    return sorted(name for name in before if not before[name].equal(after[name]))


def test_a_step_that_is_skipped_moves_nothing():
    given = batches(3)
    given[1].images[2, 0, 0, 0] = float("inf")
    trainer = Trainer(network(), CIFAR, skip_bad=True)
    steps = trainer.train_epoch(given)
    next(steps)
    before = snapshot(trainer)
    assert {name.partition("/")[0] for name in before} >= {"momentum", "average", "1.running_mean"}
    next(steps)
    assert moved(before, snapshot(trainer)) == []
    assert trainer.bad_steps() == (1, 2)
    assert trainer.position.updates == 2
    next(steps)
    # a mean of counters would mean nothing
    assert set(before) - set(moved(before, snapshot(trainer))) == {"average/1.num_batches_tracked"}
    assert all(tensor.isfinite().all() for tensor in snapshot(trainer).values())


def test_a_step_that_the_loss_scale_skips_moves_nothing():
    """What float16 does on a GPU: such a step is no end, so nothing of it may stay."""
    given = batches(3)
    given[1].images[2, 0, 0, 0] = float("inf")
    trainer = Trainer(network(), CIFAR)
    trainer._scaler = torch.amp.GradScaler("cpu")
    steps = trainer.train_epoch(given)
    next(steps)
    before, scale = snapshot(trainer), trainer._scaler.get_scale()
    next(steps)
    assert moved(before, snapshot(trainer)) == []
    assert trainer._scaler.get_scale() == scale / 2
    next(steps)
    assert set(before) - set(moved(before, snapshot(trainer))) == {"average/1.num_batches_tracked"}
    assert all(tensor.isfinite().all() for tensor in snapshot(trainer).values())


def test_without_skipping_no_weight_moves_from_there_on():
    given = batches(4)
    given[1].images[0] = float("nan")
    trainer = Trainer(network(), CIFAR)
    steps = trainer.train_epoch(given)
    next(steps)
    before = snapshot(trainer)
    list(steps)
    after = snapshot(trainer)
    learned = [name for name in before if "running" not in name and "tracked" not in name]
    learned = [name for name in learned if not name.startswith("average/")]
    assert [name for name in moved(before, after) if name in learned] == []
    # all steps behind the first had weights that did not move, and finite gradients
    assert trainer.bad_steps() == (1, 2)


def test_a_share_without_images_takes_part(monkeypatch):
    """The last batch of an epoch may have fewer images than there are processes."""
    given = batches(1, size=0)
    monkeypatch.setattr(type(given), "totals", [8])
    trainer = Trainer(network(), CIFAR.model_copy(update={"bn_batch": None}))
    assert len(list(trainer.train_epoch(given))) == 1
    assert trainer.position.updates == 1


@pytest.mark.parametrize("given", ["training", "loaded"])
def test_a_state_goes_on_to_the_bit(given):
    whole = Trainer(network(), CIFAR, seed=3)
    list(whole.train_epoch(batches(4)))
    first = Trainer(network(), CIFAR, seed=3)
    steps = first.train_epoch(batches(4))
    next(steps), next(steps)
    then = first
    if given == "loaded":
        then = Trainer(network(), CIFAR, seed=3)
        then.load(first.state())
        steps = then.train_epoch(Batches(batches(4)[2:]))
    list(steps)
    assert moved(snapshot(whole), snapshot(then)) == []
    assert whole.counts() == then.counts()
    assert whole.position == then.position


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mix", [{}, {"mixup": 0.2, "cutmix": 1.0}], ids=["plain", "mixed"])
def test_micro_batches_are_a_batch(mix, label_smoothing):
    """Of the parts that normalisation sees, whatever goes through the network at once."""
    fields = {"label_smoothing": label_smoothing, **mix}

    def trained(micro_batch):
        trainer = Trainer(
            network(torch.float64),
            CIFAR.model_copy(update=fields),
            speed=Speed(micro_batch=micro_batch),
        )
        given = batches(4, size=14, dtype=torch.float64)
        # the last batch goes through at once, and must not count as the one before it did
        list(trainer.train_epoch(Batches([*given, *batches(1, size=4, dtype=torch.float64)])))
        return trainer

    whole, parts = trained(None), trained(4)
    one, other = snapshot(whole), snapshot(parts)
    for name in one:
        if "tracked" not in name:
            # float64 over 5 steps: measured 2e-15
            torch.testing.assert_close(other[name], one[name], rtol=0, atol=2e-14)
    assert parts.counts().loss == pytest.approx(whole.counts().loss, rel=1e-13)


@pytest.mark.parametrize("kinds", [{"mixup": 0.2}, {"cutmix": 1.0}], ids=str)
def test_the_loss_of_a_mixed_batch_is_that_of_both_labels_in_their_shares(kinds):
    plan = CIFAR.model_copy(update=kinds)
    (batch,) = given = batches(1, dtype=torch.float64)
    trainer = Trainer(network(torch.float64), plan, seed=5)
    list(trainer.train_epoch(given))
    mix = draw_mix(5, 0, mixup=plan.mixup, cutmix=plan.cutmix)
    others = torch.tensor([3, 2, 1, 0, 7, 6, 5, 4])  # the parts of 4, reversed
    images, kept = mixed(batch.images, batch.images[others], mix)
    assert 0.01 < kept < 0.99
    model = network(torch.float64)
    use_parts(model, 4)
    chances = model(images).softmax(1)
    pair = (batch.labels, batch.labels[others])
    own, partner = (-chances[range(8), labels].log() for labels in pair)
    expected = (kept * own + (1 - kept) * partner).mean().item()
    assert trainer.counts().loss == pytest.approx(expected, rel=1e-12)
