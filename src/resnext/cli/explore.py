"""``resnext explore``: a page on which controls make a network, as one file."""

from pathlib import Path
from typing import Annotated

import typer

from resnext.cli.display import interruptible, loading
from resnext.cli.places import check_new_file


def explore(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("explore.html"),
) -> None:
    """Write a page whose controls make networks, with exact cost.

    It is one file, works offline, and holds the costs of some 25,000 networks. `resnext serve` has
    the same page for any network.
    """
    check_new_file(out, "--out")
    with interruptible(lambda: "nothing was written"), loading() as doing:
        from resnext.deploy.explore import file_page
        from resnext.files import write_bytes

        doing("counting the costs of some 25,000 networks")
        write_bytes(out, file_page().encode())
    print(f"page     {out}")
