"""Exact conversion of weights between the three forms; normalisation and its statistics included.

Footnote 3 of the paper, A1·B1 + A2·B2 = [A1, A2][B1; B2]: paths are rows of the first
convolutions and columns of the last. With the last normalisation behind the sum (footnote 6)
each tensor of one form is a slice of one tensor of another, so nothing is rounded. With a
normalisation inside each path there is no such slice, and conversion is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from resnext.errors import SpecError
from resnext.model.forms import Form
from resnext.spec import Block, Spec

if TYPE_CHECKING:
    from resnext.model.network import ResNeXt

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Link:
    """A module of the grouped form and its parts in another form, slices along ``axis``."""

    grouped: str
    parts: tuple[str, ...]
    axis: int


def links(spec: Spec, form: Form) -> Iterator[Link]:
    """What corresponds to what between the grouped form and ``form``.

    Raises:
        SpecError: the network exists in the split form only.
    """
    if not spec.homogeneous or spec.path_norm:
        why = "its paths differ" if not spec.homogeneous else "it normalises inside each path"
        raise SpecError(
            f"expected a network that has all three forms, found one that has not: {why}"
        )
    if form == "grouped":
        return
    for stage, index, block in spec.blocks():
        yield from _block_links(f"layer{stage + 1}.{index}", block, form)


def _block_links(prefix: str, block: Block, form: Form) -> Iterator[Link]:
    depth = len(block.convs())
    paths = [f"{prefix}.paths.{i}" for i in range(block.paths[0].template.cardinality)]
    post = block.activation == "post"
    for i in range(1, depth):
        norm = i if post else i + 1
        yield Link(f"{prefix}.conv{i}", tuple(f"{path}.conv{i}" for path in paths), 0)
        yield Link(f"{prefix}.bn{norm}", tuple(f"{path}.norm{i}" for path in paths), 0)
    if form == "split":
        yield Link(f"{prefix}.conv{depth}", tuple(f"{path}.conv{depth}" for path in paths), 1)
    else:
        yield Link(f"{prefix}.conv{depth}", (f"{prefix}.expand",), 1)
    if post or block.activation != "pre-opening":
        yield Link(f"{prefix}.bn{depth if post else 1}", (f"{prefix}.norm",), 0)


def state_in_form(state: State, spec: Spec, source: Form, target: Form) -> dict[str, Tensor]:
    """The tensors of a network's state in another form; slices are views or copies, never rounded.

    Args:
        state: ``state_dict`` of the network in form ``source``.
        spec: the network.
        source: the form it is in.
        target: the form wanted.

    Raises:
        SpecError: the network has no such form, or its paths were trained apart.
    """
    if source == target:
        return dict(state)
    return _scatter(_gather(state, links(spec, source)), links(spec, target))


def _gather(state: State, found: Iterator[Link]) -> dict[str, Tensor]:
    """Parts -> grouped."""
    grouped = dict(state)
    for link in found:
        for suffix in _suffixes(state, link.parts[0]):
            parts = [grouped.pop(f"{part}.{suffix}") for part in link.parts]
            grouped[f"{link.grouped}.{suffix}"] = _join(parts, link, suffix)
    return grouped


def _join(parts: list[Tensor], link: Link, suffix: str) -> Tensor:
    if parts[0].ndim:
        return torch.cat(parts, dim=link.axis)
    if not parts[0].is_meta and any(int(part) != int(parts[0]) for part in parts):
        raise SpecError(
            f"expected one {suffix} for all paths of {link.grouped}, found different ones: "
            "the paths were not trained together"
        )
    return parts[0]


def _scatter(grouped: State, found: Iterator[Link]) -> dict[str, Tensor]:
    """Grouped -> parts."""
    state = dict(grouped)
    for link in found:
        for suffix in _suffixes(grouped, link.grouped):
            tensor = state.pop(f"{link.grouped}.{suffix}")
            count = len(link.parts)
            pieces = tensor.chunk(count, link.axis) if tensor.ndim else [tensor] * count
            state |= {
                f"{part}.{suffix}": piece for part, piece in zip(link.parts, pieces, strict=True)
            }
    return state


_SUFFIXES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _suffixes(state: State, module: str) -> list[str]:
    return [suffix for suffix in _SUFFIXES if f"{module}.{suffix}" in state]


def convert(model: "ResNeXt", form: Form = "grouped") -> "ResNeXt":
    """The same function in another form: same weights, statistics, device, dtype and mode.

    Args:
        model: a network from `build`; it is left as it is.
        form: grouped, concat or split.

    Raises:
        SpecError: the network has no such form (unlike paths; normalisation inside paths), its
            paths were trained apart, or its normalisations have unlike settings.
    """
    settings = {
        (norm.eps, norm.momentum) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)
    }
    if len(settings) > 1:
        raise SpecError(f"expected one eps and momentum in all normalisations, found {settings}")
    state = state_in_form(model.state_dict(), model.spec, model.form, form)
    with torch.device("meta"):
        converted = type(model)(model.spec, form, model.backend)
    converted.to_empty(device=model.fc.weight.device).to(model.fc.weight.dtype)
    converted.load_state_dict(state)
    for norm in converted.modules():
        if isinstance(norm, nn.BatchNorm2d):
            ((norm.eps, norm.momentum),) = settings
    _freeze_alike(model, converted)
    return converted.train(model.training)


def _freeze_alike(model: "ResNeXt", converted: "ResNeXt") -> None:
    """Parameters stay frozen where all that they are made of was."""
    flags = {
        key: torch.full(tensor.shape, float(tensor.requires_grad))
        for key, tensor in model.named_parameters()
    }
    moved = state_in_form(flags, model.spec, model.form, converted.form)
    for key, parameter in converted.named_parameters():
        parameter.requires_grad_(bool(moved[key].any()))
