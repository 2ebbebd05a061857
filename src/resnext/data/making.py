"""One batch of given images, made in this process: by Pillow, or by the native loader where it can.

What an image becomes is a function of (seed, epoch, index) and of the engine; engines agree to two
grey levels, and bit for bit where the filter is Torch7's.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from resnext.data import colour, native, order
from resnext.data.decode import MAX_PIXELS
from resnext.data.order import Key
from resnext.data.photos import Decoded, Filter, Photo
from resnext.data.profiles import Profile
from resnext.data.source import Encoded, Source
from resnext.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from resnext.data.pictures import Pixels

Used = Literal["native", "simplejpeg", "pillow"]
Engine = Literal["auto", "native", "simplejpeg", "pillow"]

_FILTERS: dict[Used, tuple[Filter, ...]] = {
    "native": ("bilinear", "torch7"),
    "simplejpeg": ("bilinear",),
}
"""What the engines beside Pillow resize by."""

_OPEN_FILES = 64

_ATTEMPTS = 16
"""Images that may stand in for one that cannot be read, before the data counts as broken."""


@dataclass(frozen=True, slots=True)
class Bad:
    """An image that could not be used, and the one that stood in for it."""

    index: int
    reason: str
    replacement: int


@dataclass(frozen=True, slots=True)
class Raw:
    """A batch as it leaves the makers: small pictures ready, photos still bytes.

    Attributes:
        images: N x C x H x W float32, ready; or N x H x W x 3 photos of `unit` for white.
        labels: N, int64.
        indices: N, int64, the images' positions in their source.
        numbers: N x 9, the draws for the photos' colours; None leaves them alone.
        unit: None for images that are ready.
        statistics: what photos are normalised by.
        bad: images of this batch that were replaced.
        painter: native threads that map the colours of bytes on a CPU; torch does it without.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    numbers: Tensor | None
    unit: float | None
    bad: tuple[Bad, ...]
    painter: native.NativeLoader | None = None
    statistics: colour.Statistics = colour.IMAGENET

    def ready(self, device: torch.device | str, out: Tensor | None = None) -> Tensor:
        """N x C x H x W float32 on the device, in `out` if given; photos travel there as bytes."""
        images = _moved(self.images, device)
        if self.unit is None:
            return images
        if self.painter is not None and images.device.type == "cpu":
            return self._painted(self.painter, out)
        numbers = None if self.numbers is None else _moved(self.numbers, device)
        return colour.normalised(
            images, numbers, unit=self.unit, statistics=self.statistics, out=out
        )

    def _painted(self, painter: native.NativeLoader, out: Tensor | None) -> Tensor:
        assert self.unit is not None
        pixels = self.images.numpy()
        means = torch.zeros(len(pixels), 3)
        if self.numbers is not None:
            means = torch.from_numpy(painter.means(pixels))
        found = colour.maps(self.numbers, means, unit=self.unit, statistics=self.statistics)
        maps = found.numpy()
        return torch.from_numpy(
            painter.colours(pixels, maps, out=None if out is None else out.numpy())
        )


