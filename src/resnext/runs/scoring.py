"""Scoring a network's weights: a run's on its own images, or any on others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnext.data import DataSet, Profile, Source, evaluation_batches
from resnext.data.making import Engine, Used, engine_for
from resnext.data.photos import Photo
from resnext.data.whole import WholeBatches, whole_batches
from resnext.errors import UsageError
from resnext.evaluation.protocols import SINGLE, Average, Protocol
from resnext.evaluation.readings import Reading, read, ways
from resnext.evaluation.score_files import About, Scored
from resnext.evaluation.scores import Kept, Part, Scores, evaluate
from resnext.evaluation.views import scorer
from resnext.runs.candidates import Candidate, run_candidate
from resnext.runs.folder import RunFolder
from resnext.runs.images import images_of
from resnext.runs.planning import check_workers, resolve_device, usual_workers
from resnext.runs.records import DataRecord
from resnext.training.batches import Batches
from resnext.training.distributed import ALONE, World
from resnext.training.speed import PLAIN, Speed, check_speed

BATCH = 32
"""Images at once where no run says another number."""

DENSE_BATCH = 4
"""Whole photos at once: at 640 pixels one takes as much memory as ten crops of 224."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to score.

    Attributes:
        protocol: which views of an image.
        ways: ``1k`` or ``5k``: among which classes to choose, of a network of 5000.
        batch_size: images at once in each process; a run's own number if left out.
        workers: that prepare images.
        speed: precision and compilation.
        engine: that decodes and resizes images of one size; engines agree to two grey levels.
        keep: whether to keep the scores of every image.
        class_names: names of the network's outputs, for images of some of these classes.
    """

    protocol: Protocol = SINGLE
    ways: str | None = None
    batch_size: int | None = None
    workers: int | None = None
    speed: Speed = PLAIN
    engine: Engine = "auto"
    keep: bool = False
    class_names: tuple[str, ...] | None = None


USUAL = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of weights, with what they were measured on.

    Attributes:
        run: the folder of the run, or what else was asked for.
        network: its name.
        data: the images.
        own_data: whether these are the images that the run was validated on; None without a run.
        scores: the errors over all classes.
        about: what the scores were measured with.
        readings: the first one is what was asked for; then those that come along.
        scored: the scores of every image, if they were to be kept.
    """

    run: Path
    network: str
    data: DataRecord
    own_data: bool | None
    scores: Scores
    about: About
    readings: tuple[Reading, ...]
    scored: Scored | None = None

    @property
    def images_per_second(self) -> float:
        """Of all processes; loading images included, loading the network left out."""
        return self.scores.counts.samples / max(self.scores.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": str(self.run),
            **described(self.about, self.readings),
            "data": self.data.name,
            "own_data": self.own_data,
            "images_per_second": self.images_per_second,
        }


def described(about: About, readings: Sequence[Reading]) -> dict[str, Any]:
    """Plain values for JSON: the first reading, what it was measured with, the other readings."""
    first, *others = readings
    counts = first.counts
    return {
        "network": about.network,
        "weights": about.weights,
        **first.to_dict(about.classes),
        "loss": counts.loss if torch.tensor(counts.loss).isfinite() else None,
        "samples": counts.samples,
        "protocol": about.protocol,
        "profile": about.profile,
        "precision": about.precision,
        "engine": about.engine,
        "location": about.data,
        "fingerprint": about.fingerprint,
        "others": [reading.to_dict(about.classes) for reading in others],
    }


def evaluate_run(
    path: Path,
    data: str | Path | DataSet | None = None,
    *,
    device: str | None = None,
    workers: int | None = None,
    protocol: str | None = None,
    world: World = ALONE,
) -> Iterator[Part | Evaluation]:
    """Score a run's best weights on its own validation images, or on those of `data`.

    The last thing yielded is the `Evaluation`: `*_, result = evaluate_run(path)`.

    Raises:
        CheckpointError: the folder or the weights are missing or damaged.
        DataError: the run's own images have changed since, or `data` has other classes.
        UsageError: no such protocol, device or number of workers.

    Where `data` has no validation part and is not what the run was trained on, all its images are
    scored. Of several processes each scores its share, and all learn the same `Evaluation`.
    """
    seen = SINGLE if protocol is None else Protocol.parse(protocol)
    where = resolve_device(device, world.local_rank)
    check_workers(workers)
    found = run_candidate(RunFolder.open(path), str(path), where)
    settings = Settings(protocol=seen, workers=workers)
    yield from evaluate_candidate(found, data, settings, device=where, world=world)


