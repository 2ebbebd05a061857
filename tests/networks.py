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


def compiled(backend):
    """The largest differences of gradients and statistics between a whole graph and eager."""
    found = []
    for make in (lambda m: m, lambda m: torch.compile(m, fullgraph=True, backend="aot_eager")):
        model = resnext.build("ResNeXt-11 (8x4d, CIFAR)", seed=0, backend=backend).train()
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16):
            loss = make(model)(images).float().square().sum()
        loss.backward()
        gradients = [parameter.grad.flatten() for parameter in model.parameters()]
        statistics = [buffer.flatten().float() for buffer in model.buffers()]
        found.append((torch.cat(gradients), torch.cat(statistics)))
    return [float((a - b).abs().max()) for a, b in zip(*found, strict=True)]


def exported(backend):
    """Operations of ours in the graph of an exported network."""
    model = resnext.build("ResNeXt-11 (8x4d, CIFAR)", seed=0, backend=backend).eval()
    program = torch.export.export(model, (torch.randn(2, 3, 8, 8),))
    return sum("resnext" in str(node.target) for node in program.graph.nodes)


def distributed(backend, port):
    """Gradients of a step under DDP, of one process, and without."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=1, rank=0)
    try:
        found = []
        for wrap in (lambda m: m, DistributedDataParallel):
            model = resnext.build("ResNeXt-11 (8x4d, CIFAR)", seed=0, backend=backend).train()
            images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
            wrap(model)(images).square().sum().backward()
            found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    finally:
        dist.destroy_process_group()
    return float((found[0] - found[1]).abs().max())
