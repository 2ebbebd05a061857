"""What finished runs say: mean and interval over seeds, with where each number comes from."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from resnext.data import default_profile
from resnext.experiments.design import Measure, Row
from resnext.experiments.study import (
    Job,
    State,
    Study,
    read_json,
    read_result,
    short,
    state,
    test_file,
)
from resnext.runs import EpochRecord, RunFolder, RunRecord, best

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that is complete."""

    job: Job
    record: RunRecord
    epochs: Sequence[EpochRecord]

    @property
    def last(self) -> EpochRecord:
        """What is compared with the paper: nothing was chosen by it."""
        return self.epochs[-1]

    @property
    def best(self) -> EpochRecord:
        """What the authors' code reports."""
        return best(self.epochs)

    def test(self, name: str) -> dict[str, Any]:
        """The figures of a further test."""
        return read_json(self.job.path / test_file(name), ("top1_error", "top5_error"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A mean over seeds.

    Attributes:
        mean: None where there is no run.
        error: the standard error; None below two runs.
        half: half of the 95 % interval by Student's t; None below two runs.
        count: how many runs.
    """

    mean: float | None
    error: float | None
    half: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of these values."""
        count = len(values)
        if count < 2:
            return cls(mean=values[0] if values else None, error=None, half=None, count=count)
        error = stdev(values) / math.sqrt(count)
        return cls(mean=fmean(values), error=error, half=_student(count - 1) * error, count=count)

    @property
    def interval(self) -> str | None:
        """The 95 % interval as tables show it."""
        if self.mean is None or self.half is None:
            return None
        return f"{self.mean - self.half:.2f} to {self.mean + self.half:.2f}"


def _student(freedom: int) -> float:
    """The quantile of Student's distribution for a two-sided 95 % interval."""
    from scipy.special import stdtrit  # scikit-learn brings it

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What there is of an experiment.

    Attributes:
        study: the experiment, at a place; of a computed one its scale alone matters.
        states: how far every job is.
    """

    study: Study
    states: Mapping[str, State]

    def finished(self, row: Row) -> list[Finished]:
        """The complete runs of a row, by seed."""
        return list(self._finished(row))

    def _finished(self, row: Row) -> Iterator[Finished]:
        for seed in range(self.study.seeds):
            job = self.study.job(row, seed)
            if self.state(job).kind == "done":
                folder = RunFolder.open(job.path)
                yield Finished(job=job, record=folder.record, epochs=folder.epochs())

    def state(self, job: Job) -> State:
        """How far a job is, which may be one of another experiment."""
        any_commit = self.study.choices.any_commit
        return self.states.get(job.name) or state(job, any_commit=any_commit)

    def spread(self, row: Row, value: Callable[[Finished], float]) -> Spread:
        """A figure of a row's runs."""
        return Spread.of([value(run) for run in self.finished(row)])

    def results(self, measure: Measure) -> list[dict[str, Any]]:
        """The complete results of a measurement, by seed."""
        seeds = range(self.study.seeds if measure.seeded else 1)
        jobs = [self.study.job(measure, seed) for seed in seeds]
        return [read_result(job.path) for job in jobs if self.state(job).kind == "done"]

    def commits(self, row: Row) -> str | None:
        """The code that made a row's runs; several are all named."""
        found = sorted({short(run.record.commit) for run in self.finished(row)})
        return ", ".join(found) or None

    def resolution(self, row: Row) -> int:
        """Side of a row's images in pixels: at the paper's scales what its network is made for."""
        study = self.study
        data = study.data_of(row)
        if study.choices.scale != "demo":
            return row.spec.resolution
        return 8 if data is None else default_profile(data).resolution

    def missing(self) -> int:
        """How many jobs are not finished."""
        return sum(one.kind != "done" for one in self.states.values())


def findings(study: Study) -> Findings:
    """Look at every job of a study.

    Raises:
        UsageError: a folder holds another run.
    """
    any_commit = study.choices.any_commit
    jobs = () if study.experiment.computed else study.jobs()
    return Findings(
        study=study, states={job.name: state(job, any_commit=any_commit) for job in jobs}
    )
