"""The Python face of `loader.c`: JPEG files in, an array of pixels out, on threads without the GIL.

The compiled library is optional; `reason()` says why it is missing, and whoever calls has another
way then. Images that it refuses have a status, and zeros in the array; see `Status`.
"""

import ctypes
import enum
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resnext.data.decode import MAX_BYTES, MAX_PIXELS
from resnext.data.draws import GEOMETRY, Rule
from resnext.data.native.build import HINT, LIBRARY
from resnext.errors import ResourceError, UsageError

Resample = Literal["bilinear", "torch7", "nothing"]
"""Pillow's filter with antialias, to bytes; Torch's bicubic without, to floats with 1 for white and
only with the rule of that name; the decoding alone, to compare with."""

_INTERFACE = 3
_RESAMPLE = {"bilinear": 0, "torch7": 1, "nothing": 2}
_TRAIN = {"torchvision": 1, "torch7": 2}
_CENTRAL = {"torchvision": 3, "torch7": 4}


class Status(enum.IntEnum):
    """What became of an image."""

    OK = 0
    EMPTY = 1
    NOT_JPEG = 2
    COLOURS = 3
    TOO_MANY_PIXELS = 4
    TOO_MANY_BYTES = 5
    TOO_MANY_SCANS = 6
    CORRUPT = 7
    UNREADABLE = 8
    BAD_CUT = 9
    NO_MEMORY = 10


SOURCE = np.dtype(
    [("bytes", "u8"), ("path", "u8"), ("offset", "i8"), ("size", "i8"), ("file", "i8")]
)
CUT = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("width", "f8"),
        ("height", "f8"),
        ("mirrored", "i4"),
        ("beyond", "i4"),
    ]
)
"""As `draws.Cut`."""

OUTCOME = np.dtype([("status", "i4"), ("warnings", "i4")])
"""Per image: a `Status`; how often libjpeg met damage and went on."""


class _Request(ctypes.Structure):
    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("epoch", ctypes.c_uint64),
        ("purpose", ctypes.c_uint64),
        ("max_pixels", ctypes.c_int64),
        ("max_bytes", ctypes.c_int64),
        ("rule", ctypes.c_int32),
        ("resample", ctypes.c_int32),
        ("side", ctypes.c_int32),
        ("resize", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    )


@dataclass(frozen=True, slots=True)
class FilePart:
    """An image inside an open file, such as a member of a tar: read by `pread`, so shareable."""

    file: int
    offset: int
    size: int


Encoded = bytes | Path | FilePart
"""Where an encoded image is: here, in a file, or in a part of an open file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The random crops of these images (their positions in the source); see `draws.train_cut`."""

    rule: Rule
    seed: int
    epoch: int
    indices: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Central:
    """The central crop; see `draws.central_cut`."""

    rule: Rule
    resize: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Boxes of the caller: a `CUT` array, one per image."""

    cuts: NDArray[np.void]


Cutting = Drawn | Central | Given


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `NativeLoader.load` made.

    Attributes:
        pixels: N x S x S x 3, uint8 or float32; zeros for every image whose status is not OK.
        cuts: N `CUT`, the boxes that were taken; undefined for refused images.
        outcomes: N `OUTCOME`.
    """

    pixels: NDArray[np.generic]
    cuts: NDArray[np.void]
    outcomes: NDArray[np.void]


def reason() -> str | None:
    """Why the library cannot be used here, in one line; None if it can."""
    found = _library()
    return found if isinstance(found, str) else None


def describe() -> str:
    """What `doctor` prints about the library."""
    found = _library()
    if isinstance(found, str):
        return f"not available: {found}"
    number = found.resnext_libjpeg_turbo()
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    return f"{LIBRARY}, compiled with libjpeg-turbo {version}"


