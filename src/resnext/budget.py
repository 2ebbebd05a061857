"""Eqn. 4 solved: the width that keeps a budget at another cardinality, and Table 2 from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from resnext.catalog import spec as read_spec
from resnext.complexity import complexity
from resnext.errors import SpecError
from resnext.spec import Block, Spec
from resnext.template import Template, width_for

Budget = Literal["parameters", "multiply_adds"]
Scope = Literal["block", "network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A template that keeps a budget, beside the reference that set it (Eqn. 4, Table 2)."""

    template: Template
    cost: int
    reference: Template
    reference_cost: int
    budget: Budget
    scope: Scope

    @property
    def difference(self) -> float:
        """How much dearer than the reference, in percent."""
        return 100 * (self.cost / self.reference_cost - 1)


def solve(
    cardinality: int, like: Spec | str, *, budget: Budget = "parameters", scope: Scope = "block"
) -> Solution:
    """The width at which paths of this cardinality cost what the reference costs.

    Args:
        cardinality: C of the template sought.
        like: the reference network, of one template: a specification or a name.
        budget: what to keep, parameters or multiply-adds (at the network's usual resolution).
        scope: of conv2's template block, as Eqn. 4 counts it (no normalisation), or the network.

    Raises:
        SpecError: the reference mixes paths, or even width 1 costs too much.
    """
    if budget not in get_args(Budget) or scope not in get_args(Scope):
        known = f"{' or '.join(get_args(Budget))} of a {' or '.join(get_args(Scope))}"
        raise SpecError(f"expected to keep {known}, found {budget!r} of a {scope!r}")
    return _solve(cardinality, read_spec(like), budget, scope)


def _solve(cardinality: int, like: Spec, budget: Budget, scope: Scope) -> Solution:
    if not like.homogeneous:
        raise SpecError("expected a reference of one template, found unlike paths")
    reference = like.stages[0].paths[0].template

    def cost(width: int) -> int:
        template = Template(cardinality, width)
        if scope == "network":
            return int(getattr(complexity(replace_template(like, template)), budget))
        return _block_cost(like, template, budget)

    reference_cost = (
        int(getattr(complexity(like), budget))
        if scope == "network"
        else _block_cost(like, reference, budget)
    )
    width = width_for(reference_cost, cost)
    return Solution(
        template=Template(cardinality, width),
        cost=cost(width),
        reference=reference,
        reference_cost=reference_cost,
        budget=budget,
        scope=scope,
    )


def table2(
    like: Spec | str,
    cardinalities: Sequence[int] = (1, 2, 4, 8, 32),
    *,
    budget: Budget = "parameters",
    scope: Scope = "block",
) -> tuple[Solution, ...]:
    """Table 2: the width that keeps the cost, for each cardinality."""
    return tuple(solve(c, like, budget=budget, scope=scope) for c in cardinalities)


def replace_template(like: Spec, template: Template) -> Spec:
    """The reference with another template; every stage keeps its factor of conv2's width."""
    first = like.stages[0].paths[0].template.width
    stages = []
    for stage in like.stages:
        (paths,) = stage.paths
        scaled = template.scaled(paths.template.width // first)
        stages.append(replace(stage, paths=(replace(paths, template=scaled),)))
    return replace(like, stages=tuple(stages))


def _block_cost(like: Spec, template: Template, budget: Budget) -> int:
    """Eqn. 4 for the reference's own topology: a block that keeps size and channels."""
    stage = replace_template(like, template).stages[0]
    block = Block(
        in_channels=stage.out_channels,
        out_channels=stage.out_channels,
        stride=1,
        paths=stage.paths,
        shortcut="identity",
        activation="post",
    )
    parameters = sum(conv.parameters for conv in block.convs())
    if budget == "parameters":
        return parameters
    return parameters * _template_map(like)


def _template_map(like: Spec) -> int:
    """Pixels of conv2's map (56 x 56 in Table 2)."""
    conv2 = complexity(like).stages[1]
    return conv2.height * conv2.width
