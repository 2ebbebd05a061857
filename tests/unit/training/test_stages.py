"""Stages that do not learn, or learn slower than those behind them."""

import pytest
import torch
from torch import nn

import resnext
from resnext.errors import UsageError
from resnext.training.optimizer import sgd
from resnext.training.recipe import recipe
from resnext.training.speed import Speed
from resnext.training.stages import freeze, stage_of, stages_of
from resnext.training.trainer import Trainer
from stand_ins import Batch, Batches

FINETUNE = recipe("finetune").model_copy(update={"bn_batch": 4, "batch_size": 8})


def network():
    return resnext.build("ResNeXt-11 (2x2d, CIFAR)", classes=4, seed=0)


def batches(count):
    g = torch.Generator().manual_seed(0)
    return Batches(
        Batch(torch.randn(8, 3, 8, 8, generator=g), torch.randint(4, (8,), generator=g))
        for _ in range(count)
    )


def trained(**fields):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = Trainer(model, FINETUNE.model_copy(update=fields))
    list(trainer.train_epoch(batches(3)))
    after = trainer.state().weights
    return {name for name in before if not before[name].equal(after[name])}, set(before)


def test_names_tell_the_stage():
    names = ("conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer4.2.bn3.weight", "fc.bias")
    assert [stage_of(name) for name in names] == [1, 1, 2, 5, None]
    assert stages_of(network()) == 4


@pytest.mark.parametrize(("upto", "still"), [("conv1", 1), ("conv3", 3), ("conv5", 4)])
def test_frozen_stages_keep_weights_and_statistics(upto, still):
    moved, names = trained(frozen=upto)
    expected = {name for name in names if (stage_of(name) or 9) > still}
    assert moved == expected
    assert {"fc.weight", "fc.bias"} <= moved


def test_a_frozen_network_continues_to_the_bit():
    wanted = FINETUNE.model_copy(update={"frozen": "conv2"})
    whole, half = (Trainer(network(), wanted) for _ in range(2))
    given = batches(4)
    list(whole.train_epoch(given))
    steps = half.train_epoch(given)
    next(steps), next(steps)
    again = Trainer(network(), wanted)
    again.load(half.state())
    list(again.train_epoch(Batches(list(given)[2:])))
    for name, tensor in whole.state().weights.items():
        assert tensor.equal(again.state().weights[name]), name


def test_each_stage_learns_slower_than_the_one_behind_it():
    wanted = FINETUNE.model_copy(update={"stage_rate": 0.5, "head_rate": 10.0})
    model = network()
    names = {id(p): name for name, p in model.named_parameters()}
    factors = {}
    for group in sgd(model, wanted).param_groups:
        for p in group["params"]:
            factors[names[id(p)].partition(".")[0]] = group["factor"]
    assert factors == {
        "conv1": 0.125,
        "bn1": 0.125,
        "layer1": 0.25,
        "layer2": 0.5,
        "layer3": 1.0,
        "fc": 10.0,
    }


def test_what_cannot_be_frozen_is_refused():
    with pytest.raises(UsageError, match="expected a network with stages to freeze, found Linear"):
        freeze(nn.Linear(2, 2), "conv1")
    sharded = Speed(sharded=True)
    with pytest.raises(UsageError, match="expected frozen=none"):
        Trainer(network(), FINETUNE.model_copy(update={"frozen": "conv1"}), speed=sharded)
