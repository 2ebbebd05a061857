"""Images per second of an evaluation, beside a bare loop over the same network and batches.

Both see the same batches in memory, interleaved in random order inside one process, so that the
ratio is what counting, keeping scores and looking at the clock cost.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from resnext.benchmark.input import Contest, Row, run_contest
from resnext.data.loader import Batch
from resnext.evaluation.scores import evaluate
from resnext.model.network import build


class _Memory:
    """The same batch, again and again."""

    def __init__(self, batch: Batch, count: int) -> None:
        self._batch, self._count = batch, count
        self.totals = [len(batch.labels)] * count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        return iter([self._batch] * self._count)


def benchmark_evaluation(
    network: str = "resnext50_32x4d",
    *,
    side: int = 224,
    batch_size: int = 8,
    batches: int = 2,
    slices: int = 9,
    device: str = "cpu",
    seed: int = 0,
) -> list[Row]:
    """The rates of a bare loop and of `evaluate`; the ratio is the median over slices.

    Args:
        network: in any notation.
        side: of the images in pixels.
        batch_size: images at once.
        batches: per slice.
        slices: repetitions of both, of which the median counts.
        device: as torch names it.
        seed: of weights, images and the order of the two.
    """
    where = torch.device(device)
    model = build(network, seed=seed).eval().to(where)
    model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch_size, model.spec.in_channels, side, side, generator=generator)
    labels = torch.randint(model.spec.classes, (batch_size,), generator=generator)
    given = _Memory(Batch(images, labels, torch.arange(batch_size)), batches)

    @torch.inference_mode()
    def bare(_: NDArray[np.int64]) -> int:
        wrong = torch.zeros((), dtype=torch.int64, device=where)
        for batch in given:
            found = model(batch.images.to(where)).argmax(1)
            wrong += (found != batch.labels.to(where)).sum()
        return int(wrong)

    def ours(_: NDArray[np.int64]) -> object:
        found = evaluate(
            model, given, samples=batches * batch_size, profile="none", keep=True, device=where
        )
        for record in found:
            last = record
        return last

    contest = Contest(
        group=f"evaluation of {network}, {side} pixels, {batch_size} at once",
        methods={"bare loop": bare, "resnext": ours},
        threads=torch.get_num_threads(),
        wall=where.type != "cpu",
    )
    groups = [np.zeros(batches * batch_size, dtype=np.int64)] * slices
    return run_contest(contest, groups, seed)
