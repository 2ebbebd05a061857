"""The plan of an experiment: what there is, what is left to run, and what that will cost."""

from dataclasses import dataclass

import torch

import resnext
from resnext.experiments.design import Measure, Row
from resnext.experiments.study import Job, State, Study, describe, state
from resnext.runs import Plan, RunFolder
from resnext.runs.epochs import EpochBatches
from resnext.runs.planning import resolve_device

PASSES = 3
"""A training step costs about three forward passes (backward is two)."""

CPU_RATE, GPU_RATE = 2.5e10, 2.5e12
"""Multiply-adds a second assumed of a thread and of a GPU. Thread: small networks of the scale demo
on one core of a Xeon, 23 to 37 x 10^9. GPU: a V100 takes 159 ms for 32 images of ResNeXt-50 (32x4d)
forward and backward (pycls, MODEL_ZOO.md)."""

COPIES = 5
"""Of the weights on disk: the best epoch's, and two checkpoints of weights and momentum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The plan as rows of text, and what it rests on."""

    rows: list[tuple[str, ...]]
    notes: tuple[str, ...]


def planned(study: Study) -> Planned:
    """Every row of an experiment: how far it is, and the time and disk for what is left.

    Raises:
        UsageError: a folder holds another run.
        DataError: there is no data.
    """
    states = [(job, state(job, any_commit=study.choices.any_commit)) for job in study.jobs()]
    gpu = resolve_device(study.choices.device).type != "cpu"
    measured = _measured_rate(states)
    rate = measured or (GPU_RATE if gpu else CPU_RATE * torch.get_num_threads())
    rows: list[tuple[str, ...]] = []
    total, disk = 0.0, 0
    for what in study.experiment.whats:
        own = [(job, found) for job, found in states if job.what is what]
        left = sum(_left(job, found) for job, found in own) / rate
        room = sum(_disk(job) for job, _ in own)
        total, disk = total + left, disk + room
        rows.append(
            (
                what.id,
                _network(study, what),
                str(len(own)),
                _states([found for _, found in own]),
                _time(left, gpu=gpu),
                _bytes(room),
            )
        )
    rows.append(("total", "", str(len(states)), "", _time(total, gpu=gpu), _bytes(disk)))
    return Planned(rows=rows, notes=(_how(rate, measured=measured is not None, gpu=gpu),))


def _network(study: Study, what: Row | Measure) -> str:
    return describe(study.spec(what, study.data_of(what))) if isinstance(what, Row) else what.label


def _states(found: list[State]) -> str:
    kinds = [one.kind for one in found]
    parts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    half = [
        f"{one.done}/{one.of} epochs"
        for one in found
        if one.kind in ("half", "running")
        if one.of > 1
    ]
    return ", ".join(parts) + (f" ({', '.join(half)})" if half else "")


def training_cost(plan: Plan) -> float:
    """Multiply-adds of a whole run."""
    cost = resnext.complexity(plan.spec, plan.profile.resolution)
    steps = EpochBatches(len(plan.data.train), plan.recipe).steps
    images = steps * plan.recipe.batch_size if plan.recipe.epoch_steps else len(plan.data.train)
    seen = PASSES * images + len(plan.data.validation)
    return float(cost.multiply_adds) * plan.recipe.epochs * seen


def _left(job: Job, found: State) -> float:
    if found.kind in ("done", "no data"):
        return 0.0
    if job.plan is None:
        return job.what.cost(job) if isinstance(job.what, Measure) else 0.0
    return training_cost(job.plan) * (1 - found.done / found.of)


def _disk(job: Job) -> int:
    if isinstance(job.what, Measure):
        return job.what.disk(job) if job.data or not job.what.needs_data else 0
    if job.plan is None:
        return 0
    return COPIES * 4 * resnext.complexity(job.plan.spec, job.plan.profile.resolution).parameters


def _measured_rate(states: list[tuple[Job, State]]) -> float | None:
    """Multiply-adds a second of the epochs that are there."""
    work = seconds = 0.0
    for job, found in states:
        if job.plan is None or not found.done:
            continue
        epochs = RunFolder.open(job.path).epochs()
        work += training_cost(job.plan) * len(epochs) / job.plan.recipe.epochs
        seconds += sum(epoch.seconds for epoch in epochs)
    return work / seconds if seconds else None


def _how(rate: float, *, measured: bool, gpu: bool) -> str:
    unit = "GPU" if gpu else "process"
    source = (
        "as measured in the epochs that are there"
        if measured
        else "assumed: not measured on this machine"
    )
    return (
        f"time: {PASSES} x multiply-adds x images at {rate / 1e9:,.0f} G a second and {unit}, "
        f"{source}; disk: {COPIES} copies of the weights of each run"
    )


def _time(seconds: float, *, gpu: bool) -> str:
    if gpu and seconds >= 360:
        return f"{seconds / 3600:,.1f} GPU h"
    if seconds >= 36000:
        return f"{seconds / 3600:,.0f} h"
    return f"{seconds / 60:.1f} min" if seconds else "–"


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
