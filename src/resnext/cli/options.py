"""The options that several commands share, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:N or mps; a GPU if there is one.")
]
Workers = Annotated[
    int | None, typer.Option(help="Processes that prepare images; 0 prepares them here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SaveRows = Annotated[
    Path | None, typer.Option(help="Append JSON lines, with machine and versions, to a file.")
]
