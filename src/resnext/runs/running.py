"""Training and scoring with a run folder: the loop, the evaluation and the folder put together."""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnext.data import (
    DataSet,
    Source,
    evaluation_batches,
    open_data,
    open_evaluation,
    profile,
    train_batches,
)
from resnext.data.loader import Batches
from resnext.data.making import engine_for
from resnext.errors import CheckpointError, DataError
from resnext.evaluation.scores import Part, Scores, evaluate
from resnext.model.network import build
from resnext.runs.folder import BadImage, DataRecord, EpochRecord, RunFolder
from resnext.runs.planning import Plan, lasting, resolve_device, usual_workers
from resnext.training.checkpoint import load_weights
from resnext.training.loop import Epoch, Step, fit


def train_run(plan: Plan, folder: RunFolder) -> Iterator[Step | Part | BadImage | EpochRecord]:
    """Train, and after each epoch evaluate and save: nothing happens until the result is pulled.

    Yields a `Step` or a `Part` (of the evaluation) from time to time, a `BadImage` for each image
    that another one stood in for, and an `EpochRecord` for every epoch, saved before it is yielded.
    Stopping in between loses the running epoch only.
    """
    # Always the grouped form: it is the fastest one, and what checkpoints hold.
    model = build(plan.spec, form="grouped", seed=plan.seed, device=plan.device)
    steps = 0
    current = _train_batches(plan, 1)

    def batches(epoch: int) -> Batches:
        nonlocal current
        current = _train_batches(plan, epoch)
        return current

    for progress in fit(model, batches, plan.recipe, device=plan.device):
        if isinstance(progress, Step):
            yield progress
            continue
        for bad in _bad_images(plan, progress.epoch, current):
            folder.note(bad)
            yield bad
        scores = yield from _validate(model, plan)
        epoch = _epoch_record(progress, scores)
        steps += len(current)
        folder.keep(model.state_dict(), epoch, step=steps)
        yield epoch


def _bad_images(plan: Plan, epoch: int, batches: Batches) -> Iterator[BadImage]:
    for bad in batches.bad:
        yield BadImage(
            epoch=epoch,
            image=plan.data.train.describe(bad.index),
            reason=bad.reason,
            replacement=plan.data.train.describe(bad.replacement),
        )


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
) -> Iterator[Part | Evaluation]:
    """Score a run's best weights on its own validation images, or on those of `data`.

    The last thing yielded is the `Evaluation`: `*_, result = evaluate_run(path)`.

    Raises:
        CheckpointError: the folder or the weights are missing or damaged.
        DataError: the run's own images have changed since, or `data` has other classes.

    Where `data` has no validation part and is not what the run was trained on, all its images are
    scored.
    """
    folder = RunFolder.open(path)
    seen = profile(folder.record.profile)
    where = resolve_device(device)
    model = load_model(folder, where)
    images, scored, own = _images_of(folder, data)
    batches = evaluation_batches(
        images,
        seen,
        batch_size=folder.record.recipe.batch_size,
        workers=usual_workers(seen) if workers is None else workers,
        device=where,
        engine=engine_for(images, seen),
    )
    for progress in evaluate(model, batches, samples=len(images), profile=seen.name, device=where):
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
    weights = load_weights(folder.weights)
    model = build(folder.spec(), form="grouped", device="meta")
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    odd = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if odd:
        raise CheckpointError(
            f"{folder.weights} does not fit {folder.record.network}: {odd[0]} is "
            f"{_shape(found, odd[0])}, expected {_shape(expected, odd[0])} ({len(odd)} such)"
        )
    model.load_state_dict(weights, assign=True)
    return model.to(device)


def _train_batches(plan: Plan, epoch: int) -> Batches:
    return train_batches(
        plan.data.train,
        plan.profile,
        batch_size=plan.recipe.batch_size,
        seed=plan.seed,
        epoch=epoch,
        workers=plan.workers,
        device=plan.device,
        engine=plan.engine,
        bad_limit=plan.bad_limit,
        reuse=True,
    )


def _validate(model: nn.Module, plan: Plan) -> Generator[Part, None, Scores]:
    images = plan.data.validation
    batches = evaluation_batches(
        images,
        plan.profile,
        batch_size=plan.recipe.batch_size,
        workers=plan.workers,
        device=plan.device,
        engine=plan.engine,
    )
    for progress in evaluate(
        model, batches, samples=len(images), profile=plan.profile.name, device=plan.device
    ):
        if isinstance(progress, Scores):
            return progress
        yield progress
    raise AssertionError("an evaluation ends with its scores")


def _epoch_record(trained: Epoch, scores: Scores) -> EpochRecord:
    loss = scores.counts.loss
    return EpochRecord(
        epoch=trained.epoch,
        learning_rate=trained.learning_rate,
        train_loss=trained.counts.loss,
        train_error=trained.counts.top1_error,
        validation_loss=loss if math.isfinite(loss) else None,
        validation_error=scores.counts.top1_error,
        validation_top5_error=scores.counts.top5_error,
        seconds=trained.seconds,
        images_per_second=trained.images_per_second,
    )


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


def _shape(shapes: Mapping[str, torch.Size], name: str) -> str:
    return "x".join(map(str, shapes[name])) or "one number" if name in shapes else "missing"
