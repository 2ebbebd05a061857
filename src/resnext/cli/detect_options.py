"""The words that the commands for detectors share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Data = Annotated[
    Path | None, typer.Option(help="A folder as COCO lays it out: annotations/, train2017/ ...")
]
Annotations = Annotated[
    Path | None, typer.Option(help="A file in COCO's format, where the layout is another.")
]
Images = Annotated[Path | None, typer.Option(help="The folder of its images.")]
Width = Annotated[
    Literal["fp32", "bf16"] | None, typer.Option("--precision", help="Of the activations [fp32].")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures at once.")]
