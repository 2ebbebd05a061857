"""Networks that look trained, and what they say."""

import torch

from resnext import build

NETWORK = "ResNeXt-11 (2x4d, CIFAR, 4 classes)"


def settled(network=NETWORK, seed=0):
    """A network with weights and running statistics of a trained one's kind, none at its start."""
    model = build(network, seed=seed)
    draws = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=draws)
            module.bias.data.normal_(0, 0.2, generator=draws)
            module.running_mean.normal_(0, 0.2, generator=draws)
            module.running_var.uniform_(0.5, 2, generator=draws)
    return model.eval()


def images(count=3, side=32, channels=3, seed=1):
    """N x C x H x W of normal numbers."""
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def answers(model, batch):
    """N x classes, in evaluation mode."""
    with torch.inference_mode():
        return model.eval()(batch)
