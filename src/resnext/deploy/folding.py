"""Batch normalisation as part of the convolution before it: the same function, fewer passes.

In evaluation, y = gamma (Wx - mean) / sqrt(var + eps) + beta is a convolution with weights W scale
and bias beta - mean scale, scale = gamma / sqrt(var + eps). It is computed in float64 and rounded
once, so each weight is off by half a unit in the last place at most.
"""

import copy

from torch import Tensor, fx, nn

from resnext.model.network import ResNeXt


def folded(model: ResNeXt) -> ResNeXt:
    """A copy in evaluation mode whose convolutions do what the normalisations behind them did.

    A normalisation is folded where it is all that looks at a convolution's output. Others, which
    start a block of a pre-activation network, stay.
    """
    made = copy.deepcopy(model).eval()
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    for conv, norm in _pairs(made):
        _set(made, conv, _joined(made.get_submodule(conv), made.get_submodule(norm)))
        _set(made, norm, nn.Identity())
    return made


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """The names of each convolution and of the normalisation that takes its output alone."""
    modules = dict(model.named_modules())
    found = []
    for node in fx.symbolic_trace(model).graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        is_conv = before.op == "call_module" and isinstance(modules[before.target], nn.Conv2d)
        if is_conv and len(before.users) == 1:
            found.append((before.target, node.target))
    return found


def _joined(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    shift = norm.bias.double() - mean.double() * scale
    if conv.bias is not None:
        shift = shift + conv.bias.double() * scale
    made = copy.deepcopy(conv)
    made.weight = _fixed((conv.weight.double() * scale[:, None, None, None]).to(conv.weight))
    made.bias = _fixed(shift.to(conv.weight.dtype))
    return made


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
