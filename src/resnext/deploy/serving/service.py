"""Pictures in, classes out: what the routes ask for, without HTTP."""

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from resnext.data.decode import BROKEN
from resnext.deploy.artifact import Artifact
from resnext.deploy.engines import Engine
from resnext.deploy.explain import seen_of
from resnext.deploy.predict import decode_picture, prepare, ranked
from resnext.deploy.serving.batching import Answer, Batcher
from resnext.deploy.serving.gate import Gate
from resnext.deploy.serving.metrics import Metrics
from resnext.deploy.serving.overlay import overlay
from resnext.deploy.serving.refusal import RefusalError
from resnext.deploy.serving.settings import Settings
from resnext.deploy.serving.uploads import MIB, Upload
from resnext.errors import DataError

if TYPE_CHECKING:
    from resnext.model.network import ResNeXt

Result = TypeVar("Result")

# What browsers show too. Of Pillow's other readers PPM's takes minutes for plain text, and TIFF's
# library has the longest record of faults.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

_JPEGS = ("JPEG", "MPO")
"""What Pillow's reader of JPEG takes a file for: one that names further pictures is an MPO."""

_SCANS = 100
"""Of a progressive JPEG; each makes the decoder go through all of the picture once more."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What the network is given of a picture, and what a map is laid over if one is wanted.

    The picture itself is gone: of 25 million pixels, 256 that wait would take 19 GB.
    """

    tensor: Tensor
    seen: NDArray[np.uint8] | None


class Service:
    """An engine with its queue; `start` and `stop` are for the loop that it runs in."""

    def __init__(self, artifact: Artifact, engine: Engine, settings: Settings) -> None:
        self.artifact, self.engine, self.settings = artifact, engine, settings
        self.gate = Gate(pictures=settings.queue, held=settings.held_mib * MIB)
        self.metrics = Metrics(self.gate)
        self.ready = False
        self._decoders = ThreadPoolExecutor(settings.workers, thread_name_prefix="decode")
        self._batcher = Batcher(
            engine,
            most=settings.batch,
            wait=settings.wait_ms / 1000,
            expected=lambda: self.gate.pictures,
            done=self._through,
        )
        self._model: ResNeXt | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on."""
        self._task = asyncio.create_task(self._batcher.run())
        self.ready = True

    async def stop(self) -> None:
        """Take nothing more; what the engine is at ends."""
        self.ready = False
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._batcher.close()
        self._decoders.shutdown(wait=True, cancel_futures=True)

    async def predict(
        self, uploads: Sequence[Upload], *, top: int, explain: bool
    ) -> list[dict[str, Any]]:
        """Classes of each picture, and its activation map if wanted; all or none.

        Raises:
            RefusalError: 422, pictures that cannot be used; 503, too many at once, or no memory.
        """
        with self.gate.admitted(len(uploads)):
            ready = await self._prepared(uploads, explain=explain)
            answers = await self._answered([each.tensor for each in ready])
            maps = [await self._map(each) for each in ready]
        self.metrics.pictures.labels("answered").inc(len(uploads))
        return [
            self._said(upload, answer, top, drawn)
            for upload, answer, drawn in zip(uploads, answers, maps, strict=True)
        ]

    async def _prepared(self, uploads: Sequence[Upload], *, explain: bool) -> list[Ready]:
        made = await asyncio.gather(
            *(self.aside(partial(self._prepare, upload, explain=explain)) for upload in uploads),
            return_exceptions=True,
        )
        reasons = [str(each) for each in made if isinstance(each, DataError)]
        if reasons:
            self.metrics.pictures.labels("refused").inc(len(reasons))
            raise RefusalError(422, "; ".join(reasons))
        if any(isinstance(each, MemoryError) for each in made):
            raise _no_memory("decoding")
        for each in made:
            if isinstance(each, BaseException):
                raise each
        return [each for each in made if isinstance(each, Ready)]

    def _prepare(self, upload: Upload, *, explain: bool) -> Ready:
        check(upload, self.settings.megapixels)
        image = decode_picture(upload.content, upload.name)
        tensor = prepare(self.artifact, image, upload.name)
        return Ready(tensor, seen_of(self.artifact, image) if explain else None)

    async def _answered(self, images: Sequence[Tensor]) -> list[Answer]:
        try:
            return await self._batcher.answer(images)
        except (MemoryError, RuntimeError) as error:  # torch's own errors are RuntimeErrors
            self.metrics.pictures.labels("failed").inc(len(images))
            if isinstance(error, MemoryError) or "memory" in str(error):
                raise _no_memory(f"a batch of up to {self.settings.batch} pictures") from error
            raise

    async def aside(self, work: Callable[[], Result]) -> Result:
        """Work for a thread that decodes; the loop stays free."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    async def _map(self, ready: Ready) -> dict[str, Any] | None:
        if ready.seen is None:
            return None
        return await self._batcher.aside(partial(self._draw, ready.tensor, ready.seen))

    def _draw(self, tensor: Tensor, seen: NDArray[np.uint8]) -> dict[str, Any]:
        if self._model is None:
            self._model = self.artifact.model()
        return overlay(self.artifact, self._model, tensor, seen)

    def _said(
        self, upload: Upload, answer: Answer, top: int, drawn: dict[str, Any] | None
    ) -> dict[str, Any]:
        (classes,) = ranked(self.artifact, answer.logits[None], top)
        said: dict[str, Any] = {
            "picture": upload.name,
            "classes": [{"class": name, "probability": chance} for name, chance in classes],
            "seconds": answer.seconds,
        }
        return said if drawn is None else {**said, "explanation": drawn}

    def _through(self, pictures: int, seconds: float) -> None:
        self.gate.took(pictures, seconds)
        self.metrics.batches.observe(pictures)
        self.metrics.engine_seconds.observe(seconds)

    def about(self) -> dict[str, Any]:
        """What is served."""
        return {
            "network": self.artifact.network,
            "classes": len(self.artifact.classes),
            "profile": self.artifact.profile.name,
            "weights": self.artifact.record.weights,
            "engine": self.engine.name,
            "precision": self.engine.precision,
        }


def _no_memory(what: str) -> RefusalError:
    return RefusalError(503, f"out of memory for {what}; come again, or with smaller pictures", 5)


def check(upload: Upload, megapixels: float) -> None:
    """Look at a picture's head before anything is decoded.

    Raises:
        DataError: another format, too many pixels, or more scans than any camera writes.
    """
    content, name = upload.content, upload.name
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height, kind = image.width, image.height, image.format
    except BROKEN as error:
        found = "nothing of the kind" if content else "no bytes"
        raise DataError(
            f"{name}: expected a picture, {', '.join(FORMATS)}, found {found}"
        ) from error
    if width * height > megapixels * 1e6:
        raise DataError(
            f"{name}: expected at most {megapixels:g} million pixels, found {width} x {height}"
        )
    if kind in _JPEGS and content.count(b"\xff\xda") > _SCANS:
        raise DataError(f"{name}: expected a JPEG of at most {_SCANS} scans, found more")