def evaluate_candidate(
    found: Candidate,
    data: str | Path | DataSet | None = None,
    settings: Settings = USUAL,
    *,
    device: torch.device | str = "cpu",
    world: World = ALONE,
) -> Iterator[Part | Evaluation]:
    """Score any network with weights; the last thing yielded is the `Evaluation`.

    Args:
        found: from `candidate`.
        data: the images; a run's own if left out.
        settings: how.
        device: where the network is.
        world: the processes, each of which scores its share.

    Raises:
        UsageError: settings that do not fit each other or the network.
        DataError: images of other classes, none, or some that cannot be used.
    """
    where, protocol = torch.device(device), settings.protocol
    asked = ways(found.outputs, settings.ways)
    _check(settings, where, world)
    seen = protocol.prepared(found.profile)
    score = scorer(
        protocol,
        found.model,
        where,
        side=found.side,
        channels=found.channels,
        rule=seen.view.rule if isinstance(seen.view, Photo) else "torchvision",
        speed=settings.speed,
    )
    images, record, own = images_of(found, data, settings.class_names)
    world.require_alike(
        record.fingerprint, lambda a, b: [] if a == b else [f"images {b[:12]} instead of {a[:12]}"]
    )
    for progress in evaluate(
        found.model,
        _batches(found, images, seen, settings, where, world),
        samples=len(images),
        profile=seen.name,
        protocol=protocol,
        score=score,
        keep=True,
        device=where,
        world=world,
    ):
        if isinstance(progress, Part):
            yield progress
            continue
        engine = _engine(images, seen, settings)
        about = _about(found, record.location, images, progress, settings, engine)
        yield Evaluation(
            run=Path(found.given),
            network=found.network,
            data=record,
            own_data=own if found.folder else None,
            scores=progress,
            about=about,
            readings=_readings(progress.kept, protocol, asked, world),
            scored=_scored(progress.kept, about, world) if settings.keep else None,
        )


def _check(settings: Settings, device: torch.device, world: World) -> None:
    check_workers(settings.workers)
    check_speed(settings.speed, device, world)
    if settings.batch_size is not None and settings.batch_size < 1:
        raise UsageError(f"expected a batch of at least 1 image, found {settings.batch_size}")
    if settings.speed.compilation and settings.protocol.kind == "dense":
        raise UsageError(
            f"expected a protocol of one image size for a compiled network, found "
            f"{settings.protocol}"
        )


def _batches(
    found: Candidate,
    images: Source,
    seen: Profile,
    settings: Settings,
    device: torch.device,
    world: World,
) -> Batches | WholeBatches:
    """This process's share, of the kind that the protocol asks for."""
    workers = settings.workers
    usual = usual_workers(seen, world.local_size) if workers is None else workers
    size = settings.batch_size or _usual_batch(found, settings.protocol)
    if settings.protocol.whole:
        return whole_batches(
            images,
            seen,
            settings.protocol.sizes(seen),
            batch_size=size,
            threads=usual,
            rank=world.rank,
            world=world.size,
            device=device,
        )
    return evaluation_batches(
        images,
        seen,
        batch_size=size,
        workers=usual,
        device=device,
        engine=_engine(images, seen, settings),
        rank=world.rank,
        world=world.size,
    )


def _engine(images: Source, seen: Profile, settings: Settings) -> Used:
    if settings.protocol.whole:
        return "pillow"
    return engine_for(images, seen) if settings.engine == "auto" else settings.engine


def _usual_batch(found: Candidate, protocol: Protocol) -> int:
    if protocol.kind == "dense":
        return DENSE_BATCH
    if found.folder is None:
        return BATCH
    # as in training, so that its number comes again to the last digit
    return found.folder.record.recipe.batch_size


def _about(
    found: Candidate,
    location: str,
    images: Source,
    scores: Scores,
    settings: Settings,
    engine: Used,
) -> About:
    return About(
        network=found.network,
        weights=found.weights,
        data=location,
        fingerprint=images.fingerprint(),
        classes=images.classes,
        protocol=scores.protocol,
        profile=scores.profile,
        precision=settings.speed.precision,
        engine=engine,
        average=settings.protocol.average,
    )


def _readings(
    kept: Kept | None, protocol: Protocol, asked: tuple[int, ...], world: World
) -> tuple[Reading, ...]:
    """For each number of classes, the protocol's average first, then the other."""
    several = kept is not None and kept.averaged.probabilities is not None
    averages: list[Average] = [protocol.average]
    if any(world.gather(several)):
        averages.append("logits" if protocol.average == "probabilities" else "probabilities")
    return tuple(
        read(
            None if kept is None else kept.scores(average),
            None if kept is None else kept.labels,
            classes=classes,
            average=average,
            world=world,
        )
        for classes in asked
        for average in averages
    )


def _scored(kept: Kept | None, about: About, world: World) -> Scored:
    """The scores of all processes, on all of them."""
    found = [part for part in world.gather(kept) if part is not None]
    scores = torch.cat([part.scores(about.average) for part in found])
    return Scored(scores, torch.cat([part.labels for part in found]), about)
