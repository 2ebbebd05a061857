"""A network ready for use as one folder, and how it is read: see `resnext.deploy.artifact`.

model.safetensors  the weights: grouped form, under the names of torchvision and timm
artifact.json      the network, its classes, preprocessing, scores with their protocol, origin
config.json        the same for timm, in the layout of its hub
SHA256SUMS         of the three, in the format of `sha256sum`
README.md          the model card; anybody may edit it
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from resnext.data.profiles import Profile, profile
from resnext.errors import CheckpointError, ResNextError, UsageError
from resnext.model.network import build
from resnext.runs.records import first_problem
from resnext.spec import Spec
from resnext.training.checkpoint import SUMS, tensors_of, verified
from resnext.training.state import require_same

RECORD, CONFIG, WEIGHTS, CARD = "artifact.json", "config.json", "model.safetensors", "README.md"
FILES = (WEIGHTS, RECORD, CONFIG, SUMS, CARD)
FORMAT = 1
"""Of `artifact.json`; fields may be added under one number, with a default."""

MOST_BLOCKS = 2000
"""Of a network in a stranger's file; the deepest known has 600, and building takes time."""


HEAD_BYTES = 512
"""That the head of the weights may hold for each tensor; ours takes a fifth."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class ScoreRecord(_Record):
    """Errors in percent, with all that they depend on."""

    top1_error: float
    top5_error: float | None = None
    """None of five classes or fewer, of which it says nothing."""
    samples: int | None = None
    protocol: str
    profile: str
    precision: str
    engine: str
    data: str
    fingerprint: str
    chosen: bool = False
    """Whether these very images chose the epoch of the weights, which flatters."""


class OriginRecord(_Record):
    """Where weights come from, without a word about the machine's folders."""

    weights: str
    """SHA-256 of the file that they were read from."""
    run: str | None = None
    data: str | None = None
    fingerprint: str | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    epochs: int | None = None
    initial_weights: str | None = None
    commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)


class ArtifactRecord(_Record):
    """The contents of `artifact.json`."""

    format: int = FORMAT
    network: str
    """The specification's name; `spec` is what counts."""
    spec: dict[str, Any]
    classes: tuple[str, ...] | None
    """In the order of the outputs; None where nobody has said their names."""
    profile: str
    preprocessing: dict[str, Any]
    """What the profile does to an image, for readers without this package."""
    scores: tuple[ScoreRecord, ...] = ()
    licence: str | None = None
    description: str | None = None
    weights: str
    """SHA-256 of `model.safetensors`."""
    origin: OriginRecord


def is_artifact(folder: Path) -> bool:
    """Whether a folder is meant to be one."""
    return (folder / RECORD).is_file()


def read_record(folder: Path) -> ArtifactRecord:
    """What `artifact.json` in a folder says, verified.

    Raises:
        CheckpointError: it is missing, was changed, or has no meaning.
    """
    return _parsed(folder / RECORD, verified(folder / RECORD, folder / SUMS))


def read_artifact(folder: Path) -> tuple[ArtifactRecord, Spec, Profile, dict[str, Tensor]]:
    """All that is in the folder of an artifact, verified.

    Raises:
        CheckpointError: a file is missing, was changed, or does not fit the others.
    """
    file = folder / RECORD
    sums = folder / SUMS
    record = read_record(folder)
    verified(folder / CONFIG, sums)
    spec, seen = _spec(file, record), _profile(file, record)
    if record.classes is not None and len(record.classes) != spec.classes:
        raise CheckpointError(
            f"{file} is damaged: expected names of {spec.classes} classes, found "
            f"{len(record.classes)}"
        )
    if seen.channels != spec.in_channels:
        raise CheckpointError(
            f"{file} is damaged: expected a profile of {spec.in_channels} channels, found "
            f"{seen.name} of {seen.channels}"
        )
    try:
        ours = build(spec, device="meta").state_dict()
    except ResNextError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    weights = _weights(folder / WEIGHTS, verified(folder / WEIGHTS, sums), len(ours))
    require_same(f"{folder / WEIGHTS} to hold weights", ours, weights)
    return record, spec, seen, weights


def _weights(file: Path, data: bytes, count: int) -> dict[str, Tensor]:
    """The tensors, unless there are so many more that making them would take long."""
    head = int.from_bytes(data[:8], "little")
    if head > HEAD_BYTES * (count + 64):
        raise CheckpointError(
            f"expected {count} tensors in {file}, found a head of {head:,} bytes, which is for more"
        )
    return tensors_of(file, data)


def _parsed(file: Path, text: bytes) -> ArtifactRecord:
    try:
        found = json.loads(text)
        number = found.get("format") if isinstance(found, dict) else None
        if isinstance(number, int) and number != FORMAT:
            raise CheckpointError(
                f"expected {file} of format {FORMAT}, found {number}: it was made by another "
                "version of resnext; use that one"
            )
        return ArtifactRecord.model_validate_json(text)
    except ValidationError as error:
        raise CheckpointError(f"{file} is damaged: {first_problem(error)}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} is damaged: {error}") from error


def _spec(file: Path, record: ArtifactRecord) -> Spec:
    try:
        blocks = sum(int(stage["blocks"]) for stage in record.spec["stages"])
        if blocks > MOST_BLOCKS:
            raise CheckpointError(
                f"expected at most {MOST_BLOCKS} blocks in {file}, found {blocks}"
            )
        return Spec.from_dict(record.spec)
    except CheckpointError:
        raise
    except (ResNextError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: no network in it: {error}") from error


def _profile(file: Path, record: ArtifactRecord) -> Profile:
    try:
        return profile(record.profile)
    except UsageError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
