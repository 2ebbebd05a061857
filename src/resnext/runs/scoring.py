"""Scoring a run's weights, on its own images or on others."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnext.data import (
    DataSet,
    Profile,
    Source,
    evaluation_batches,
    open_data,
    open_evaluation,
    profile,
)
from resnext.data.making import engine_for
from resnext.errors import CheckpointError, DataError, UsageError
from resnext.evaluation.scores import Part, Scores, evaluate
from resnext.model.network import build
from resnext.runs.folder import RECORD, RunFolder
from resnext.runs.planning import check_workers, lasting, resolve_device, usual_workers
from resnext.runs.records import DataRecord
from resnext.training.checkpoint import load_weights
from resnext.training.distributed import ALONE, World
from resnext.training.state import require_same


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of a run's weights, with what they were measured on."""

    run: Path
    network: str
    data: DataRecord
    own_data: bool
    """Whether these are the images that the run was validated on."""
    scores: Scores

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        counts = self.scores.counts
        return {
            "run": str(self.run),
            "network": self.network,
            "top1_error": counts.top1_error,
            "top5_error": counts.top5_error,
            "loss": counts.loss if math.isfinite(counts.loss) else None,
            "samples": counts.samples,
            "protocol": self.scores.protocol,
            "profile": self.scores.profile,
            "data": self.data.name,
            "location": self.data.location,
            "fingerprint": self.data.fingerprint,
            "own_data": self.own_data,
        }


def evaluate_run(
    path: Path,
    data: str | Path | DataSet | None = None,
    *,
    device: str | None = None,
    workers: int | None = None,
    world: World = ALONE,
) -> Iterator[Part | Evaluation]:
    """Score a run's best weights on its own validation images, or on those of `data`.

    The last thing yielded is the `Evaluation`: `*_, result = evaluate_run(path)`.

    Raises:
        CheckpointError: the folder or the weights are missing or damaged.
        DataError: the run's own images have changed since, or `data` has other classes.

    Where `data` has no validation part and is not what the run was trained on, all its images are
    scored. Of several processes each scores its share, and all learn the same `Evaluation`.
    """
    folder = RunFolder.open(path)
    seen = _stored_profile(folder)
    check_workers(workers)
    where = resolve_device(device, world.local_rank)
    model = load_model(folder, where)
    images, scored, own = _images_of(folder, data)
    batches = evaluation_batches(
        images,
        seen,
        # as in training, so that its number comes again to the last digit
        batch_size=folder.record.recipe.batch_size,
        workers=usual_workers(seen, world.local_size) if workers is None else workers,
        device=where,
        engine=engine_for(images, seen),
        rank=world.rank,
        world=world.size,
    )
    for progress in evaluate(
        model, batches, samples=len(images), profile=seen.name, device=where, world=world
    ):
        if isinstance(progress, Part):
            yield progress
        else:
            yield Evaluation(
                run=path,
                network=folder.record.network,
                data=scored,
                own_data=own,
                scores=progress,
            )


def load_model(folder: RunFolder, device: torch.device | str = "cpu") -> nn.Module:
    """The run's network with its best weights.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network.
    """
    if not folder.weights.exists() and not folder.epochs():
        raise CheckpointError(
            f"expected weights in {folder.path}, found none: no epoch was finished; train again"
        )
    weights = load_weights(folder.weights)
    model = build(folder.spec(), form="grouped", device="meta")
    require_same(f"{folder.weights} to hold weights", model.state_dict(), weights)
    model.load_state_dict(weights, assign=True)
    return model.to(device).to(memory_format=torch.channels_last)


def _stored_profile(folder: RunFolder) -> Profile:
    try:
        seen = profile(folder.record.profile)
    except UsageError as error:
        raise CheckpointError(f"{folder.path / RECORD} is damaged: {error}") from error
    channels = folder.spec().in_channels
    if seen.channels != channels:
        raise CheckpointError(
            f"{folder.path / RECORD} is damaged: expected a profile of {channels} channels, found "
            f"{seen.name} of {seen.channels}"
        )
    return seen


def _images_of(
    folder: RunFolder, given: str | Path | DataSet | None
) -> tuple[Source, DataRecord, bool]:
    """The images to score on, what they are, and whether the run was validated on them."""
    run = folder.record.data
    data = _whole_set(run, run.location if given is None else given)
    if data is not None and data.fingerprint == run.fingerprint:
        return data.validation, run, True
    if given is None:
        raise DataError(
            f"{run.location} has changed since {folder.path}: expected the images it saw, found "
            f"others; to score on them as they are now, say --data {run.location}"
        )
    images = data.validation if data is not None else open_evaluation(str(given))
    where = given.location if isinstance(given, DataSet) else str(given)
    if images.classes != run.classes:
        raise DataError(
            f"expected the {len(run.classes)} classes of {folder.path}, found "
            f"{len(images.classes)} in {where}: {_first_difference(run.classes, images.classes)}"
        )
    record = DataRecord(
        name=Path(where).absolute().stem,
        location=where,
        fingerprint=images.fingerprint(),
        classes=images.classes,
    )
    return images, record, False


def _whole_set(run: DataRecord, location: str | Path | DataSet) -> DataSet | None:
    """The data set if the run was trained at this place: what it learned from is not scored.

    Any other place is only scored, and need not hold anything to train on.
    """
    if isinstance(location, DataSet):
        return location
    same = lasting(str(location)) == run.location
    return open_data(location) if same else None


def _first_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    pairs = zip_longest(ours, theirs)
    at, (expected, found) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
    return f"class {at} is {found!r} instead of {expected!r}"
