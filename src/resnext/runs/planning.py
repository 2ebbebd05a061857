"""Deciding a run before anything is written: what is not said follows from the data."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

import resnext
from resnext.data import DataSet, Profile, default_profile, open_data, profile
from resnext.data.loader import BAD_LIMIT
from resnext.data.making import engine_for
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
    engine: Literal["native", "pillow"]
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
    if seed < 0:
        raise UsageError(f"expected a seed of at least 0, found {seed}")
    if not 0 <= bad_limit <= 1:
        raise UsageError(f"expected a limit of bad images from 0 to 1, found {bad_limit}")
    if workers is not None and workers < 0:
        raise UsageError(f"expected 0 or more workers, found {workers}")
    where = resolve_device(device)
    wanted = recipe(recipe_name) if isinstance(recipe_name, str) else recipe_name
    named = resnext.spec(network) if network is not None else None
    opened = data if isinstance(data, DataSet) else open_data(str(data))
    seen = _profile(opened, resolution, profile_name)
    usual = usual_choice(opened, seen)
    named = named or resnext.spec(usual.network)
    wanted = wanted or recipe(usual.recipe)
    return Plan(
        spec=resnext.spec(named, classes=len(opened.classes), in_channels=seen.channels),
        recipe=wanted if epochs is None else wanted.with_epochs(epochs),
        data=opened,
        profile=seen,
        seed=seed,
        device=where,
        workers=usual_workers(seen) if workers is None else workers,
        engine=engine_for(opened.train, seen),
        bad_limit=bad_limit,
        name=f"{resnext.identifier(named)}-{opened.name}-seed{seed}",
    )


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
    if data.name == "digits":
        return Choice("ResNeXt-11 (4x8d, CIFAR)", "digits")
    if seen.resolution <= 32:
        return Choice("ResNeXt-29 (8x16d, CIFAR)", "cifar")
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
        raise UsageError(f"unknown device {text!r}; expected cpu, cuda, cuda:N or mps")
    found = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= found:
        raise ResourceError(f"no device {text!r} here: found {found} of kind {device.type}")
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
    if resolution in (None, usual.resolution):
        return usual
    if not usual.name.startswith("pil-"):
        raise UsageError(
            f"expected resolution {usual.resolution} for {data.name}, found {resolution}"
        )
    return profile(f"pil-{resolution}")


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
