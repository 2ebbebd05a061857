"""The files that a network is exported to, side by side: size, time, difference, accuracy.

Each is written by `deploy.export`, which refuses what differs too much, and then run by the library
that it is for; the files take turns, in random order, on the same images.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnext.deploy.artifact import Artifact
from resnext.deploy.export import FORMATS, Order, export, open_file, precisions
from resnext.deploy.libraries import bf16_at_hand
from resnext.deploy.parity import Forward, noise
from resnext.deploy.samples import samples
from resnext.errors import ParityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file.

    Attributes:
        kind: its format.
        precision: of its arithmetic.
        bytes: of all its parts.
        seconds: for a batch, by the images in it: the median.
        difference: the largest of logits from float64's, in units of the largest one.
        agreement: part of the images in the same class as by float32.
        accuracy: in percent; None where the images' classes are others.
        images: that the last two were found on.
        refused: why it was not written; all else is nothing then.
    """

    kind: str
    precision: str
    bytes: int | None = None
    seconds: Mapping[int, float] | None = None
    difference: float | None = None
    agreement: float | None = None
    accuracy: float | None = None
    images: int | None = None
    refused: str | None = None


def benchmark_exports(
    artifact: Artifact,
    data: str,
    *,
    batches: tuple[int, ...] = (1, 16),
    slices: int = 9,
    threads: int = 1,
    seed: int = 0,
) -> Iterator[str | Row]:
    """A word about each file as it is written; then the rows, float32 by torch first.

    Args:
        artifact: the network with its weights.
        data: images to calibrate by and to score on.
        batches: images at once.
        slices: repetitions, of which the median counts.
        threads: of the processor; one is measured by its processor time.
        seed: of the order.

    Raises:
        ResNextError: as `samples` and `export`; a file that differs too much is a row.
    """
    torch.set_num_threads(threads)
    given = samples(artifact, data)
    ready: dict[tuple[str, str], Forward] = {}
    reports: dict[tuple[str, str], dict[str, Any]] = {}
    refused: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, precision in _files():
            yield f"{kind} {precision}"
            order = Order(kind=kind, precision=precision, given=given)
            try:
                file, report = export(artifact, Path(folder) / f"{kind}-{precision}", order)
            except ParityError as error:
                refused.append(Row(kind=kind, precision=precision, refused=str(error)))
                continue
            ready[kind, precision] = open_file(file, kind, precision)
            reports[kind, precision] = report
        seconds = {
            batch: _seconds(ready, noise(artifact, batch), slices, threads, random.Random(seed))
            for batch in batches
        }
    for key, report in reports.items():
        yield _row(key, report, {batch: seconds[batch][key] for batch in batches})
    yield from refused


def _files() -> Iterator[tuple[str, str]]:
    for kind in FORMATS:
        for precision in precisions(kind):
            if precision != "bf16" or bf16_at_hand():
                yield kind, precision


def _seconds(
    ready: Mapping[tuple[str, str], Forward],
    images: Tensor,
    slices: int,
    threads: int,
    shuffle: random.Random,
) -> dict[tuple[str, str], float]:
    clock = time.process_time if threads == 1 else time.perf_counter
    found: dict[tuple[str, str], list[float]] = {key: [] for key in ready}
    for forward in ready.values():
        forward(images)
    for _ in range(slices):
        for key in shuffle.sample(list(ready), len(ready)):
            started = clock()
            ready[key](images)
            found[key].append(clock() - started)
    return {key: statistics.median(times) for key, times in found.items()}


def _row(key: tuple[str, str], report: dict[str, Any], seconds: Mapping[int, float]) -> Row:
    accuracy = report["accuracy"]
    return Row(
        kind=key[0],
        precision=key[1],
        bytes=sum(file["bytes"] for file in report["files"].values()),
        seconds=seconds,
        difference=max(row["relative"] for row in report["parity"]),
        agreement=accuracy["agreement"],
        accuracy=accuracy["after"],
        images=accuracy["images"],
    )
