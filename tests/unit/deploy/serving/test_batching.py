import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from resnext.deploy.serving.batching import Batcher


class Engine:
    """Sums each image; notes what it was given."""

    def __init__(self):
        self.sizes, self.threads = [], set()
        self.gate = threading.Event()
        self.gate.set()
        self.error = None

    def __call__(self, images):
        self.sizes.append(len(images))
        self.threads.add(threading.get_ident())
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        return images.sum((1, 2, 3))[:, None]


def image(value, side=2):
    return torch.full((1, side, side), float(value))


def run(engine, work, *, most=4, wait=0.05, expected=lambda: 1000):
    through = []

    async def main():
        batcher = Batcher(
            engine,
            most=most,
            wait=wait,
            expected=expected,
            done=lambda count, _: through.append(count),
        )
        task = asyncio.create_task(batcher.run())
        try:
            return await work(batcher)
        finally:
            task.cancel()
            engine.gate.set()
            batcher.close()

    # in a thread of its own: a browser that other tests keep open has a loop in the main one
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: asyncio.run(asyncio.wait_for(main(), 20))).result()
    return found, through


def test_everybody_gets_the_own_answer_in_full_batches():
    engine = Engine()

    async def work(batcher):
        asked = (batcher.answer([image(i), image(100 + i)]) for i in range(20))
        return await asyncio.gather(*asked)

    found, through = run(engine, work)
    for i, (first, second) in enumerate(found):
        assert first.logits.item() == 4 * i
        assert second.logits.item() == 4 * (100 + i)
    assert sum(engine.sizes) == 40
    assert max(engine.sizes) == 4
    assert len(engine.sizes) == 10
    assert through == engine.sizes
    assert len(engine.threads) == 1


def test_one_alone_waits_for_nobody_that_is_not_coming():
    engine = Engine()

    async def work(batcher):
        return await asyncio.wait_for(batcher.answer([image(1)]), 1)

    found, _ = run(engine, work, wait=10, expected=lambda: 1)
    assert found[0].logits.item() == 4


def test_a_moment_s_wait_gathers_a_batch():
    engine = Engine()

    async def work(batcher):
        async def later():
            await asyncio.sleep(0.05)
            return await batcher.answer([image(2)])

        return await asyncio.gather(batcher.answer([image(1)]), later())

    run(engine, work, wait=5, expected=lambda: 2)
    assert engine.sizes == [2]


def test_images_of_different_sizes_go_apart():
    engine = Engine()

    async def work(batcher):
        sizes = (2, 3, 2, 3, 2)
        return await asyncio.gather(*(batcher.answer([image(1, side)]) for side in sizes))

    found, _ = run(engine, work, most=8)
    assert [answer.logits.item() for (answer,) in found] == [4, 9, 4, 9, 4]
    assert sorted(engine.sizes) == [2, 3]


def test_an_error_reaches_its_batch_and_no_other():
    engine = Engine()

    async def work(batcher):
        engine.error = MemoryError("too large")
        with pytest.raises(MemoryError):
            await batcher.answer([image(1)])
        engine.error = None
        return await batcher.answer([image(2)])

    found, _ = run(engine, work, expected=lambda: 1)
    assert found[0].logits.item() == 8


def test_an_engine_that_answers_too_few_is_an_error_and_no_end():
    engine = Engine()

    async def work(batcher):
        batcher._engine = lambda images: engine(images)[1:]
        with pytest.raises(ValueError, match="shorter"):
            await batcher.answer([image(1)])
        batcher._engine = engine
        return await batcher.answer([image(2)])

    found, _ = run(engine, work, expected=lambda: 1)
    assert found[0].logits.item() == 8


def test_whoever_leaves_is_not_computed():
    engine = Engine()

    async def work(batcher):
        engine.gate.clear()
        running = asyncio.create_task(batcher.answer([image(0)]))
        while not engine.sizes:
            await asyncio.sleep(0.01)
        left = asyncio.create_task(batcher.answer([image(1)]))
        stays = asyncio.create_task(batcher.answer([image(2)]))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.sleep(0)
        engine.gate.set()
        await running
        return await stays

    found, _ = run(engine, work, wait=0)
    assert found[0].logits.item() == 8
    assert engine.sizes == [1, 1]
