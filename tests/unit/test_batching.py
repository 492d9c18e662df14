import asyncio
import threading

import pytest

from serve_app.batching import Batcher
from serve_app.errors import NotAnImage, Overloaded, StageUnavailable


class GatedModel:
    """Double numbers, one batch for each time the gate is opened; remember the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Semaphore(0)

    def run(self, items: list[int]) -> list[int]:
        assert self.gate.acquire(timeout=10)
        self.batches.append(items)
        if -1 in items:
            raise RuntimeError("poison")
        if -2 in items:
            raise NotAnImage("no image")
        return [2 * item for item in items]


async def started(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def test_lone_item_is_served_at_once():
    model = GatedModel()
    model.gate.release()
    assert await Batcher(model.run, max_batch=8, max_queued=8).submit(3) == 6


async def test_items_that_came_while_the_model_was_busy_form_one_batch():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=8, max_queued=8)
    tasks = await started(batcher, 1)
    tasks += await started(batcher, 2, 3)
    model.gate.release(2)
    assert await asyncio.gather(*tasks) == [2, 4, 6]
    assert model.batches == [[1], [2, 3]]


async def test_batch_holds_no_more_than_its_bound_of_cost():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=4, max_queued=100, cost=lambda item: item)
    tasks = await started(batcher, 1, 3, 2, 9)
    model.gate.release(9)
    await asyncio.gather(*tasks)
    assert model.batches == [[1, 3], [2], [9]]


async def test_full_queue_refuses():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=1, max_queued=2)
    tasks = await started(batcher, 1)
    tasks += await started(batcher, 2, 3)
    with pytest.raises(Overloaded):
        await batcher.submit(4)
    model.gate.release(3)
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_who_stopped_waiting_is_not_served():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=1, max_queued=8)
    first, gone, last = [(await started(batcher, i))[0] for i in (1, 2, 3)]
    gone.cancel()
    model.gate.release(2)
    assert await asyncio.gather(first, last) == [2, 6]
    assert model.batches == [[1], [3]]


async def test_poisonous_item_fails_alone():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=8, max_queued=8)
    tasks = await started(batcher, 1, -1, 3)
    model.gate.release(5)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], StageUnavailable)
    assert results[2] == 6


async def test_error_of_the_input_reaches_its_caller_as_it_is():
    model = GatedModel()
    model.gate.release()
    with pytest.raises(NotAnImage):
        await Batcher(model.run, max_batch=8, max_queued=8).submit(-2)


async def test_model_that_fails_again_and_again_is_unhealthy():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=1, max_queued=8)
    for _ in range(3):
        batcher.check_health()
        model.gate.release()
        with pytest.raises(StageUnavailable):
            await batcher.submit(-1)
    with pytest.raises(StageUnavailable):
        batcher.check_health()


async def test_batches_are_measured():
    seen = []
    model = GatedModel()
    model.gate.release()
    batcher = Batcher(model.run, max_batch=8, max_queued=8, observe=lambda cost, waits: seen.append((cost, waits)))
    await batcher.submit(1)
    ((cost, (wait_ms,)),) = seen
    assert cost == 1
    assert wait_ms >= 0


async def test_closing_answers_everyone_who_waits():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=1, max_queued=8)
    tasks = await started(batcher, 1)
    tasks += await started(batcher, 2)
    await batcher.close()
    model.gate.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StageUnavailable, StageUnavailable]
