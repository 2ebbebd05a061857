"""``resnext solve``: Eqn. 4, the width that keeps the cost at another cardinality."""

import json
from typing import Annotated, Any, Literal

import typer

from resnext.budget import Solution, replace_template, table2
from resnext.budget import solve as solve_width
from resnext.catalog import name
from resnext.catalog import spec as read_spec
from resnext.cli.options import AsJson
from resnext.complexity import complexity
from resnext.spec import Spec


def solve(
    cardinality: Annotated[
        int | None,
        typer.Option(min=1, help="C of the template sought; the whole Table 2 if left out."),
    ] = None,
    like: Annotated[str, typer.Option(help="The network whose cost to keep.")] = "ResNet-50",
    budget: Annotated[
        Literal["parameters", "multiply-adds"], typer.Option(help="What to keep.")
    ] = "parameters",
    scope: Annotated[
        Literal["block", "network"], typer.Option(help="Of conv2's block, or of the whole network.")
    ] = "block",
    as_json: AsJson = False,
) -> None:
    """Find the width that keeps the cost at another cardinality."""
    reference = read_spec(like)
    unit: Literal["parameters", "multiply_adds"] = (
        "parameters" if budget == "parameters" else "multiply_adds"
    )
    solutions = (
        table2(reference, budget=unit, scope=scope)
        if cardinality is None
        else (solve_width(cardinality, reference, budget=unit, scope=scope),)
    )
    records = [_record(solution, reference) for solution in solutions]
    if as_json:
        print(json.dumps(records if cardinality is None else records[0], indent=2))
    else:
        _print(records, reference, budget, scope)


def _record(solution: Solution, like: Spec) -> dict[str, Any]:
    whole = complexity(replace_template(like, solution.template))
    before = complexity(like)
    return {
        "cardinality": solution.template.cardinality,
        "width": solution.template.width,
        "group_width": solution.template.group_width,
        "template": str(solution.template),
        "budget": solution.budget,
        "scope": solution.scope,
        "cost": solution.cost,
        "reference": {
            "template": str(solution.reference),
            "cost": solution.reference_cost,
            "parameters": before.parameters,
            "multiply_adds": before.multiply_adds,
        },
        "difference_percent": solution.difference,
        "parameters": whole.parameters,
        "multiply_adds": whole.multiply_adds,
    }


def _print(records: list[dict[str, Any]], like: Spec, budget: str, scope: str) -> None:
    reference = records[0]["reference"]
    whole = name(like) if scope == "network" else f"conv2's block of {name(like)}"
    print(f"{whole}: {reference['cost']:,} {budget} to keep\n")
    line = "{:>11} {:>6} {:>11} {:>13} {:>7} {:>11} {:>14}"
    header = ("cardinality", "width", "group width", scope, "", "parameters", "multiply-adds")
    print(line.format(*header))
    for record in records:
        print(
            line.format(
                record["cardinality"],
                record["width"],
                record["group_width"],
                f"{record['cost']:,}",
                f"{record['difference_percent']:+.1f} %",
                f"{record['parameters']:,}",
                f"{record['multiply_adds']:,}",
            )
        )
    print(
        f"\nthe whole network at {reference['template']}: {reference['parameters']:,} parameters, "
        f"{reference['multiply_adds']:,} multiply-adds"
    )
