"""What a run writes down: plain values that are read back strictly."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from resnext.data.loader import BAD_LIMIT
from resnext.data.making import Used
from resnext.kernels import Backend
from resnext.training.recipe import Recipe
from resnext.training.speed import Compilation, Precision

if TYPE_CHECKING:
    from resnext.evaluation.scores import Scores
    from resnext.training.loop import Epoch

OnNan = Literal["stop", "skip"]
"""What follows a step whose gradient is not finite: the end, or the next step."""

NAN_LIMIT = 20
"""Steps without a finite gradient that may be left out of a run."""

FORMAT = 1
"""Of `run.json`; fields may be added under one number, with a default."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class DataRecord(_Record):
    """Which images a run saw."""

    name: str
    location: str
    """`digits`, or an absolute path; how `evaluate` finds the images again."""
    fingerprint: str
    classes: tuple[str, ...]


class RunRecord(_Record):
    """All that decides a run, and where it ran: the contents of `run.json`."""

    format: int = FORMAT
    network: str
    """The specification's name; `spec` is what counts."""
    spec: dict[str, Any]
    recipe: Recipe
    data: DataRecord
    profile: str
    engine: Used = "pillow"
    """What decoded and resized the images; engines agree to two grey levels."""
    seed: int
    machine: str | None = None
    """Processor or GPU; None in older runs."""
    device: str
    threads: int
    """Threads of one operation; another number may round sums differently."""
    processes: int = 1
    precision: Precision = "fp32"
    compilation: Compilation | None = None
    micro_batch: int | None = None
    """Images that go through the network at once; None where it is the whole share of a batch."""
    sync_bn: bool = False
    backend: Backend = "framework"
    """Of the grouped convolutions; others round sums differently."""
    on_nan: OnNan = "stop"
    nan_limit: int = NAN_LIMIT
    """Steps that may be left out, where `on_nan` says so."""
    bad_limit: float = BAD_LIMIT
    """The part of an epoch's images that may be replaced as unusable."""
    initial_weights: str | None = None
    """The file that training began from, and its SHA-256; None for random weights."""
    versions: dict[str, str]
    command: tuple[str, ...]
    commit: str | None
    started: str


class EpochRecord(_Record):
    """One line of `metrics.jsonl`: errors in percent, losses in nats."""

    epoch: int
    learning_rate: float
    train_loss: float | None
    train_error: float
    validation_loss: float | None
    """Nothing where it is not finite, which happens while running statistics settle."""
    validation_error: float
    validation_top5_error: float
    leading_error: float | None = None
    """Of the images of the recipe's leading classes among these, where it has some."""
    seconds: float
    """Of training alone."""
    images_per_second: float
    data_wait: float = 0.0
    """Part of the seconds in which no batch was ready."""
    skipped: int = 0
    """Updates of the run so far that were left out, their gradient not being finite."""

    @classmethod
    def of(cls, trained: "Epoch", scores: "Scores", *, skipped: int) -> Self:
        """Of an epoch that was trained and scored."""
        leading = scores.leading
        return cls(
            epoch=trained.epoch,
            learning_rate=trained.learning_rate,
            train_loss=finite(trained.counts.loss),
            train_error=trained.counts.top1_error,
            validation_loss=finite(scores.counts.loss),
            validation_error=scores.counts.top1_error,
            validation_top5_error=scores.counts.top5_error,
            leading_error=None if leading is None else finite(leading.top1_error),
            seconds=trained.seconds,
            images_per_second=trained.images_per_second,
            data_wait=trained.waited / trained.seconds if trained.seconds else 0.0,
            skipped=skipped,
        )


class StepRecord(_Record):
    """One line of `steps.jsonl`, every so many updates: figures of the epoch so far."""

    epoch: int
    step: int
    updates: int
    learning_rate: float
    loss: float | None
    error: float
    top5_error: float
    seconds: float
    data_wait: float


class NotFinite(_Record):
    """The update whose gradient was not finite, and the images that it came from."""

    update: int
    epoch: int
    numbers: list[int]
    """Positions in the training set."""
    images: list[str]


class BadImage(_Record):
    """An image that could not be used in an epoch, and the one that stood in for it."""

    epoch: int
    image: str
    reason: str
    replacement: str


def finite(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else None


def best(epochs: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch of the lowest validation error; of several, the last, whose rate was the lowest.

    The paper's code reports this minimum over the epochs on the very images it tests with, which
    flatters; a run therefore records both this and its last epoch.
    """
    return min(reversed(epochs), key=lambda epoch: epoch.validation_error)


def ended_early(epochs: Sequence[EpochRecord], patience: int | None) -> bool:
    """Whether so many epochs have passed since the lowest validation error so far was reached."""
    if patience is None or not epochs:
        return False
    first = min(epochs, key=lambda epoch: (epoch.validation_error, epoch.epoch))
    return epochs[-1].epoch - first.epoch >= patience


def differences(ours: RunRecord, theirs: RunRecord) -> Iterator[str]:
    """What makes two runs different ones: `field theirs instead of ours`.

    The machine does not: its device, threads, processes, workers and backend may change between
    two parts of a run, at the price of other rounding. Nor does the place of images or of initial
    weights that are the same, nor what is tolerated: `on_nan` and the limits.
    """
    mine, other = (_deciding(record) for record in (ours, theirs))
    for field in mine:
        if field == "data" and mine["images"] == other["images"]:
            continue
        if field == "initial_weights" and same_weights(mine[field], other[field]):
            continue
        if mine[field] != other[field]:
            yield f"{field} {_short(other[field])} instead of {_short(mine[field])}"


def same_weights(one: str | None, other: str | None) -> bool:
    """Whether two files, as a record names them, hold the same bytes."""
    return one is not None and other is not None and one.split()[-1] == other.split()[-1]


def _deciding(record: RunRecord) -> dict[str, Any]:
    recipe = {f"recipe.{k}": v for k, v in record.recipe.model_dump(mode="json").items()}
    return {
        "network": record.network,
        "spec": json.dumps(record.spec, sort_keys=True),
        **recipe,
        "data": record.data.location,
        "images": record.data.fingerprint,
        "classes": record.data.classes,
        "profile": record.profile,
        "engine": record.engine,
        "seed": record.seed,
        "precision": record.precision,
        "sync_bn": record.sync_bn,
        "initial_weights": record.initial_weights,
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def first_problem(error: ValidationError) -> str:
    """The place and the complaint."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
