"""What a measurement is given, and how it tells where it stands."""

from dataclasses import dataclass

import torch

from resnext.data import DataSet
from resnext.detection.splits import Sets
from resnext.experiments.study import Job, Study
from resnext.runs import Stop
from resnext.runs.planning import resolve_device


@dataclass(frozen=True, slots=True)
class Tick:
    """Where a measurement stands: so many parts of all, and what it is at."""

    done: int
    of: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and on what to measure."""

    study: Study
    job: Job
    stop: Stop

    @property
    def data(self) -> DataSet:
        """The images."""
        assert isinstance(self.job.data, DataSet)
        return self.job.data

    @property
    def objects(self) -> Sets:
        """The pictures with objects."""
        assert isinstance(self.job.data, Sets)
        return self.job.data

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return resolve_device(self.study.choices.device)

    def check(self) -> None:
        """End here if somebody wants that.

        Raises:
            PreemptedError: somebody does; a measurement begins anew.
        """
        self.stop.check(f"the measurement {self.job.name} begins anew")
