"""``32x4d``: the template that fixes a whole network (Sec. 3.1), and the width for a budget."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from resnext.errors import NotationError, SpecError

_TEMPLATE = re.compile(r"([1-9][0-9]{0,5})[x×]([1-9][0-9]{0,5})d", re.IGNORECASE)
_LARGEST = (
    10**6
)  # no layer of any network is wider; beyond it a typing error would ask for terabytes


@dataclass(frozen=True, slots=True)
class Template:
    """Cardinality C and bottleneck width d of conv2; every later stage doubles d (rule 2)."""

    cardinality: int
    width: int

    def __post_init__(self) -> None:
        for name, value in (("cardinality", self.cardinality), ("width", self.width)):
            if type(value) is not int or not 1 <= value < _LARGEST:
                raise SpecError(
                    f"expected {name} as a whole number from 1 to {_LARGEST - 1}, found {value!r}"
                )

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Read ``32x4d`` or ``32×4d``.

        Raises:
            NotationError: the text has another shape.
        """
        match = _TEMPLATE.fullmatch(text.strip())
        if match is None:
            raise NotationError(
                f"expected a template CxWd such as '32x4d' (cardinality 32, width 4), "
                f"found {shorten(text)!r}"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.cardinality}x{self.width}d"

    @property
    def group_width(self) -> int:
        """C·d, the channels that the paths have together ("width of group conv." in Table 2)."""
        return self.cardinality * self.width

    def scaled(self, factor: int) -> "Template":
        """The template of a stage whose widths are ``factor`` times conv2's."""
        return Template(self.cardinality, self.width * factor)


def shorten(text: str) -> str:
    """A text that fits in an error message, however long the user's was."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def width_for(budget: int, cost: Callable[[int], int]) -> int:
    """The width whose cost comes nearest to ``budget``; of two equally near ones the smaller.

    Args:
        budget: what the network may cost, in the unit of ``cost``.
        cost: width -> cost, growing with the width.

    Raises:
        SpecError: width 0 would be nearer than width 1.
    """
    if cost(1) >= 2 * budget:
        raise SpecError(
            f"no width keeps the budget of {budget:,}: width 1 already costs {cost(1):,}; "
            "take a smaller cardinality or a larger reference"
        )
    above = 1
    while cost(above) < budget:
        above *= 2
    below = above // 2
    while above - below > 1:
        middle = (above + below) // 2
        if cost(middle) < budget:
            below = middle
        else:
            above = middle
    if below == 0:
        return above
    return below if budget - cost(below) <= cost(above) - budget else above
