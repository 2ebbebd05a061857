"""The options that several commands share, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated

import typer

from resnext.errors import UsageError

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
OneWeights = Annotated[
    Path | None, typer.Option("--weights", help="File of weights, for a network by name.")
]
ClassNames = Annotated[
    Path | None, typer.Option(help="Names of the network's outputs, one per line in their order.")
]
EngineOption = Annotated[
    str,
    typer.Option(help="torch, compile, onnxruntime, openvino; auto tries them and says which."),
]
EnginePrecision = Annotated[str, typer.Option(help="Of the arithmetic: fp32, bf16 or int8.")]
Calibrate = Annotated[
    str | None, typer.Option(help="Images that int8 learns its ranges from: a data set or folder.")
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Preprocessing, instead of the network's own.")
]


def require_beside(option: str, given: object, partner: str, there: object) -> None:
    """Refuse a word that says nothing without its partner, instead of leaving it out silently.

    Raises:
        UsageError: it was given, and its partner was not; of a flag, given is whether it was.
    """
    if given is None or given is False or there:
        return
    said = option if given is True else f"{option} {given}"
    raise UsageError(f"expected {partner} beside {said}, found none")
