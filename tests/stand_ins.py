"""Small values that several tests hand to the code: batches in memory, a finished epoch."""

from dataclasses import dataclass

import torch

from resnext.runs import EpochRecord


@dataclass
class Batch:
    images: torch.Tensor
    labels: torch.Tensor


class Batches(list):
    @property
    def totals(self):
        return [len(batch.labels) for batch in self]

    def __getitem__(self, key):
        found = super().__getitem__(key)
        return Batches(found) if isinstance(key, slice) else found


def epoch_record(number=1, error=12.5, **values):
    usual = {
        "epoch": number,
        "learning_rate": 0.05,
        "train_loss": 0.5,
        "train_error": 25.0,
        "validation_loss": None,
        "validation_error": error,
        "validation_top5_error": 1.0,
        "seconds": 4.0,
        "images_per_second": 50.0,
    }
    return EpochRecord(**usual | values)
