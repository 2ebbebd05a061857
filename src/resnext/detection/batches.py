"""Which picture comes when, mirrored or not: pure functions of (seed, step).

A step takes `Schedule.images` pictures in parts of `Schedule.at_once`, which go through the network
together and whose losses are their own, as on one GPU of the paper. Parts are of one orientation,
so that little is padded. Nothing depends on processes, workers or where training was interrupted.
"""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resnext.data.decode import decode
from resnext.data.order import permutation
from resnext.detection.coco import Coco
from resnext.detection.method import Method
from resnext.detection.schedule import Schedule
from resnext.detection.stored import Stored
from resnext.errors import DataError

_FLIPS = 1 << 32
"""Beside the epochs of orders, where the draws for mirroring lie."""


@dataclass(frozen=True, slots=True)
class Item:
    """A picture with what is on it; boxes, masks and proposals are mirrored along.

    Attributes:
        image_id: its number in the data set.
        image: 3 x H x W bytes.
        target: boxes, labels, perhaps crowd and masks.
        proposals: P x 4 in pixels of the picture, where they are stored.
    """

    image_id: int
    image: Tensor
    target: dict[str, Tensor]
    proposals: Tensor | None = None


Parts = list[list[Item]]


def load_image(data: Coco, index: int) -> Tensor:
    """The picture as 3 x H x W bytes; its orientation in EXIF is ignored, as COCO's boxes do.

    Raises:
        DataError: it cannot be read, or has another size than the annotations say.
    """
    return pixels(data.path(index), (int(data.sizes[index, 0]), int(data.sizes[index, 1])))


