"""Say the bytes that a training step adds to this process: measure_memory.py NETWORK BATCH SIDE.

A small network takes a step first, so that libraries and code are loaded. Run it with
MALLOC_MMAP_THRESHOLD_=65536: then every tensor goes back to the system when it is freed, and the
system's count is that of the tensors; otherwise the heap's gaps come on top (measured: 4 to 18 %).
"""

import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resnext.model.network import build
from resnext.training.recipe import Recipe
from resnext.training.trainer import Trainer


@dataclass
class One:
    """An epoch of one batch, given twice."""

    images: Tensor
    labels: Tensor

    @property
    def totals(self) -> list[int]:
        return [len(self.labels)] * 2

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator["One"]:
        yield from (self, self)


def take_steps(network: str, batch: int, side: int) -> None:
    """Two steps; the memory of the second is the lasting one."""
    recipe = Recipe(
        name="memory", epochs=1, batch_size=batch, learning_rate=0.01, weight_decay=1e-4
    )
    trainer = Trainer(build(network, seed=0), recipe)
    labels = torch.zeros(batch, dtype=torch.int64)
    for _ in trainer.train_epoch(One(torch.randn(batch, 3, side, side), labels)):
        pass


def status(key: str) -> int:
    """Bytes that the system counts for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


if __name__ == "__main__":
    torch.set_num_threads(2)
    take_steps("resnext11_4x8d", 4, 32)
    gc.collect()
    before = status("VmRSS")
    take_steps(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(f"{status('VmHWM') - before}\n")
