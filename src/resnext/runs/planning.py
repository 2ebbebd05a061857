"""Deciding a run before anything is written: what is not said follows from the data."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

import resnext
from resnext.data import DataSet, Profile, open_data
from resnext.data.loader import BAD_LIMIT
from resnext.data.making import Used, engine_for
from resnext.errors import DataError, ResourceError, UsageError
from resnext.kernels import backend_for, kept_backend
from resnext.runs.beginning import beginning
from resnext.runs.choosing import chosen_profile, chosen_recipe, new_head, usual_network
from resnext.runs.fitting import fitting_speed
from resnext.runs.folder import RECORD, RunFolder
from resnext.runs.keeping import left_off
from resnext.runs.pretrained import Initial, require_fitting
from resnext.runs.provenance import machine, source_commit, versions
from resnext.runs.records import NAN_LIMIT, DataRecord, OnNan, RunRecord, differences
from resnext.spec import Spec
from resnext.training.distributed import ALONE, World
from resnext.training.recipe import Recipe
from resnext.training.speed import PLAIN, Speed, check_sharding, check_speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run that is fully decided, with nothing written yet."""

    spec: Spec
    recipe: Recipe
    data: DataSet
    profile: Profile
    seed: int
    device: torch.device
    workers: int
    engine: Used
    bad_limit: float
    speed: Speed
    on_nan: OnNan
    nan_limit: int
    initial: Initial | None
    new_head: bool
    """Whether the classifier of the initial weights is of no use."""
    processes: int
    name: str

    def create(self, out: Path | None = None, command: Sequence[str] = ()) -> RunFolder:
        """Make the folder of the run.

        Raises:
            UsageError: `out` exists, or cannot be made.
        """
        return RunFolder.create(out, self.name, self.record(command))

    def create_or_continue(self, out: Path | None, command: Sequence[str] = ()) -> RunFolder:
        """The folder `out`, new or begun by the same plan; if not said, what was left off, or new.

        Raises:
            UsageError: it was begun by another plan; the message says how that differs.
            DataError: it was begun by the same plan, and the images have changed.
        """
        if out is None:
            return left_off(self.name, self.create_or_continue) or self.create(None, command)
        if not (out / RECORD).exists():
            return self.create(out, command)
        folder = RunFolder.open(out)
        odd = list(differences(folder.record, self.record(command)))
        if odd:
            raise kind_of(odd)(
                f"expected the run that {out} was begun with, found another: "
                f"{'; '.join(odd[:5])}; take another --out, or --resume {out} to continue it"
            )
        return folder

    def record(self, command: Sequence[str] = ()) -> RunRecord:
        """What `run.json` says of it."""
        return RunRecord(
            network=resnext.name(self.spec),
            # through JSON, so that what is in memory is what will be read back
            spec=json.loads(json.dumps(self.spec.to_dict())),
            recipe=self.recipe,
            data=data_record(self.data),
            profile=self.profile.name,
            engine=self.engine,
            seed=self.seed,
            machine=machine(self.device),
            device=str(self.device),
            threads=torch.get_num_threads(),
            processes=self.processes,
            precision=self.speed.precision,
            compilation=self.speed.compilation,
            micro_batch=self.speed.micro_batch,
            sync_bn=self.speed.sync_bn,
            backend=self.speed.backend or "framework",
            on_nan=self.on_nan,
            nan_limit=self.nan_limit,
            bad_limit=self.bad_limit,
            initial_weights=str(self.initial) if self.initial else None,
            versions=versions(),
            command=tuple(command),
            commit=source_commit(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def plan(
    data: str | Path | DataSet = "digits",
    network: str | Spec | None = None,
    recipe_name: str | Recipe | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
    seed: int = 0,
    device: str | None = None,
    workers: int | None = None,
    resolution: int | None = None,
    profile_name: str | None = None,
    bad_limit: float = BAD_LIMIT,
    speed: Speed = PLAIN,
    on_nan: OnNan = "stop",
    nan_limit: int = NAN_LIMIT,
    weights: str | Path | Initial | None = None,
    world: World = ALONE,
) -> Plan:
    """Decide a run: what is not said follows from the data.

    Args:
        data: digits, a place, or a data set.
        network: its name or specification.
        recipe_name: its name or the recipe.
        epochs: instead of the recipe's, its schedule scaled.
        batch_size: instead of the recipe's, its rate scaled by the linear rule.
        settings: fields of the recipe, as text.
        seed: of weights, order and augmentation.
        device: as torch names it; a GPU if there is one.
        workers: processes that prepare images.
        resolution: of photos, in pixels.
        profile_name: of the preprocessing.
        bad_limit: the part of an epoch's images that may be replaced as unusable.
        speed: how steps are computed.
        on_nan: whether a step without a finite gradient ends training or is left out.
        nan_limit: how many may be left out.
        weights: a run folder or a file to begin from.
        world: the processes that train together.

    Raises:
        ResNextError: something asked for does not exist or does not fit.
    """
    if not 0 <= seed < 2**64:
        raise UsageError(f"expected a seed from 0 to 2^64 - 1, found {seed}")
    if not 0 <= bad_limit <= 1:
        raise UsageError(f"expected a limit of bad images from 0 to 1, found {bad_limit}")
    check_workers(workers)
    where = resolve_device(device, world.local_rank)
    speed = replace(speed, backend=backend_for(speed.backend, where))
    check_speed(speed, where, world)
    named = resnext.spec(network) if network is not None else None
    opened = data if isinstance(data, DataSet) else open_data(str(data))
    begun = None if weights is None else beginning(weights)
    seen = chosen_profile(opened, resolution, profile_name, begun)
    named = named or usual_network(opened, seen, begun)
    wanted = _adapted(chosen_recipe(recipe_name, opened, begun), epochs, batch_size, settings)
    if wanted.pretrained and begun is None:
        raise UsageError(
            f"expected weights to begin from for the recipe {wanted.name}, found none; say "
            "--weights with a run folder, a file, torchvision:NAME or timm:NAME"
        )
    spec = _fitted(named, opened, seen)
    _check_together(wanted, spec, speed, world)
    anew = begun is not None and new_head(begun, wanted, opened)
    if begun is not None and not isinstance(weights, Initial):  # of a run that may be over them
        require_fitting(spec, begun.initial, new_head=anew)
    return Plan(
        spec=spec,
        recipe=wanted,
        data=opened,
        profile=seen,
        seed=seed,
        device=where,
        workers=usual_workers(seen, world.local_size) if workers is None else workers,
        engine=engine_for(opened.train, seen),
        bad_limit=bad_limit,
        speed=fitting_speed(speed, spec, seen.resolution, wanted, where, world, len(opened.train)),
        on_nan=on_nan,
        nan_limit=nan_limit,
        initial=None if begun is None else begun.initial,
        new_head=anew,
        processes=world.size,
        name=f"{_short(named)}-{_slug(opened.name)}-seed{seed}",
    )


def plan_again(
    folder: RunFolder,
    asked: Mapping[str, Any] = MappingProxyType({}),
    *,
    device: str | None = None,
    workers: int | None = None,
    bad_limit: float | None = None,
    speed: Speed = PLAIN,
    on_nan: OnNan | None = None,
    nan_limit: int | None = None,
    world: World = ALONE,
) -> Plan:
    """The plan that a folder was begun with, for the machine as it is now.

    `asked` holds arguments of `plan` that somebody gave once more; they must come to the same.

    Raises:
        UsageError: they do not; the message shows the difference.
        DataError: the images have changed.
    """
    record = folder.record
    again = plan(
        **{
            "data": record.data.location,
            "network": folder.spec(),
            "recipe_name": record.recipe,
            "seed": record.seed,
            "profile_name": record.profile,
            "weights": Initial.parse(record.initial_weights) if record.initial_weights else None,
            **asked,
        },
        device=device,
        workers=workers,
        bad_limit=record.bad_limit if bad_limit is None else bad_limit,
        speed=replace(
            speed,
            precision=record.precision,
            sync_bn=record.sync_bn,
            compilation=speed.compilation or record.compilation,
            micro_batch=speed.micro_batch or record.micro_batch,
            backend=speed.backend or kept_backend(record.backend, resolve_device(device)),
        ),
        on_nan=on_nan or record.on_nan,
        nan_limit=record.nan_limit if nan_limit is None else nan_limit,
        world=world,
    )
    odd = list(differences(record, again.record()))
    if odd:
        kind = kind_of(odd) if asked else DataError
        raise kind(f"expected what {folder.path} was begun with, found {'; '.join(odd[:5])}")
    return again


def kind_of(odd: Sequence[str]) -> type[UsageError | DataError]:
    """What is wrong where a run differs so: what was asked for, or the images alone."""
    return (
        DataError if all(text.startswith(("images ", "classes ")) for text in odd) else UsageError
    )


def _check_together(wanted: Recipe, spec: Spec, speed: Speed, world: World) -> None:
    """Refuse what a training would only find out behind its first folder.

    Raises:
        UsageError: recipe, network, speed and processes do not go together.
    """
    if speed.sharded:
        check_sharding(wanted)
    part = wanted.bn_batch or 1
    if wanted.batch_size // part < world.size:
        raise UsageError(
            f"expected at most {wanted.batch_size // part} processes for batches of "
            f"{wanted.batch_size} images in parts of {part}, found {world.size}; take fewer, or "
            f"--set bn_batch={max(1, wanted.batch_size // world.size)}, or a larger --batch-size"
        )
    if wanted.leading is not None and wanted.leading > spec.classes:
        raise UsageError(
            f"expected at most the {spec.classes} classes of the data to be leading, found "
            f"{wanted.leading}; say --set leading=N"
        )


def _adapted(
    wanted: Recipe, epochs: int | None, batch_size: int | None, settings: Mapping[str, str]
) -> Recipe:
    """What is set stands as it is set: it is not scaled with the batch or the epochs."""
    if batch_size is not None:
        wanted = wanted.with_batch_size(batch_size)
    if epochs is not None:
        wanted = wanted.with_epochs(epochs)
    return wanted.with_fields(settings) if settings else wanted


def _fitted(named: Spec, data: DataSet, seen: Profile) -> Spec:
    """The network for these classes and channels.

    Raises:
        UsageError: its name says another number of classes.
    """
    classes = len(data.classes)
    notation = resnext.catalog.notation(named)
    if notation is not None and notation.says_classes and named.classes != classes:
        raise UsageError(
            f"expected a network for the {classes} classes of {data.name}, found "
            f"{resnext.name(named)}; leave the number out, it follows from the data"
        )
    return resnext.spec(named, classes=classes, in_channels=seen.channels)


def _short(named: Spec) -> str:
    """The identifier without the numbers that follow from the data."""
    notation = resnext.catalog.notation(named)
    return notation.usual().identifier() if notation else resnext.identifier(named)


def _slug(name: str) -> str:
    """A name that no shell needs quotes for."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "data"


def check_workers(workers: int | None) -> None:
    """Refuse a number of workers that would exhaust the machine.

    Raises:
        UsageError: below 0, or above 8 per core.
    """
    most = 8 * _cores()
    if workers is not None and not 0 <= workers <= most:
        raise UsageError(f"expected 0 to {most} workers on this machine, found {workers}")


def usual_workers(seen: Profile, processes: int = 1) -> int:
    """Workers that prepare images, for each of several processes on this machine.

    None for small pictures, which are ready at once.
    """
    return 0 if seen.resolution <= 32 else min(8, (_cores() - 1) // processes)


def resolve_device(text: str | None, local_rank: int = 0) -> torch.device:
    """The device of that name; without a name, a GPU if there is one: the process's own.

    Raises:
        UsageError: no device is called so.
        ResourceError: this machine has no such device.
    """
    if text is None:
        cuda = torch.cuda.is_available()
        return torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"expected device cpu, cuda, cuda:N or mps, found {text!r}")
    found = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= found:
        raise ResourceError(f"expected device {text!r} on this machine, found {found} of its kind")
    return device


def data_record(data: DataSet) -> DataRecord:
    """What identifies a data set."""
    return DataRecord(
        name=data.name,
        location=lasting(data.location),
        fingerprint=data.fingerprint,
        classes=data.classes,
    )


def lasting(location: str) -> str:
    """A place that means the same from any folder."""
    path = Path(location).expanduser()
    return str(path.absolute()) if location != "digits" and path.exists() else location


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
