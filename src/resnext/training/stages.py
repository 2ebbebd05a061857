"""The stages of a network by the names of its modules: what freezes, and what learns slower."""

from torch import nn

from resnext.errors import UsageError
from resnext.training.recipe import Frozen

_STEM = ("conv1", "bn1")
_NAMES: dict[Frozen, int] = {"none": 0, "conv1": 1, "conv2": 2, "conv3": 3, "conv4": 4, "conv5": 5}


def stage_of(name: str) -> int | None:
    """Which stage a parameter or module is in: 1 for conv1, and so on; None behind the last."""
    first = name.partition(".")[0]
    if first in _STEM:
        return 1
    number = first.removeprefix("layer")
    return int(number) + 1 if number != first and number.isdigit() else None


def stages_of(model: nn.Module) -> int:
    """How many there are."""
    return max((stage_of(name) or 0 for name, _ in model.named_children()), default=0)


def freeze(model: nn.Module, upto: Frozen) -> list[nn.Module]:
    """Stop the stages up to one from learning, in place.

    Returns:
        Their modules, which stay in evaluation mode so that normalisation keeps its statistics.

    Raises:
        UsageError: the network has no stages of these names.
    """
    last = _NAMES[upto]
    if not last:
        return []
    frozen = [m for name, m in model.named_children() if (stage_of(name) or last + 1) <= last]
    if not frozen:
        raise UsageError(f"expected a network with stages to freeze, found {type(model).__name__}")
    for module in frozen:
        module.requires_grad_(False)
    return frozen