def _moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """On the device; from pinned memory, a GPU fetches it while this process goes on."""
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True, kw_only=True)
class Maker(Dataset[Any]):
    """Makes batches; a copy of it is all that a worker process holds.

    Attributes:
        source: the images.
        profile: what is done to them.
        seed: of the draws; None for evaluation, which draws nothing.
        epoch: likewise.
        replace: whether another image stands in for one that cannot be used; otherwise that is an
            error.
    """

    source: Source
    profile: Profile
    seed: int | None
    epoch: int
    replace: bool

    def __getitem__(self, indices: NDArray[np.int64]) -> Raw | DataError:
        """The batch, or what was wrong with an image: an exception would lose its one line."""
        try:
            return self.batch(indices)
        except DataError as error:
            return error

    def batch(self, indices: NDArray[np.int64], out: NDArray[np.generic] | None = None) -> Raw:
        """The images at these positions of the source.

        Args:
            indices: N positions.
            out: memory of an earlier batch that nobody needs any more, used if it fits.

        Raises:
            DataError: one cannot be used, and none may stand in for it.
        """
        images = self._empty(len(indices), out)
        return self._filled(images, indices, range(len(indices)))

    def _empty(self, count: int, out: NDArray[np.generic] | None) -> NDArray[np.generic]:
        if out is not None and len(out) == count:
            return out
        side, view = self.profile.resolution, self.profile.view
        if not isinstance(view, Photo):
            return np.empty((count, self.profile.channels, side, side), dtype=np.float32)
        kind = np.float32 if view.exact_floats else np.uint8
        return np.empty((count, side, side, 3), dtype=kind)

    def _filled(
        self, images: NDArray[np.generic], indices: NDArray[np.int64], places: Sequence[int]
    ) -> Raw:
        """The batch, with the images at `places` made here, one by one."""
        used = indices.copy()
        bad: list[Bad] = []
        for place in places:
            images[place] = self._image(int(indices[place]), bad)
            if bad and bad[-1].index == indices[place]:
                used[place] = bad[-1].replacement
        numbers = None
        if self.profile.changes_colours and self.seed is not None:
            rows = [order.colour_numbers(self._key(int(i)), colour.NUMBERS) for i in indices]
            numbers = torch.from_numpy(np.array(rows).reshape(-1, colour.NUMBERS))
        return Raw(
            images=torch.from_numpy(images),
            labels=torch.from_numpy(self.source.labels[used]),
            indices=torch.from_numpy(used),
            numbers=numbers,
            unit=self.profile.unit,
            bad=tuple(bad),
            statistics=self.profile.statistics,
        )

    def _image(self, index: int, bad: list[Bad]) -> NDArray[np.generic]:
        """The image, or the first one that can stand in for it."""
        try:
            return self._made(index, index)
        except DataError as error:
            if not self.replace:
                raise
            reason = str(error)
        for attempt in range(_ATTEMPTS):
            other = order.replacement(self._key(index), len(self.source), attempt)
            try:
                made = self._made(other, index)
            except DataError:
                continue
            bad.append(Bad(index, reason, other))
            return made
        raise DataError(f"expected images that can be read, found {_ATTEMPTS} bad ones: {reason}")

    def _made(self, index: int, drawn_as: int) -> NDArray[np.generic]:
        """One image under the draws of the place that it takes."""
        image: Any = self._decoded(index)
        view = self.profile.view
        key = None if self.seed is None else self._key(drawn_as)
        try:
            return view.evaluate(image) if key is None else view.train(image, key)
        except DataError as error:
            raise DataError(f"{self.source.describe(index)}: {error}") from error

    def _decoded(self, index: int) -> Decoded:
        return self.source.read(index)

    def _key(self, index: int) -> Key:
        return Key(seed=self.seed or 0, epoch=self.epoch, index=index)


class SimpleJpegMaker(Maker):
    """`Maker` that decodes by simplejpeg and resizes by torch: nothing to compile."""

    def _decoded(self, index: int) -> Decoded:
        """Bytes of an ordinary JPEG file; what is odd about others is Pillow's to say."""
        import simplejpeg

        with suppress(OSError, ValueError):
            encoded = self.source.encoded(index)
            data = encoded.read() if encoded is not None else b""
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours in ("YCbCr", "Gray", "RGB") and height * width <= MAX_PIXELS:
                decoded: Pixels = simplejpeg.decode_jpeg(data)
                return decoded
        return self.source.read(index)


