"""Normalisation that detection does not train: frozen, recalibrated, or folded away."""

from collections.abc import Iterable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from resnext.errors import UsageError


class FrozenNorm(nn.Module):
    """Batch normalisation by fixed statistics, scale and shift: four buffers, nothing that learns.

    Unlike torchvision's it keeps the eps that the network was trained with, and the type of its
    input, which autocast may have narrowed.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((channels,), float(value)))

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "FrozenNorm":
        """A normalisation as it is now."""
        frozen = cls(norm.num_features, norm.eps).to(norm.weight.device)
        state = {k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"}
        frozen.load_state_dict(state, assign=norm.weight.is_meta)
        return frozen

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What each channel is multiplied with, and what is added."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W -> the same."""
        scale, shift = (value.to(x.dtype)[:, None, None] for value in self.scale_and_shift())
        return (x * scale).add_(shift)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # a counter that only training reads
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Channels and eps."""
        return f"{len(self.weight)}, eps={self.eps}"


def freeze_norms(model: nn.Module) -> nn.Module:
    """Put a `FrozenNorm` in place of every batch normalisation, in place; returns the model."""
    if isinstance(model, nn.BatchNorm2d):
        return FrozenNorm.of(model)
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, FrozenNorm.of(child))
        else:
            freeze_norms(child)
    return model


@torch.no_grad()
def recalibrate_bn(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Take the statistics of all batch normalisations anew, as the mean over these batches.

    He et al. (CVPR 2016, appendix A) do so on the training images before fixing them. The network
    is otherwise as it was, its mode included.

    Args:
        model: with batch normalisation that is not frozen yet.
        batches: N x C x H x W, prepared as the network wants them.

    Returns:
        The number of batches.

    Raises:
        UsageError: there is no batch normalisation, or no batch.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise UsageError("expected batch normalisation to recalibrate, found none or frozen ones")
    before = [(norm.training, norm.momentum) for norm in norms]
    training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    taken = 0
    for batch in batches:
        model(batch)
        taken += 1
    model.train(training)
    for norm, (mode, momentum) in zip(norms, before, strict=True):
        norm.train(mode)
        norm.momentum = momentum
    if not taken:
        raise UsageError("expected images to recalibrate normalisation on, found none")
    return taken


def fold_norms(model: nn.Module) -> nn.Module:
    """Fold every `FrozenNorm` into the convolution in front of it, in place; returns the model.

    Exact but for rounding, for testing only. Follows the names of blocks: ``bnK`` behind ``convK``,
    and an entry of a sequence behind the one before. A normalisation with no convolution in front,
    as in pre-activation blocks, stays.
    """
    for module in model.modules():
        for conv_name, norm_name in _pairs(module):
            conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
            setattr(module, conv_name, _folded(conv, norm))
            setattr(module, norm_name, nn.Identity())
    return model


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the normalisations behind them."""
    children = dict(module.named_children())
    if isinstance(module, nn.Sequential):
        names = list(children)
        found = list(pairwise(names))
    else:
        behind = getattr(module, "activate", None) is not None and hasattr(module, "shared")
        found = [] if behind else [(f"conv{i}", f"bn{i}") for i in range(1, len(children) + 1)]
    return [
        (conv, norm)
        for conv, norm in found
        if isinstance(children.get(conv), nn.Conv2d) and isinstance(children.get(norm), FrozenNorm)
    ]


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, FrozenNorm)
    scale, shift = norm.scale_and_shift()
    folded = deepcopy(conv)
    with torch.no_grad():
        folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
        folded.bias = nn.Parameter(shift if conv.bias is None else shift + conv.bias * scale)
    return folded
