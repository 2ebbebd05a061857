"""A running mean of the weights, which is what gets evaluated where a recipe asks for it."""

import copy

import torch
from torch import Tensor, nn


class RunningMean:
    """The exponential mean of a module's parameters and running statistics over its updates.

    At the start, where there is little to average, it forgets faster: after u updates it keeps
    min(decay, (1 + u) / (10 + u)), TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
        self._live, self._mean = _floats(model), _floats(self.module)

    def update(self, updates: int, held_back: Tensor) -> None:
        """Take in the weights after so many updates; nothing where `held_back` is true.

        It is a boolean on the device, which is not waited for.
        """
        taken = 1 - min(self.decay, (1 + updates) / (10 + updates))
        change = torch._foreach_sub(self._live, self._mean)
        torch._foreach_mul_(change, taken * (~held_back).to(self._live[0].dtype))
        torch._foreach_add_(self._mean, change)


def _floats(module: nn.Module) -> list[Tensor]:
    """Parameters and statistics; counters have no mean."""
    return [
        tensor.detach() for tensor in module.state_dict().values() if tensor.is_floating_point()
    ]
