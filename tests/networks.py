"""Networks in training where kernels are interpreted; see `interpreted`."""

import torch

import resnext
from resnext.training.distributed import ALONE
from resnext.training.recipe import Recipe
from resnext.training.speed import Speed
from resnext.training.trainer import Trainer
from stand_ins import Batch, Batches


def _trainer(backend, images, bn_batch):
    network = resnext.spec("ResNeXt-11 (8x4d, CIFAR)")
    model = resnext.build(network, seed=0, backend=backend)
    recipe = Recipe(
        name="test",
        epochs=1,
        batch_size=images,
        learning_rate=0.005,
        weight_decay=0,
        bn_batch=bn_batch,
    )
    trainer = Trainer(model, recipe, world=ALONE, speed=Speed(backend=backend))
    generator = torch.Generator().manual_seed(0)
    batch = Batch(torch.randn(images, 3, 8, 8, generator=generator), torch.arange(images))
    return trainer, batch


def losses(backend, steps=2, images=4):
    """Of the first steps of a small network, by the trainer."""
    trainer, batch = _trainer(backend, images, None)
    found, before = [], 0.0
    for _ in trainer.train_epoch(Batches([batch] * steps)):
        total = trainer.counts().loss_sum
        found.append((total - before) / images)
        before = total
    return found


def trained(backend, *, steps, images, bn_batch):
    """The state behind some steps, and how often the fused operation was called."""
    from unittest.mock import patch

    from resnext.kernels import between_norms

    with patch("resnext.model.backend.between_norms", side_effect=between_norms) as noted:
        trainer, batch = _trainer(backend, images, bn_batch)
        for _ in trainer.train_epoch(Batches([batch] * steps)):
            pass
    state = {name: tensor.detach().double() for name, tensor in trainer.model.state_dict().items()}
    return state, noted.call_count