class NativeLoader:
    """A pool of threads that makes batches; one batch at a time, callers wait for each other.

    Survives `os.fork`: the child starts threads of its own when it first needs them.

    Raises:
        ResourceError: the library is not available (see `reason`), or no threads to be had.
        UsageError: a number of threads that makes no sense.
    """

    def __init__(self, *, threads: int) -> None:
        if not 1 <= threads <= 1024:
            raise UsageError(f"expected 1 to 1024 threads, found {threads}")
        found = _library()
        if isinstance(found, str):
            raise ResourceError(found)
        self.threads = threads
        self._functions = found
        self._turn = threading.Lock()
        self._closer: weakref.finalize[..., NativeLoader] | None = None
        self._pool = self._open()
        _alive.add(self)

    def close(self) -> None:
        """End the threads; a later call starts them again."""
        with self._turn:
            if self._closer is not None:
                self._closer()
            self._closer = None

    def load(
        self,
        sources: Sequence[Encoded],
        cutting: Cutting,
        *,
        side: int,
        resample: Resample = "bilinear",
        out: NDArray[np.generic] | None = None,
    ) -> Loaded:
        """Read, decode, cut and resize a batch; never raises for what an image holds.

        Args:
            sources: the encoded images.
            cutting: which part of each.
            side: S, height and width of the results.
            resample: how to resize.
            out: where to write, N x S x S x 3 in C order; a new array if None.

        Raises:
            UsageError: arguments that do not fit together.
        """
        request = _request(side, resample)
        count = len(sources)
        cuts, indices = _prepare(request, cutting, count)
        shape, kind = (count, side, side, 3), np.float32 if resample == "torch7" else np.uint8
        pixels = np.empty(shape, dtype=kind) if out is None else out
        _check_out(pixels, shape, kind)
        outcomes = np.zeros(count, dtype=OUTCOME)
        packed = _Packed(sources)
        arguments = (
            count,
            packed.address,
            indices.ctypes.data,
            cuts.ctypes.data,
            pixels.ctypes.data,
            outcomes.ctypes.data,
        )
        self._call(self._functions.resnext_load, ctypes.byref(request), *arguments)
        return Loaded(pixels, cuts, outcomes)

    def means(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean of each channel of each image: N x H x W x 3 -> N x 3, in grey levels.

        Raises:
            UsageError: another kind of array.
        """
        count, area = _check_images(pixels)
        found = np.empty((count, 3), dtype=np.float32)
        arguments = (count, area, pixels.ctypes.data, found.ctypes.data)
        self._call(self._functions.resnext_means, *arguments)
        return found

    def colours(
        self,
        pixels: NDArray[np.uint8],
        maps: NDArray[np.float32],
        *,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Map the colours, y = A x + b with x in bytes: N x H x W x 3 -> N x 3 x H x W.

        Args:
            pixels: uint8, in C order.
            maps: N x 3 x 4, [A | b] of each image.
            out: where to write, float32 in C order; a new array if None, whose first touch costs
                more than the arithmetic.

        Raises:
            UsageError: arrays that do not fit together.
        """
        count, area = _check_images(pixels)
        height, width = pixels.shape[1:3]
        maps = np.ascontiguousarray(maps, dtype=np.float32)
        if maps.shape != (count, 3, 4):
            raise UsageError(f"expected {count} x 3 x 4 maps, found {maps.shape}")
        shape = (count, 3, height, width)
        planes = np.empty(shape, dtype=np.float32) if out is None else out
        _check_out(planes, shape, np.float32)
        arguments = (count, area, pixels.ctypes.data, maps.ctypes.data, planes.ctypes.data)
        self._call(self._functions.resnext_colours, *arguments)
        return planes

    def _call(self, function: Any, *arguments: Any) -> None:
        with self._turn:
            if self._closer is None:
                self._pool = self._open()
            code = function(self._pool, *arguments)
        if code == -1:
            raise UsageError(
                "expected a side of 1 to 8192, at most as large as the resized image, and Torch7's"
                " filter under its own rule"
            )
        if code:
            raise RuntimeError("the threads belong to another process")

    def _open(self) -> int:
        pool: int | None = self._functions.resnext_open(self.threads)
        if pool is None:
            raise ResourceError(f"expected to start {self.threads} threads, found no room")
        self._closer = weakref.finalize(self, self._functions.resnext_close, pool)
        self._closer.atexit = False  # a process that ends takes its threads along
        return pool

    def _forget(self) -> None:
        """In the child of a fork: the copied pool has no threads, and its locks may be held."""
        self._turn = threading.Lock()
        if self._closer is not None:
            self._closer.detach()
        self._closer = None


class _Packed:
    """A `SOURCE` array, and what it points to for as long as this lives."""

    def __init__(self, sources: Sequence[Encoded]) -> None:
        count = len(sources)
        self._contents = (ctypes.c_char_p * count)()
        self._paths = (ctypes.c_char_p * count)()
        self._array = np.zeros(count, dtype=SOURCE)
        rows = []
        for at, source in enumerate(sources):
            match source:
                case bytes():
                    self._contents[at] = source or None
                    # No bytes at all: a part of length 0 of no file, which is never read.
                    rows.append((0, len(source), -1))
                case FilePart(file, offset, size):
                    rows.append((offset, max(size, 0), file))
                case _:
                    self._paths[at] = os.fsencode(source)
                    rows.append((0, -1, -1))
        if rows:
            self._array["offset"], self._array["size"], self._array["file"] = np.array(rows).T
            self._array["bytes"] = np.frombuffer(bytes(self._contents), dtype=np.uint64)
            self._array["path"] = np.frombuffer(bytes(self._paths), dtype=np.uint64)
        self.address = self._array.ctypes.data


def _request(side: int, resample: Resample) -> _Request:
    return _Request(
        purpose=GEOMETRY,
        max_pixels=MAX_PIXELS,
        max_bytes=MAX_BYTES,
        resample=_RESAMPLE[resample],
        side=side,
    )


def _prepare(
    request: _Request, cutting: Cutting, count: int
) -> tuple[NDArray[np.void], NDArray[np.uint64]]:
    """Write the rule into the request; returns the arrays for the boxes and the draws."""
    cuts = np.zeros(count, dtype=CUT)
    indices = np.zeros(count, dtype=np.uint64)
    match cutting:
        case Drawn():
            request.rule = _TRAIN[cutting.rule]
            request.seed, request.epoch = cutting.seed, cutting.epoch
            _check_count(len(cutting.indices), count)
            indices[:] = cutting.indices
        case Central():
            request.rule, request.resize = _CENTRAL[cutting.rule], cutting.resize
        case Given():
            _check_count(len(cutting.cuts), count)
            cuts[:] = cutting.cuts
    return cuts, indices


def _check_count(found: int, count: int) -> None:
    if found != count:
        raise UsageError(f"expected {count} cuts or indices, one per image, found {found}")


def _check_out(
    array: NDArray[Any], shape: tuple[int, ...], dtype: type[np.uint8] | type[np.float32]
) -> None:
    usable = array.flags.c_contiguous and array.flags.writeable and array.dtype == dtype
    if array.shape != shape or not usable:
        raise UsageError(
            f"expected an array to write to of {shape} {dtype.__name__} in C order,"
            f" found {array.shape} {array.dtype}"
        )


def _check_images(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """How many images, of how many pixels."""
    usable = pixels.flags.c_contiguous and pixels.dtype == np.uint8
    if pixels.ndim != 4 or pixels.shape[3] != 3 or not usable or 0 in pixels.shape[1:3]:
        raise UsageError(
            f"expected N x H x W x 3 uint8 in C order, found {pixels.shape} {pixels.dtype}"
        )
    return pixels.shape[0], pixels.shape[1] * pixels.shape[2]


@cache
def _library() -> "ctypes.CDLL | str":
    """The loaded library, or why there is none."""
    if not LIBRARY.exists():
        return f"it was not compiled; install {HINT} and run python -m resnext.data.native"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        if library.resnext_interface() != _INTERFACE:
            return f"{LIBRARY} is of another version; run python -m resnext.data.native"
        if library.resnext_check() != 0:
            return "the system's libjpeg is another one than at compile time; compile again"
    except (OSError, AttributeError) as error:
        return f"{LIBRARY} cannot be loaded: {error}"
    return _declared(library)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    request = ctypes.POINTER(_Request)
    signatures: dict[str, tuple[list[Any], Any]] = {
        "resnext_open": ([ctypes.c_int], pointer),
        "resnext_close": ([pointer], None),
        "resnext_load": ([pointer, request, count, *[pointer] * 5], ctypes.c_int),
        "resnext_colours": ([pointer, count, count, *[pointer] * 3], ctypes.c_int),
        "resnext_means": ([pointer, count, count, *[pointer] * 2], ctypes.c_int),
        "resnext_cut": ([request, ctypes.c_uint64, count, count, pointer], None),
    }
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


_alive: "weakref.WeakSet[NativeLoader]" = weakref.WeakSet()


def _after_fork() -> None:
    for loader in list(_alive):
        loader._forget()


os.register_at_fork(after_in_child=_after_fork)
