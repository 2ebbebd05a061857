"""The words that the commands for detectors share, and which of them go together."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from resnext.cli.options import require_beside
from resnext.errors import UsageError

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


def check_set(
    data: Path | None, split: str | None, annotations: Path | None, images: Path | None
) -> None:
    """Refuse words that do not say together which pictures are meant.

    Raises:
        UsageError: two contradict each other, or one says nothing without another.
    """
    if data is not None and annotations is not None:
        raise UsageError("expected --data or --annotations, found both")
    require_beside("--split", split, "--data", data)
    require_beside("--annotations", annotations, "--images", images)
    require_beside("--images", images, "--annotations", annotations)
