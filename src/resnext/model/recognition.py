"""Which network a state dict belongs to, told from the shapes of its tensors alone."""

import re
from collections.abc import Iterator, Mapping

from torch import Size, Tensor

from resnext.catalog import CATALOG, Family, Notation
from resnext.errors import ResNextError
from resnext.model.network import build
from resnext.spec import Shortcut, Spec
from resnext.template import Template

State = Mapping[str, Tensor]

_FAMILIES: tuple[tuple[Family, int], ...] = (("imagenet", 2), ("cifar", 2), ("wide", 4))
"""With the layers that are in no block, or that depths count beside them."""

_SHORTCUTS: tuple[Shortcut, ...] = ("B", "none", "C", "A")


def recognised(state: State) -> Spec | None:
    """The network whose names and shapes these are, classes and image channels included.

    Counters of batches (`num_batches_tracked`), which older files lack, do not matter. Shortcuts
    of type A have no weights, so such a network is taken for one without shortcuts.
    """
    wanted = _shapes(state)
    for spec in _candidates(state):
        if _shapes(build(spec, device="meta").state_dict()) == wanted:
            return spec
    return None


def resembled(state: State) -> Spec | None:
    """A network of the same depth and template, whether or not all else fits."""
    return recognised(state) or next(_candidates(state), None)


def counter(name: str) -> bool:
    """Whether a tensor only counts the batches that were normalised."""
    return name.endswith(".num_batches_tracked")


def _shapes(state: State) -> dict[str, Size]:
    return {name: tensor.shape for name, tensor in state.items() if not counter(name)}


def _candidates(state: State) -> Iterator[Spec]:
    """Networks with as many blocks of the same first template."""
    fc, conv = state.get("fc.weight"), state.get("conv1.weight")
    first = state.get("layer1.0.conv1.weight")
    if fc is None or conv is None or first is None or fc.ndim != 2 or conv.ndim != 4:
        return
    classes, channels = fc.shape[0], conv.shape[1]
    for notation in _notations(state, classes, channels):
        try:
            yield notation.spec()
        except ResNextError:
            continue
    blocks = len(_blocks(state))
    for entry in CATALOG:
        spec = entry.spec
        if sum(stage.blocks for stage in spec.stages) == blocks and spec.classes == classes:
            yield spec


def _notations(state: State, classes: int, channels: int) -> Iterator[Notation]:
    """What the first block and the number of blocks say."""
    middle = state.get("layer1.0.conv2.weight")
    if middle is None or middle.ndim != 4:
        return
    convs = 3 if "layer1.0.conv3.weight" in state else 2
    layers = convs * len(_blocks(state))
    groups = middle.shape[0] // middle.shape[1] if convs == 3 and middle.shape[1] else 1
    template = Template(max(groups, 1), middle.shape[0] // max(groups, 1))
    for shortcut in _SHORTCUTS:
        for family, extra in _FAMILIES:
            yield Notation(
                family=family,
                depth=layers + extra,
                template=template,
                preactivation="norm.weight" in state,
                shortcut=shortcut,
                classes=classes,
                in_channels=channels,
            )


def _blocks(state: State) -> set[str]:
    found = (re.match(r"layer\d+\.\d+\.", name) for name in state)
    return {match[0] for match in found if match}
