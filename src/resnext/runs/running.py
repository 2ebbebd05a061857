"""Training and scoring with a run folder: the loop, the evaluation and the folder put together."""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
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
    train_batches,
)
from resnext.data.loader import Batches
from resnext.data.making import Bad, engine_for
from resnext.errors import CheckpointError, DataError, ResourceError, UsageError
from resnext.evaluation.scores import Part, Scores, evaluate
from resnext.model.network import build
from resnext.runs.folder import RECORD, BadImage, DataRecord, EpochRecord, RunFolder
from resnext.runs.planning import Plan, check_workers, lasting, resolve_device, usual_workers
from resnext.training.checkpoint import load_weights
from resnext.training.loop import Epoch, Step, fit


def train_run(plan: Plan, folder: RunFolder) -> Iterator[Step | Part | BadImage | EpochRecord]:
    """Train, and after each epoch evaluate and save: nothing happens until the result is pulled.

    Yields a `Step` or a `Part` (of the evaluation) from time to time, a `BadImage` for each image
    that another one stood in for, and an `EpochRecord` for every epoch, saved before it is yielded.
    Stopping in between loses the running epoch only.
    """
    # Always the grouped form: it is the fastest one, and what checkpoints hold.
    with _enough_memory(f"for the weights of {plan.name}"):
        model = build(plan.spec, form="grouped", seed=plan.seed, device=plan.device)
    steps = 0
    current = _train_batches(plan, 1)

    noted = 0  # bad images of the epoch that are in the log

    def batches(epoch: int) -> Batches:
        nonlocal current, noted
        current, noted = _train_batches(plan, epoch), 0
        return current

    training = _guarded(fit(model, batches, plan.recipe, device=plan.device), "to train")
    try:
        for progress in training:
            for bad in current.bad[noted:]:
                yield _noted(plan, folder, progress.epoch, bad)
            noted = len(current.bad)
            if isinstance(progress, Step):
                yield progress
                continue
            steps += len(current)
            folder.checkpoint(model.state_dict(), epoch=progress.epoch, step=steps)
            scores = yield from _validate(model, plan)
            epoch = _epoch_record(progress, scores)
            folder.keep(model.state_dict(), epoch)
            yield epoch
    except DataError:
        for bad in current.bad[noted:]:
            _noted(plan, folder, current.maker.epoch, bad)
        raise


def _noted(plan: Plan, folder: RunFolder, epoch: int, bad: Bad) -> BadImage:
    """The image that could not be used, in the folder's log."""
    found = BadImage(
        epoch=epoch,
        image=plan.data.train.describe(bad.index),
        reason=bad.reason,
        replacement=plan.data.train.describe(bad.replacement),
    )
    folder.note(found)
    return found


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
    seen = _stored_profile(folder)
    check_workers(workers)
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
    if not folder.weights.exists() and not folder.epochs():
        raise CheckpointError(
            f"expected weights in {folder.path}, found none: no epoch was finished; train again"
        )
    weights = load_weights(folder.weights)
    model = build(folder.spec(), form="grouped", device="meta")
    expected = {name: _kind(tensor) for name, tensor in model.state_dict().items()}
    found = {name: _kind(tensor) for name, tensor in weights.items()}
    odd = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if odd:
        raise CheckpointError(
            f"{folder.weights} does not fit {folder.record.network}: expected {odd[0]} as "
            f"{expected.get(odd[0], 'nothing')}, found {found.get(odd[0], 'nothing')} "
            f"({len(odd)} such)"
        )
    model.load_state_dict(weights, assign=True)
    return model.to(device)


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


@contextmanager
def _enough_memory(what: str) -> Iterator[None]:
    """One line where memory runs out.

    Raises:
        ResourceError: it did.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise ResourceError(_OUT_OF_MEMORY.format(what)) from error
    except RuntimeError as error:
        if "alloc" not in str(error) and "memory" not in str(error):
            raise
        raise ResourceError(_OUT_OF_MEMORY.format(what)) from error


def _guarded(records: Iterator[Step | Epoch], what: str) -> Iterator[Step | Epoch]:
    with _enough_memory(what):
        yield from records


_OUT_OF_MEMORY = (
    "expected enough memory {}, found too little; take a smaller network, resolution or recipe"
)


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


def _kind(tensor: torch.Tensor) -> str:
    size = "x".join(map(str, tensor.shape)) or "one number"
    return f"{size} of {str(tensor.dtype).removeprefix('torch.')}"
