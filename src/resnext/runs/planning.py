"""Deciding a run before anything is written: what is not said follows from the data."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

import resnext
from resnext.data import DataSet, Profile, default_profile, open_data, profile
from resnext.data.digits import is_digits
from resnext.data.loader import BAD_LIMIT
from resnext.data.making import Used, engine_for
from resnext.errors import ResourceError, UsageError
from resnext.runs.folder import DataRecord, RunFolder, RunRecord
from resnext.runs.provenance import source_commit, versions
from resnext.spec import Spec
from resnext.training.recipe import Recipe, recipe


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
    name: str

    def create(self, out: Path | None = None, command: Sequence[str] = ()) -> RunFolder:
        """Make the folder of the run.

        Raises:
            UsageError: `out` exists, or cannot be made.
        """
        return RunFolder.create(out, self.name, self._record(command))

    def _record(self, command: Sequence[str]) -> RunRecord:
        return RunRecord(
            network=resnext.name(self.spec),
            # through JSON, so that what is in memory is what will be read back
            spec=json.loads(json.dumps(self.spec.to_dict())),
            recipe=self.recipe,
            data=data_record(self.data),
            profile=self.profile.name,
            engine=self.engine,
            seed=self.seed,
            device=str(self.device),
            threads=torch.get_num_threads(),
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
    seed: int = 0,
    device: str | None = None,
    workers: int | None = None,
    resolution: int | None = None,
    profile_name: str | None = None,
    bad_limit: float = BAD_LIMIT,
) -> Plan:
    """Decide a run: what is not said follows from the data.

    `bad_limit` is the part of an epoch's images that may be replaced because they cannot be used.

    Raises:
        ResNextError: something asked for does not exist or does not fit.
    """
    if not 0 <= seed < 2**64:
        raise UsageError(f"expected a seed from 0 to 2^64 - 1, found {seed}")
    if not 0 <= bad_limit <= 1:
        raise UsageError(f"expected a limit of bad images from 0 to 1, found {bad_limit}")
    check_workers(workers)
    where = resolve_device(device)
    wanted = recipe(recipe_name) if isinstance(recipe_name, str) else recipe_name
    named = resnext.spec(network) if network is not None else None
    opened = data if isinstance(data, DataSet) else open_data(str(data))
    seen = _profile(opened, resolution, profile_name)
    usual = usual_choice(opened, seen)
    named = named or resnext.spec(usual.network)
    wanted = wanted or recipe(usual.recipe)
    spec = _fitted(named, opened, seen)
    check_memory(spec, seen.resolution, wanted.batch_size, where)
    return Plan(
        spec=spec,
        recipe=wanted if epochs is None else wanted.with_epochs(epochs),
        data=opened,
        profile=seen,
        seed=seed,
        device=where,
        workers=usual_workers(seen) if workers is None else workers,
        engine=engine_for(opened.train, seen),
        bad_limit=bad_limit,
        name=f"{_short(named)}-{_slug(opened.name)}-seed{seed}",
    )


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


def check_memory(spec: Spec, resolution: int, batch: int, device: torch.device) -> None:
    """Refuse a training step whose weights and activations alone exceed the memory.

    Raises:
        ResourceError: they do; the message says how much is needed and how much is there.
    """
    needed = resnext.complexity(spec, resolution).training_memory(batch).total
    free = _free_memory(device)
    if free is not None and needed > free:
        raise ResourceError(
            f"expected {needed / 2**30:.1f} GiB of memory for {resnext.name(spec)} at {resolution} "
            f"pixels and batch {batch}, found {free / 2**30:.1f} GiB free on {device}; take a "
            "smaller network, resolution or recipe"
        )


def _free_memory(device: torch.device) -> int | None:
    """Bytes that can be had; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found and device.type == "cpu" else None


@dataclass(frozen=True, slots=True)
class Choice:
    """What `plan` takes where nothing is said."""

    network: str
    recipe: str


def usual_workers(seen: Profile) -> int:
    """Processes that prepare images: none for small pictures, which are ready at once."""
    return 0 if seen.resolution <= 32 else min(8, _cores() - 1)


def usual_choice(data: DataSet, seen: Profile) -> Choice:
    """By the data: digits, pictures of 32 x 32, photos. All modest: they are for a first look."""
    if is_digits(data):
        return Choice("ResNeXt-11 (4x8d, CIFAR)", "digits")
    if seen.resolution <= 32:
        return Choice("ResNeXt-29 (8x16d, CIFAR)", "small")
    return Choice("ResNeXt-50 (32x4d)", "small")


def resolve_device(text: str | None) -> torch.device:
    """The device of that name; without a name, a GPU if there is one.

    Raises:
        UsageError: no device is called so.
        ResourceError: this machine has no such device.
    """
    if text is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


def _profile(data: DataSet, resolution: int | None, name: str | None) -> Profile:
    if name is not None:
        chosen = profile(name)
        if resolution not in (None, chosen.resolution):
            raise UsageError(
                f"expected resolution {chosen.resolution} of {name}, found {resolution}"
            )
        return chosen
    usual = default_profile(data)
    if resolution is None or (is_digits(data) and resolution == usual.resolution):
        return usual
    if is_digits(data):
        raise UsageError(f"expected resolution 8 for the digits, found {resolution}")
    return profile(f"pil-{resolution}")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
