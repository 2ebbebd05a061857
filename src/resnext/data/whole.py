"""Whole photos at one or several sizes, uncropped: for views that look beyond the centre."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnext.data import colour, order
from resnext.data.photos import Photo
from resnext.data.profiles import Profile
from resnext.data.source import Source
from resnext.errors import DataError


@dataclass(frozen=True, slots=True)
class WholeBatch:
    """Photos that need not have one size.

    Attributes:
        images: for each shorter side, one C x H x W float32 tensor per photo, normalised.
        labels: N, int64.
        indices: N, int64, positions in the source.
    """

    images: tuple[tuple[Tensor, ...], ...]
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeBatches:
    """Every photo once over all ranks, in stored order; decoded once, resized to every size.

    Decoding and resizing are Pillow's, on threads, one batch ahead.

    Attributes:
        source: the photos.
        profile: of photos; its sizes do not matter.
        shorter: the sizes of the shorter side, in pixels.
        groups: the photos of each batch.
        threads: that decode; at least one.
        device: where the photos are wanted.

    Raises:
        DataError: while iterating, for a photo that cannot be used; the message names it.
    """

    source: Source
    profile: Profile
    shorter: tuple[int, ...]
    groups: Sequence[NDArray[np.int64]]
    threads: int = 1
    device: torch.device | str = "cpu"

    @property
    def totals(self) -> list[int]:
        """Images of each batch of this rank."""
        return [len(group) for group in self.groups]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[WholeBatch]:
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            ahead = None
            for group in (*self.groups, None):
                made = None if group is None else pool.map(self._photo, group.tolist())
                if ahead is not None:
                    yield self._batch(*ahead)
                ahead = None if group is None or made is None else (group, made)

    def _photo(self, index: int) -> list[Tensor]:
        """One photo at every size, H x W x 3 as the view makes it."""
        view = self.profile.view
        assert isinstance(view, Photo)
        image = self.source.read(index)
        try:
            return [torch.from_numpy(np.array(view.whole(image, side))) for side in self.shorter]
        except DataError as error:
            raise DataError(f"{self.source.describe(index)}: {error}") from error

    def _batch(self, group: NDArray[np.int64], made: Iterator[list[Tensor]]) -> WholeBatch:
        photos = [tuple(map(self._normalised, sizes)) for sizes in made]
        return WholeBatch(
            images=tuple(zip(*photos, strict=True)),
            labels=torch.from_numpy(self.source.labels[group]),
            indices=torch.from_numpy(group),
        )

    def _normalised(self, photo: Tensor) -> Tensor:
        unit = self.profile.unit
        assert unit is not None
        moved = photo.to(self.device)[None]
        return colour.normalised(moved, None, unit=unit, statistics=self.profile.statistics)[0]


def whole_batches(
    source: Source,
    profile: Profile,
    shorter: tuple[int, ...],
    *,
    batch_size: int,
    threads: int = 1,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
) -> WholeBatches:
    """This rank's batches of whole photos; see `WholeBatches`.

    Raises:
        UsageError: sizes that do not fit together.
    """
    groups = order.evaluation_batches(len(source), batch_size=batch_size, rank=rank, world=world)
    return WholeBatches(
        source=source,
        profile=profile,
        shorter=shorter,
        groups=groups,
        threads=threads,
        device=device,
    )
