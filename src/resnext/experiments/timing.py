"""Sec. 5.1, performance: seconds of a training step, three networks in turn on one device."""

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import torch

from resnext.data.loader import Batch
from resnext.experiments.design import Experiment, Measure, Row
from resnext.experiments.findings import Findings
from resnext.experiments.imagenet import R101, X101, X101_64
from resnext.experiments.measuring import Bench, Tick
from resnext.experiments.paper import number
from resnext.experiments.study import Study, short
from resnext.model.network import build
from resnext.report.content import Column, Part, Table, Value
from resnext.spec import Spec
from resnext.training.recipe import recipe
from resnext.training.trainer import Trainer

NETWORKS = (R101, X101, X101_64)
BATCH = 32
"""The share of one of the paper's 8 GPUs of a batch of 256."""
WARM_UP, STEPS = 3, 15
_SOURCE = "Sec. 5.1, performance"


def _side(study: Study, spec: Spec) -> int:
    return 32 if study.choices.scale == "demo" else spec.resolution


def _spec(study: Study, row: Row) -> Spec:
    return row.small.spec(32) if study.choices.scale == "demo" else row.spec


def _settings(study: Study, seed: int) -> dict[str, Any]:
    del seed
    return {
        "networks": [_spec(study, row).to_dict() for row in NETWORKS],
        "batch": BATCH,
        "steps": STEPS,
    }


class _Steps:
    """As many batches of one content as anybody asks for."""

    def __init__(self, batch: Batch, count: int) -> None:
        self._batch, self.totals = batch, [len(batch.labels)] * count

    def __len__(self) -> int:
        return len(self.totals)

    def __iter__(self) -> Iterator[Batch]:
        return iter([self._batch] * len(self.totals))


def _run(bench: Bench) -> Iterator[Tick | dict[str, Any]]:
    running = [_stepping(bench, row) for row in NETWORKS]
    seconds: dict[str, list[float]] = {row.id: [] for row in NETWORKS}
    for turn in range(WARM_UP + STEPS):
        for row, steps in zip(NETWORKS, running, strict=True):
            bench.check()
            took = _timed(steps, bench.device)
            if turn >= WARM_UP:
                seconds[row.id].append(took)
        yield Tick(turn + 1, WARM_UP + STEPS, "timing steps")
    yield {"seconds": seconds, "device": _device_name(bench.device)}


def _stepping(bench: Bench, row: Row) -> Iterator[object]:
    """One update at every pull, of the paper's recipe."""
    spec = _spec(bench.study, row)
    side = _side(bench.study, spec)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, spec.in_channels, side, side, generator=generator)
    labels = torch.randint(spec.classes, (BATCH,), generator=generator)
    batch = Batch(images=images, labels=labels, indices=torch.arange(BATCH))
    wanted = recipe(row.recipe).with_batch_size(BATCH)
    model = build(spec, seed=0, device=bench.device)
    trainer = Trainer(model, wanted, device=bench.device)
    return trainer.train_epoch(_Steps(batch, WARM_UP + STEPS))


def _timed(steps: Iterator[object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    next(steps)
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


MEASURE = Measure(
    id="timing",
    home="timing",
    label="steps of three networks",
    settings=_settings,
    run=_run,
    seeded=False,
    needs_data=False,
)


def _parts(findings: Findings) -> Sequence[Part]:
    result = next(iter(findings.results(MEASURE)), None)
    found = {
        row.id: None if result is None else result["values"]["seconds"][row.id] for row in NETWORKS
    }
    first = found[R101.id]
    columns = (
        Column(title="network"),
        Column(title="paper: seconds of a batch of 256 on 8 M40", source=_SOURCE),
        Column(title=f"ours: seconds of a batch of {BATCH}", digits=4),
        Column(title="from, to"),
        Column(title="paper: to ResNet-101", source=_SOURCE),
        Column(title="ours: to ResNet-101"),
        Column(title="difference", signed=True),
        Column(title="steps", digits=0),
        Column(title="commit"),
    )
    base = number(_SOURCE, R101.label, "seconds")
    rows: list[tuple[Value, ...]] = []
    for row in NETWORKS:
        own, paper = found[row.id], number(_SOURCE, row.label, "seconds")
        ratio = paper / base if paper and base else None
        ours = median(own) / median(first) if own and first else None
        rows.append(
            (
                row.label,
                paper,
                median(own) if own else None,
                f"{min(own):.4f} to {max(own):.4f}" if own else None,
                ratio,
                ours,
                _difference(findings, ours, ratio),
                len(own) if own else 0,
                short(result["commit"]) if result else None,
            )
        )
    where = (
        f"Measured on {result['values']['device']}, {result['machine']}." if result else "Missing."
    )
    return (
        Table(
            name="timing",
            title="Seconds of a training step",
            columns=columns,
            rows=tuple(rows),
            notes=(where, "One device, batches in memory; medians of steps that take turns."),
        ),
    )


def _difference(findings: Findings, ours: float | None, paper: float | None) -> float | None:
    """None where a number is missing, or of other networks than the paper's."""
    if findings.study.choices.scale == "demo" or ours is None or paper is None:
        return None
    return ours - paper


TIMING = Experiment(
    id="timing", title="Time of a training step", source=_SOURCE, measures=(MEASURE,), parts=_parts
)