def pixels(path: Any, size: tuple[int, int] | None = None) -> Tensor:
    """An image file as 3 x H x W bytes, of this width and height if they are given.

    Raises:
        DataError: it cannot be read, or is of another size.
    """
    image = decode(path, str(path)).convert("RGB")
    if size is not None and image.size != size:
        swapped = (
            "; the EXIF orientation seems to be applied in one" if image.size == size[::-1] else ""
        )
        raise DataError(
            f"{path}: expected {size[0]} x {size[1]} pixels as its annotations say, found "
            f"{image.width} x {image.height}{swapped}"
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def target_of(data: Coco, index: int, method: Method) -> dict[str, Tensor]:
    """What is learned from an image: crowds apart from objects."""
    rows = data.rows(index)
    crowd = data.crowd[rows]
    boxes = torch.from_numpy(data.boxes[rows].copy())
    target = {
        "boxes": boxes[~crowd],
        "labels": torch.from_numpy(data.labels[rows][~crowd].copy()),
        "image_id": torch.tensor(int(data.ids[index])),
    }
    if method.crowd == "exclude":
        target["crowd"] = boxes[crowd]
    if method.masks:
        target["masks"] = _masks(data, index)
    return target


def _masks(data: Coco, index: int) -> Tensor:
    """N x H x W bytes of the objects of an image."""
    from resnext.detection.packages import coco_masks

    width, height = (int(side) for side in data.sizes[index])
    decoder = coco_masks()
    rows = data.rows(index)
    found = []
    for row in range(rows.start, rows.stop):
        if data.crowd[row]:
            continue
        shape = data.shape(row)
        if not shape:
            raise DataError(f"image {data.ids[index]}: expected a segmentation, found none")
        if isinstance(shape, list):
            shape = decoder.merge(decoder.frPyObjects(shape, height, width))
        elif isinstance(shape.get("counts"), list):
            shape = decoder.frPyObjects(shape, height, width)
        found.append(torch.from_numpy(decoder.decode(shape)))
    return torch.stack(found) if found else torch.zeros((0, height, width), dtype=torch.uint8)


def mirrored(item: Item) -> Item:
    """Left and right changed: x becomes width - x, not width - 1 - x."""
    width = item.image.shape[2]
    target = {
        name: _flipped(value, width) if name in ("boxes", "crowd") else value
        for name, value in item.target.items()
    }
    if "masks" in target:
        target["masks"] = target["masks"].flip(-1)
    proposals = None if item.proposals is None else _flipped(item.proposals, width)
    return Item(item.image_id, item.image.flip(-1), target, proposals)


def _flipped(boxes: Tensor, width: int) -> Tensor:
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Order:
    """The sequence of parts; `usable` images of these sizes."""

    usable: NDArray[np.int64]
    sizes: NDArray[np.int32]
    at_once: int
    both: bool
    seed: int

    def part(self, number: int) -> list[tuple[int, bool]]:
        """Part `number` of all that ever come: images and whether each is mirrored."""
        size = len(_pass(self, 0))
        return _pass(self, number // size)[number % size]


@lru_cache(maxsize=4)
def _pass(order: Order, number: int) -> list[list[tuple[int, bool]]]:
    """All parts of one pass."""
    count = len(order.usable)
    once = 2 * count if order.both else count
    sequence = permutation(once, seed=order.seed, epoch=number)
    if order.both:
        entries = [(int(order.usable[i // 2]), bool(i % 2)) for i in sequence]
    else:
        draws = np.random.Philox(key=np.array([order.seed, _FLIPS + number], np.uint64))
        flips = draws.random_raw(count) >> np.uint64(63)
        entries = [(int(order.usable[i]), bool(flips[i])) for i in sequence]
    wide = [e for e in entries if order.sizes[e[0], 0] >= order.sizes[e[0], 1]]
    tall = [e for e in entries if order.sizes[e[0], 0] < order.sizes[e[0], 1]]
    cut = [group[: len(group) - len(group) % order.at_once] for group in (wide, tall)]
    rest = wide[len(cut[0]) :] + tall[len(cut[1]) :]
    parts = [
        group[i : i + order.at_once]
        for group in (*cut, rest)
        for i in range(0, len(group), order.at_once)
    ]
    shuffled = permutation(len(parts), seed=order.seed, epoch=_FLIPS * 2 + number)
    return [parts[i] for i in shuffled]


class Steps(Dataset[Parts]):
    """The parts of every step that are this process's, loaded when asked for by number."""

    def __init__(
        self,
        data: Coco,
        method: Method,
        schedule: Schedule,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        stored: Stored | None = None,
        empty: bool = False,
    ) -> None:
        """`stored` are proposals of these images; `empty` keeps images without objects."""
        self.data, self.method, self.stored = data, method, stored
        self._parts = range(rank, schedule.parts, world)
        self._all = schedule.parts
        self._order = Order(
            usable=np.arange(len(data)) if empty else data.usable,
            sizes=data.sizes,
            at_once=schedule.at_once,
            both=method.flip == "both",
            seed=seed,
        )

    def __getitem__(self, step: int) -> Parts:
        """Step `step`, counted from 0."""
        return [
            [self._item(entry) for entry in self._order.part(step * self._all + k)]
            for k in self._parts
        ]

    def _item(self, entry: tuple[int, bool]) -> Item:
        index, mirror = entry
        item = Item(
            int(self.data.ids[index]),
            load_image(self.data, index),
            target_of(self.data, index, self.method),
            None if self.stored is None else self.stored.boxes(int(self.data.ids[index])),
        )
        return mirrored(item) if mirror else item


def step_batches(steps: Steps, numbers: Sequence[int], workers: int) -> Iterator[Parts]:
    """The steps of these numbers in this order, prepared ahead by worker processes."""
    loader: DataLoader[Parts] = DataLoader(
        steps,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_deaf,
    )
    return iter(loader)


def _deaf(worker: int) -> None:
    """Leave signals to the process that trains: a scheduler sends them to all, workers included."""
    del worker
    signal.set_wakeup_fd(-1)  # shared with that process, which would take ours for its own
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", None)):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