@dataclass(frozen=True, kw_only=True)
class NativeMaker(Maker):
    """`Maker` on the threads of the native loader; what that refuses is made by Pillow."""

    threads: int

    @cached_property
    def _loader(self) -> native.NativeLoader:
        return native.NativeLoader(threads=self.threads)

    @cached_property
    def _painter(self) -> native.NativeLoader:
        """Threads of its own: those of the loader are busy with the next batch."""
        return native.NativeLoader(threads=self.threads)

    @cached_property
    def _files(self) -> "OpenFiles":
        return OpenFiles()

    def batch(self, indices: NDArray[np.int64], out: NDArray[np.generic] | None = None) -> Raw:
        """See `Maker.batch`."""
        view = self.profile.view
        assert isinstance(view, Photo)
        images: NDArray[Any] = self._empty(len(indices), out)
        encoded = [self._part(index) for index in indices.tolist()]
        loaded = self._loader.load(
            encoded,
            self._cutting(view, indices),
            side=view.side,
            resample="torch7" if view.filter == "torch7" else "bilinear",
            out=images,
        )
        # A file that libjpeg found damage in goes to Pillow too, which is strict about it.
        doubtful = (loaded.outcomes["status"] != 0) | (loaded.outcomes["warnings"] != 0)
        made = self._filled(images, indices, np.flatnonzero(doubtful).tolist())
        return made if view.exact_floats else replace(made, painter=self._painter)

    def _part(self, index: int) -> native.Encoded:
        """Where the image is; no bytes for one that cannot be had, which Pillow then explains."""
        try:
            return self._files.part(self.source.encoded(index))
        except (DataError, OSError):
            return b""

    def _cutting(self, view: Photo, indices: NDArray[np.int64]) -> native.Cutting:
        if self.seed is None:
            return native.Central(rule=view.rule, resize=view.resize)
        return native.Drawn(rule=view.rule, seed=self.seed, epoch=self.epoch, indices=indices)


class OpenFiles:
    """Descriptors of the archives that images are parts of, opened once; the first few of them.

    A process may have a thousand files open; images of further archives are read here.
    """

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}

    def part(self, found: Encoded | None) -> native.Encoded:
        """Where the native loader finds the image; no bytes at all if it is not in a file."""
        if found is None:
            return b""
        if found.data is not None:
            return found.data
        path = found.path
        assert path is not None
        if found.size < 0:
            return path
        if path not in self._descriptors:
            if len(self._descriptors) == _OPEN_FILES:
                return found.read()
            self._descriptors[path] = found.open()
        return native.FilePart(self._descriptors[path], found.offset, found.size)

    def __del__(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)


def _in_files(source: Source) -> bool:
    try:
        return source.encoded(0) is not None
    except DataError:  # a row without bytes: training may stand in for it
        return True


def why_not(engine: Used, source: Source, profile: Profile) -> str | None:
    """Why an engine cannot make these images; None if it can."""
    if engine == "pillow":
        return None
    view = profile.view
    if not isinstance(view, Photo) or view.filter not in _FILTERS[engine]:
        return f"it does not make profile {profile.name}"
    if not _in_files(source):
        return "the images are not in files"
    if engine == "native":
        return native.reason()
    return None if find_spec("simplejpeg") else "simplejpeg is not installed"


def engine_for(source: Source, profile: Profile) -> Used:
    """What ``auto`` means here: the fastest engine that can make these images."""
    engines: tuple[Used, ...] = ("native", "simplejpeg", "pillow")
    return next(engine for engine in engines if why_not(engine, source, profile) is None)


def maker(
    source: Source,
    profile: Profile,
    *,
    seed: int | None,
    epoch: int,
    replace: bool,
    engine: Engine,
    threads: int,
) -> Maker:
    """The maker of an engine; ``auto`` takes the native one where it can.

    Raises:
        UsageError: an engine was asked for that cannot make these images.
    """
    options: dict[str, Any] = {
        "source": source,
        "profile": profile,
        "seed": seed,
        "epoch": epoch,
        "replace": replace,
    }
    used = engine_for(source, profile) if engine == "auto" else engine
    why = why_not(used, source, profile)
    if why is not None:
        raise UsageError(f"expected images that engine {used} can make, found: {why}")
    if used == "native":
        return NativeMaker(**options, threads=max(1, threads))
    return SimpleJpegMaker(**options) if used == "simplejpeg" else Maker(**options)
