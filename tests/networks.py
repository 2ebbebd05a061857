"""Networks in training where kernels are interpreted; see `interpreted`."""

import torch

import resnext
from resnext.training.distributed import ALONE
from resnext.training.recipe import Recipe
from resnext.training.speed import Speed
from resnext.training.trainer import Trainer
from stand_ins import Batch, Batches


def losses(backend, steps=3, precision="fp32", bn_batch=None):
    """Of the first steps of a small network, by the trainer."""
    network = resnext.spec("ResNeXt-11 (8x4d, CIFAR)")
    model = resnext.build(network, seed=0, backend=backend)
    recipe = Recipe(
        name="test", epochs=1, batch_size=4, learning_rate=0.005, weight_decay=0, bn_batch=bn_batch
    )
    trainer = Trainer(model, recipe, world=ALONE, speed=Speed(precision=precision, backend=backend))
    generator = torch.Generator().manual_seed(0)
    batch = Batch(torch.randn(4, 3, 8, 8, generator=generator), torch.arange(4))
    found, before = [], 0.0
    for _ in trainer.train_epoch(Batches([batch] * steps)):
        total = trainer.counts().loss_sum
        found.append((total - before) / 4)
        before = total
    return found
