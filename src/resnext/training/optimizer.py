"""The optimiser of a recipe."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from resnext.training.recipe import Recipe
from resnext.training.stages import stage_of, stages_of


class PromptSGD(torch.optim.SGD):
    """torch's SGD, without the decorators that import torch's compiler for whoever compiles a step.

    Nobody does here, and it takes almost as long as importing torch itself (docs/log.md).
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def sgd(
    model: nn.Module, recipe: Recipe, held: Mapping[str, nn.Parameter] | None = None
) -> PromptSGD:
    """The recipe's optimiser, its momentum begun at zero.

    `held` are the parameters as this process holds them, where that is only a part.

    That is the first update that torch makes of it anyway, and it leaves no step that could be
    skipped before momentum exists.
    """
    optimizer = PromptSGD(
        _groups(model, recipe, held or dict(model.named_parameters())),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    if recipe.momentum:
        for group in optimizer.param_groups:
            for p in group["params"]:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def _groups(
    model: nn.Module, recipe: Recipe, held: Mapping[str, nn.Parameter]
) -> list[dict[str, Any]]:
    """Parameters that learn, by rate and decay; the paper's recipes have one group."""
    head = {id(p) for p in _head(model)} if recipe.head_rate != 1 else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    stages = stages_of(model)
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        factor = recipe.head_rate if id(p) in head else 1.0
        factor *= recipe.stage_rate ** (stages - (stage_of(name) or stages))
        decay = recipe.weight_decay if recipe.decay_all or p.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(held[name])
    return [
        {"params": params, "factor": factor, "weight_decay": decay}
        for (factor, decay), params in groups.items()
    ]


def _head(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last linear layer."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return list(linear[-1].parameters()) if linear else []
