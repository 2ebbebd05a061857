"""An experiment put to work: which runs it takes here, and how far each of them is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import resnext
from resnext.data import DataSet, default_profile
from resnext.data.digits import is_digits
from resnext.detection.splits import Sets
from resnext.errors import CheckpointError, DataError, InUseError, UsageError
from resnext.experiments.design import Experiment, Measure, Row, Scale
from resnext.runs import Plan, RunFolder, differences, plan
from resnext.runs.folder import RECORD
from resnext.runs.locking import locked
from resnext.runs.provenance import source_commit
from resnext.spec import Spec

CLAIM, RESULT = ".claim", "result.json"

Kind = Literal["done", "half", "running", "missing", "waits", "no data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user decides about an experiment.

    Attributes:
        data: the sets at hand; each row takes the first that has its number of classes.
        objects: the pictures with objects at hand.
        weights: files of rows that are not to be trained.
        scale: see `Scale`.
        seeds: how many; the experiment's if left out.
        epochs: instead of the scale's, except at the paper's.
        device: as torch names it.
        workers: that prepare images.
        any_commit: whether runs of other commits count.
    """

    data: tuple[DataSet, ...]
    objects: Sets | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    scale: Scale = "demo"
    seeds: int | None = None
    epochs: int | None = None
    device: str | None = None
    workers: int | None = None
    any_commit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a run is: finished epochs out of all, or 0 or 1 of a measurement."""

    kind: Kind
    done: int = 0
    of: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training or one measurement.

    Attributes:
        what: the row or measure.
        seed: of weights, order and augmentation.
        path: its folder.
        plan: of a training; None of a measurement, and where there is no data for it.
        data: what it is about; None where there is none.
        settings: what decides a measurement.
    """

    what: Row | Measure
    seed: int
    path: Path
    plan: Plan | None = None
    data: DataSet | Sets | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``table3/resnext50_32x4d-seed0``."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """An experiment at a place."""

    experiment: Experiment
    choices: Choices
    out: Path

    @property
    def seeds(self) -> int:
        """How many there are to be of each row."""
        asked = self.choices.seeds
        return self.experiment.seeds[self.choices.scale] if asked is None else asked

    def data_of(self, row: Row | Measure) -> DataSet | None:
        """The set that a row is about; None where it is not at hand."""
        sets = self.choices.data
        if isinstance(row, Measure) and (like := row.row or next(iter(row.needs(self)), None)):
            return self.data_of(like)
        if self.choices.scale == "demo":
            return sets[0] if sets else None
        wanted = row.spec.classes if isinstance(row, Row) else None
        return next((one for one in sets if wanted in (None, len(one.classes))), None)

    def about(self, what: Row | Measure) -> DataSet | Sets | None:
        """The images that a row or measure is about; None where they are not at hand."""
        if isinstance(what, Measure) and what.objects:
            return self.choices.objects
        return self.data_of(what)

    def jobs(self) -> Iterator[Job]:
        """Everything to run, seed by seed, so that a first table is there early."""
        self._require_data()
        for seed in range(self.seeds):
            for row in self.experiment.rows:
                if row.id not in self.choices.weights:
                    yield self.job(row, seed)
        for measure in self.experiment.measures:
            for seed in range(self.seeds if measure.seeded else 1):
                yield self.job(measure, seed)

    def job(self, what: Row | Measure, seed: int) -> Job:
        """One of them."""
        name = f"{what.id}-seed{seed}"
        data = self.about(what)
        images = self.data_of(what) if isinstance(what, Row) else None
        decided = self.decide(what, seed, images) if isinstance(what, Row) and images else None
        settings = self._settings(what, seed, data) if isinstance(what, Measure) else {}
        return Job(
            what=what,
            seed=seed,
            path=self.out / what.home / name,
            plan=decided,
            data=data,
            settings=settings,
        )

    def _settings(self, what: Measure, seed: int, data: DataSet | Sets | None) -> dict[str, Any]:
        """Those of a measurement, through JSON, so that they compare with what is read back."""
        if what.needs_data and data is None:
            return {}
        images = {"images": data.fingerprint} if what.needs_data and data else {}
        found: dict[str, Any] = json.loads(json.dumps(what.settings(self, seed) | images))
        return found

    def decide(self, row: Row, seed: int, data: DataSet) -> Plan:
        """The run that a row asks for."""
        choices = self.choices
        demo = choices.scale == "demo"
        profile = None if demo else row.profile
        return plan(
            data,
            self.spec(row, data),
            row.recipe_at(
                choices.scale,
                len(data.classes),
                is_digits=is_digits(data),
                epochs=choices.epochs,
            ),
            seed=seed,
            device=choices.device,
            workers=choices.workers,
            profile_name=profile,
        )

    def spec(self, row: Row, data: DataSet | None) -> Spec:
        """The network of a row at the scale; that of the digits where there is no data."""
        if self.choices.scale != "demo":
            return row.spec
        if data is None:
            return row.small.spec(8, in_channels=1)
        seen = default_profile(data)
        return row.small.spec(seen.resolution, len(data.classes), seen.channels)

    def _require_data(self) -> None:
        """Refuse to begin where no row has data.

        Raises:
            DataError: none has.
        """
        whats = [what for what in self.experiment.whats if _wants_data(what)]
        if whats and all(self.about(what) is None for what in whats):
            found = ", ".join(
                f"{d.location} of {len(d.classes)} classes" for d in self.choices.data
            )
            needed = self.experiment.data or "images"
            if self.choices.scale == "demo" and self.experiment.objects:
                needed = "a folder laid out as COCO is"
            raise DataError(
                f"expected --data with {needed} for {self.experiment.id}, found {found or 'none'}"
            )


def _wants_data(what: Row | Measure) -> bool:
    return isinstance(what, Row) or what.needs_data


def state(job: Job, *, any_commit: bool = False, ours: bool = False) -> State:
    """How far a job is; `ours` says that this process is the one at it.

    Raises:
        UsageError: its folder holds something else; the message names it and how it differs.
        DataError: the folder holds the same run of other images.
    """
    if isinstance(job.what, Measure):
        return _measured(job, any_commit=any_commit, ours=ours)
    if job.plan is None:
        return State(kind="no data", of=0)
    epochs = job.plan.recipe.epochs
    if not (job.path / RECORD).exists():
        return State(kind="missing" if ours or not in_use(job) else "running", of=epochs)
    folder = RunFolder.open(job.path)
    _require_same(job, folder, any_commit=any_commit)
    done = len(folder.epochs())
    if done >= epochs and all((job.path / test_file(test.id)).exists() for test in job.what.tests):
        return State(kind="done", done=done, of=epochs)
    return State(kind="half" if ours or not in_use(job) else "running", done=done, of=epochs)


def _measured(job: Job, *, any_commit: bool, ours: bool) -> State:
    if not job.settings:
        return State(kind="no data")
    if not (job.path / RESULT).exists():
        if not ours and in_use(job):
            return State(kind="running")
        return State(kind="half" if job.path.is_dir() else "missing")
    result = read_result(job.path)
    for name, value in job.settings.items():
        if (found := result["settings"].get(name)) != value:
            raise UsageError(
                f"expected {job.path} to be measured with {name} {_brief(value)}, found "
                f"{_brief(found)}; take another --out, or move it away"
            )
    require_commit(job, result["commit"], any_commit=any_commit)
    return State(kind="done", done=1)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _require_same(job: Job, folder: RunFolder, *, any_commit: bool) -> None:
    assert job.plan is not None
    odd = list(differences(job.plan.record(), folder.record))
    if odd:
        kind = DataError if all(text.startswith(("images ", "classes ")) for text in odd) else None
        raise (kind or UsageError)(
            f"expected {job.path} to hold the run of {job.what.label} with seed {job.seed}, found "
            f"another: {'; '.join(odd[:3])}; take another --out, or move it away"
        )
    require_commit(job, folder.record.commit, any_commit=any_commit)


def require_commit(job: Job, found: str | None, *, any_commit: bool) -> None:
    """Refuse what other code has made or begun.

    Raises:
        UsageError: it has, and is not to count.
    """
    ours = source_commit()
    if found != ours and not any_commit:
        raise UsageError(
            f"expected {job.path} to be of this commit, {short(ours)}, found {short(found)}; "
            "--any-commit takes it as it is and says so in the table, or take another --out"
        )


def short(commit: str | None) -> str:
    """A commit as tables show it: twelve digits, and whether the code was changed."""
    if commit is None:
        return "unknown"
    digits, dash, changed = commit.partition("-")
    return digits[:12] + dash + changed


def in_use(job: Job) -> bool:
    """Whether another process is at it."""
    if not job.path.parent.is_dir() or not claim_file(job).exists():
        return False
    try:
        with locked(claim_file(job), f"nobody at {job.path}"):
            return False
    except InUseError:
        return True


def claim_file(job: Job) -> Path:
    """The lock that whoever works on a job holds; beside its folder, which may not exist yet."""
    return job.path.with_name(job.path.name + CLAIM)


def test_file(name: str) -> str:
    """Where the result of a further test lies in a run's folder."""
    return f"test-{name}.json"


def read_result(folder: Path) -> dict[str, Any]:
    """The result of a measurement.

    Raises:
        CheckpointError: it is damaged.
    """
    return read_json(folder / RESULT, ("settings", "commit", "values"))


def read_json(file: Path, needed: Sequence[str]) -> dict[str, Any]:
    """An object with these keys.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict) or not set(needed) <= found.keys():
        raise CheckpointError(f"{file} is damaged: expected {', '.join(needed)} in it")
    return found


def describe(spec: Spec) -> str:
    """A network by its name; one without a name by its first template and depth."""
    if resnext.catalog.notation(spec) is not None:
        return resnext.name(spec)
    first = spec.stages[0]
    depth = sum(stage.blocks for stage in spec.stages) * len(first.paths[0].kernels) + 2
    template = first.paths[0].template
    kind = "ResNeXt" if template.cardinality > 1 else "ResNet"
    bare = ", no shortcuts" if spec.shortcut == "none" else ""
    return f"small {kind}-{depth} ({template.cardinality}×{template.width}d{bare})"
