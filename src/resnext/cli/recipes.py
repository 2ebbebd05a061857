"""``resnext recipes``: the optimisations that have a name."""

import json
from typing import Annotated

import typer

from resnext.cli.options import AsJson


def recipes(
    name: Annotated[str | None, typer.Argument(help="One of them, with all its fields.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes, or say all of one.

    Where it comes from, what it costs and what to expect.
    """
    from resnext.training.recipe import RECIPES, about, recipe

    chosen = [recipe(name)] if name else [make() for make in RECIPES.values()]
    if as_json:
        found = [one.model_dump(mode="json") | {"about": about(one.name)} for one in chosen]
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif name:
        print(about(name), end="\n\n")
        for field, value in chosen[0].model_dump().items():
            print(f"{field:<16} {value}")
    else:
        for one in chosen:
            print(f"{one.name:<14} {about(one.name).partition(chr(10))[0]}")
