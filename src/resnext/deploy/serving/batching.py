"""Pictures of many requests go through the engine together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from resnext.deploy.engines import Engine

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """Logits of a picture, and its share of the time that its batch took."""

    logits: Tensor
    seconds: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    image: Tensor
    answer: "asyncio.Future[Answer]"


class Batcher:
    """Collects what comes within a moment, and hands it to the engine in one thread.

    Args:
        engine: called with N x C x H x W.
        most: pictures at once.
        wait: seconds that the first of a batch waits for others.
        expected: how many pictures are on their way; with none left nobody waits.
        done: told of each batch: pictures and seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        most: int,
        wait: float,
        expected: Callable[[], int],
        done: Callable[[int, float], None],
    ) -> None:
        self._engine, self._most, self._wait = engine, most, wait
        self._expected, self._done = expected, done
        self._waiting: deque[_Waiting] = deque()
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    async def answer(self, images: Sequence[Tensor]) -> list[Answer]:
        """Logits of C x H x W images, in their order.

        Raises:
            Exception: whatever the engine raises on the batch of one of them.
        """
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(image, loop.create_future()) for image in images]
        self._waiting.extend(waiting)
        self._came.set()
        try:
            return list(await asyncio.gather(*(each.answer for each in waiting)))
        finally:
            for each in waiting:  # whoever has left is not computed
                each.answer.cancel()

    async def aside(self, work: Callable[[], Result]) -> Result:
        """Something else for the engine's thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def run(self) -> None:
        """Batch after batch, until cancelled."""
        while True:
            batch = await self._collect()
            if batch:
                await self._through(batch)

    def close(self) -> None:
        """Wait for what the engine is at."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _collect(self) -> list[_Waiting]:
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        until = time.monotonic() + self._wait
        while len(self._waiting) < min(self._most, self._expected()):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), left)
            except TimeoutError:
                break
        return self._take()

    def _take(self) -> list[_Waiting]:
        """The first in the queue and those of its shape, in their order."""
        taken: list[_Waiting] = []
        others: list[_Waiting] = []
        while self._waiting and len(taken) < self._most:
            each = self._waiting.popleft()
            if each.answer.done():
                continue
            alike = not taken or each.image.shape == taken[0].image.shape
            (taken if alike else others).append(each)
        self._waiting.extendleft(reversed(others))
        return taken

    async def _through(self, batch: list[_Waiting]) -> None:
        def forward() -> tuple[Tensor, float]:
            started = time.perf_counter()
            logits = self._engine(torch.stack([each.image for each in batch]))
            return logits, time.perf_counter() - started

        try:
            logits, seconds = await self.aside(forward)
            answers = [
                Answer(row, seconds / len(batch)) for _, row in zip(batch, logits, strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        self._done(len(batch), seconds)
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
