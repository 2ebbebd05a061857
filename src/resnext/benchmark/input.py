"""Images per second of the input pipelines: ours and torchvision's reference recipe.

All methods take the same images in slices, interleaved in random order inside one process; a ratio
is the median over slices of a method's rate by the reference's on that slice. One thread is
measured by its processor time, several by the clock.
"""

import io
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnext.data import Source, colour, native, profile
from resnext.data.making import Maker, OpenFiles, Raw, Used, maker, why_not
from resnext.data.profiles import Profile
from resnext.errors import DataError

Method = Callable[[NDArray[np.int64]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method: its rate, and its ratio to the reference of its group."""

    group: str
    method: str
    images_per_second: float
    ratio: float
    slices: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Methods that do the same job; the first is the reference.

    `wall` measures one thread by the clock too, where the processor is not what works.
    """

    group: str
    methods: Mapping[str, Method]
    threads: int = 1
    wall: bool = False


def benchmark_input(
    source: Source,
    *,
    side: int = 224,
    images: int = 128,
    slices: int = 12,
    threads: int = 2,
    seed: int = 0,
) -> Iterator[Row]:
    """Rates of reading, decoding, cropping and resizing, contest by contest.

    Args:
        source: JPEG images in files.
        side: of the crops.
        images: per slice; small sets are gone through several times.
        slices: repetitions, of which the median counts.
        threads: of the last contest, which compares that many threads with one.
        seed: of crops and of the order of methods.

    Raises:
        DataError: the images are not files, so that there is nothing to decode.
    """
    if source.encoded(0) is None:
        raise DataError("expected images in files to benchmark their decoding, found pixels")
    groups = [
        np.array([(start * images + i) % len(source) for i in range(images)], dtype=np.int64)
        for start in range(slices)
    ]
    torch.set_num_threads(1)
    for contest in _contests(source, side, seed, threads):
        yield from run_contest(contest, groups, seed)


def _contests(source: Source, side: int, seed: int, threads: int) -> Iterator[Contest]:
    plain, colours, authors = (
        profile(f"{kind}-{side}") for kind in ("pil", "torch7-antialias", "torch7")
    )
    peer = _Torchvision(source, side)
    train: dict[str, Method] = {"torchvision reference, float32": peer.train}
    full: dict[str, Method] = {"torchvision reference, float32": peer.train_with_colours}
    evaluate: dict[str, Method] = {"torchvision reference, float32": peer.evaluate}
    engines: tuple[Used, ...] = ("pillow", "simplejpeg", "native")
    for engine in engines:
        if why_not(engine, source, plain) is None:
            train[f"resnext {engine}, uint8"] = _bytes(_made(engine, source, plain, seed))
            full[f"resnext {engine}, float32"] = _ready(_made(engine, source, colours, seed))
            evaluate[f"resnext {engine}, uint8"] = _bytes(_made(engine, source, plain, None))
    for engine in ("native", "pillow"):
        if why_not(engine, source, authors) is None:
            made = _made(engine, source, authors, seed)
            full[f"resnext {engine}, Torch's bicubic, float32"] = _ready(made)
    if native.reason() is None:
        train["limit: decoding the crop's window alone"] = _decoding(source, side, seed)
    yield Contest(group="training crop", methods=train)
    yield Contest(group="training crop, jitter, lighting, normalised", methods=full)
    yield Contest(group="evaluation", methods=evaluate)
    if native.reason() is None:
        methods: dict[str, Method] = {
            f"resnext native, {count} thread{'s' if count > 1 else ''}": _bytes(
                _made("native", source, plain, seed, threads=count)
            )
            for count in (1, threads)
        }
        yield Contest(group=f"training crop on {threads} threads", methods=methods, threads=threads)


def run_contest(contest: Contest, groups: Sequence[NDArray[np.int64]], seed: int) -> list[Row]:
    """Every method on every slice, in an order that the seed draws anew for each slice."""
    shuffle = random.Random(seed)
    clock = time.perf_counter if contest.wall or contest.threads > 1 else time.process_time
    rates: dict[str, list[float]] = {name: [] for name in contest.methods}
    for method in contest.methods.values():
        method(groups[0][:8])  # imports, thread pools, page cache
    for group in groups:
        names = list(contest.methods)
        shuffle.shuffle(names)
        for name in names:
            started = clock()
            contest.methods[name](group)
            rates[name].append(len(group) / (clock() - started))
    reference = rates[next(iter(contest.methods))]
    return [
        Row(
            group=contest.group,
            method=name,
            images_per_second=statistics.median(found),
            ratio=statistics.median(a / b for a, b in zip(found, reference, strict=True)),
            slices=len(groups),
            threads=contest.threads,
        )
        for name, found in rates.items()
    ]


def _made(
    engine: Used, source: Source, chosen: Profile, seed: int | None, *, threads: int = 1
) -> Maker:
    return maker(source, chosen, seed=seed, epoch=1, replace=False, engine=engine, threads=threads)


def _decoding(source: Source, side: int, seed: int) -> Method:
    """Reading and decoding the same windows without resizing them: no loader can be faster."""
    pool, files = native.NativeLoader(threads=1), OpenFiles()

    def run(group: NDArray[np.int64]) -> object:
        encoded = [files.part(source.encoded(index)) for index in group.tolist()]
        cutting = native.Drawn(rule="torchvision", seed=seed, epoch=1, indices=group)
        return pool.load(encoded, cutting, side=side, resample="nothing")

    return run


def _bytes(made_by: Maker) -> Method:
    """To bytes in memory that is used again, as training does it."""
    memory: list[NDArray[np.generic]] = []

    def run(group: NDArray[np.int64]) -> Raw:
        raw = made_by.batch(group, memory[0] if memory else None)
        memory[:] = [raw.images.numpy()]
        return raw

    return run


def _ready(made_by: Maker) -> Method:
    """To float32, likewise."""
    make, memory = _bytes(made_by), list[Tensor]()

    def run(group: NDArray[np.int64]) -> Tensor:
        fits = bool(memory) and len(memory[0]) == len(group)
        raw = make(group)
        assert isinstance(raw, Raw)
        memory[:] = [raw.ready("cpu", out=memory[0] if fits else None)]
        return memory[0]

    return run


class _Torchvision:
    """torchvision's classification reference: v2 transforms on Pillow images, one thread."""

    def __init__(self, source: Source, side: int) -> None:
        from torchvision.transforms import v2

        self._source = source
        floats = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
        normalise = v2.Normalize(colour.MEAN, colour.STD)
        crop = [v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip()]
        jitter = v2.ColorJitter(colour.STRENGTH, colour.STRENGTH, colour.STRENGTH)
        centre = [v2.Resize(round(side * 8 / 7), antialias=True), v2.CenterCrop(side)]
        self._plain = v2.Compose([*crop, *floats, normalise])
        self._colours = v2.Compose([*crop, jitter, *floats, _lighting, normalise])
        self._centre = v2.Compose([*centre, *floats, normalise])

    def train(self, group: NDArray[np.int64]) -> Tensor:
        """Random-resized crop and flip."""
        return self._batch(group, self._plain)

    def train_with_colours(self, group: NDArray[np.int64]) -> Tensor:
        """The same with colour jitter, and lighting, which torchvision leaves to the user."""
        return self._batch(group, self._colours)

    def evaluate(self, group: NDArray[np.int64]) -> Tensor:
        """The centre."""
        return self._batch(group, self._centre)

    def _batch(
        self, group: NDArray[np.int64], transform: Callable[[Image.Image], Tensor]
    ) -> Tensor:
        return torch.stack([transform(self._open(int(index))) for index in group])

    def _open(self, index: int) -> Image.Image:
        encoded = self._source.encoded(index)
        assert encoded is not None
        return Image.open(io.BytesIO(encoded.read())).convert("RGB")


def _lighting(image: Tensor) -> Tensor:
    """PCA noise, as users write it for torchvision."""
    alphas = torch.randn(3) * colour.LIGHTING * torch.tensor(colour.EIGENVALUES)
    return image + (torch.tensor(colour.EIGENVECTORS) @ alphas)[:, None, None]
