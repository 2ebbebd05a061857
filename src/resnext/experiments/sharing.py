"""Working an experiment off, alone or beside other processes that were given the same line.

There is no coordinator: whoever comes takes the lock of the first run that is neither finished nor
taken. The system frees a lock when its process ends, so a run whose process was killed is free
again, and continues from its last checkpoint.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from resnext.data import DataSet
from resnext.data.subset import Subset
from resnext.errors import InUseError, ResourceError
from resnext.evaluation.protocols import Protocol
from resnext.evaluation.readings import read
from resnext.evaluation.scores import Part
from resnext.experiments.design import Measure, Row, Scale, Test, leading_classes
from resnext.experiments.measuring import Bench, Tick
from resnext.experiments.study import (
    RESULT,
    Job,
    State,
    Study,
    claim_file,
    state,
    test_file,
)
from resnext.files import write_bytes
from resnext.runs import RunFolder, Settings, Stop, evaluate_candidate, train_run
from resnext.runs.candidates import run_candidate
from resnext.runs.locking import locked
from resnext.runs.provenance import machine, source_commit, versions
from resnext.runs.running import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A job is taken."""

    job: Job
    number: int
    of: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job is finished: now, or before."""

    job: Job
    now: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A job is left to others, or for later."""

    job: Job
    why: str


Event = Begun | Ended | Left | Tick | Part | Progress


def carry_out(study: Study, stop: Stop | None = None) -> Iterator[Event]:
    """Run whatever is neither finished nor in other hands.

    Yields `Begun` and `Ended` around each job, `Left` for one that is not taken, and in between
    what training and measuring yield.

    Raises:
        UsageError: a folder holds another run.
        PreemptedError: `stop` asked for it; all is saved.
        ResNextError: whatever ends a training.
    """
    jobs = list(study.jobs())
    for number, job in enumerate(jobs, start=1):
        try:
            job.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"cannot make {job.path.parent}: {error.strerror}") from error
        try:
            with locked(claim_file(job), f"nobody at {job.path}"):
                yield from _taken(study, job, stop or Stop(), number, len(jobs))
        except InUseError as error:
            yield Left(job=job, why=str(error).rpartition("in use by ")[2])


def _taken(study: Study, job: Job, stop: Stop, number: int, of: int) -> Iterator[Event]:
    # looked at once more: somebody may have finished it since
    found = state(job, any_commit=study.choices.any_commit, ours=True)
    if found.kind == "done":
        yield Ended(job=job, now=False)
    elif found.kind == "no data":
        yield Left(job=job, why="no data for it")
    elif waits := _needed(study, job):
        yield Left(job=job, why=f"waits for {waits}")
    else:
        stop.check(f"{job.name} comes next")
        yield Begun(job=job, number=number, of=of, state=found)
        yield from _trained(study, job, stop) if job.plan else _measured(study, job, stop)
        yield Ended(job=job, now=True)


def _needed(study: Study, job: Job) -> str | None:
    """The first run that a measurement looks at and that is not finished."""
    if isinstance(job.what, Row):
        return None
    for row in job.what.needs(study):
        for seed in range(study.seeds):
            needed = study.job(row, seed)
            if state(needed, any_commit=study.choices.any_commit).kind != "done":
                return needed.name
    return None


def _trained(study: Study, job: Job, stop: Stop) -> Iterator[Event]:
    assert job.plan is not None
    assert isinstance(job.what, Row)
    folder = job.plan.create_or_continue(job.path, sys.argv)
    if not folder.finished():
        yield from train_run(job.plan, folder, stop=stop)
    for test in job.what.tests:
        if not (job.path / test_file(test.id)).exists():
            yield from _tested(study, job, folder, test, stop)


def _tested(study: Study, job: Job, folder: RunFolder, test: Test, stop: Stop) -> Iterator[Event]:
    """Measure once more with other views or fewer classes, and keep the figures."""
    assert job.plan is not None
    begins_anew = f"the test {test.id} of {job.name} begins anew"
    stop.check(begins_anew)
    scale: Scale = study.choices.scale
    protocol = Protocol.parse(test.demo if scale == "demo" else test.protocol)
    found = run_candidate(folder, str(job.path), job.plan.device)
    data = job.plan.data
    leading = leading_classes(found.outputs) if test.leading else found.outputs
    if test.leading and len(data.validation.classes) == found.outputs:
        data = _of_leading(data, leading)
    settings = Settings(protocol=protocol, keep=True, workers=study.choices.workers)
    result = None
    for progress in evaluate_candidate(found, data, settings, device=job.plan.device):
        if isinstance(progress, Part):
            yield progress
            stop.check(begins_anew)
        else:
            result = progress
    assert result is not None
    assert result.scored is not None
    scored = result.scored
    reading = read(scored.scores, scored.labels, classes=leading, average=scored.about.average)
    figures = reading.to_dict(result.about.classes)
    kept = {
        "commit": source_commit(),
        "protocol": result.about.protocol,
        "profile": result.about.profile,
        "weights": result.about.weights,
        "classes": leading,
        "of": found.outputs,
        "samples": reading.counts.samples,
        **{name: figures[name] for name in _FIGURES},
    }
    write_bytes(job.path / test_file(test.id), json.dumps(kept, indent=1).encode())


_FIGURES = ("top1_error", "top1_interval", "top5_error", "top5_interval", "average")


def _of_leading(data: DataSet, classes: int) -> DataSet:
    """Its validation images of the leading classes."""
    kept = (data.validation.labels < classes).nonzero()[0]
    return DataSet(
        name=data.name,
        location=data.location,
        train=data.train,
        validation=Subset(data.validation, kept),
    )


def _measured(study: Study, job: Job, stop: Stop) -> Iterator[Event]:
    assert isinstance(job.what, Measure)
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    values, bench = None, Bench(study=study, job=job, stop=stop)
    for progress in job.what.run(bench):
        if isinstance(progress, Tick):
            yield progress
        else:
            values = progress
    with suppress(FileExistsError):
        job.path.mkdir()
    record = {
        "settings": dict(job.settings),
        "values": values,
        "seed": job.seed,
        "data": job.data and {"location": job.data.location, "fingerprint": job.data.fingerprint},
        "commit": source_commit(),
        "machine": machine(bench.device),
        "versions": versions(),
        "command": sys.argv,
        "started": begun,
    }
    write_bytes(job.path / RESULT, json.dumps(record, indent=1).encode())
