"""What training and scoring are given: images with their classes."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor


class Batch(Protocol):
    """N x channels x height x width images and their N classes."""

    @property
    def images(self) -> Tensor: ...  # noqa: D102
    @property
    def labels(self) -> Tensor: ...  # noqa: D102


class Batches(Protocol):
    """The batches of one epoch, or of the rest of one: their number is known before the first."""

    @property
    def totals(self) -> Sequence[int]: ...  # noqa: D102 - images of each, over all processes
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
