"""Whose items come next, and what becomes of a batch that fails."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.batching import FAIR_ITEMS, Batcher, Queue, Request
from serve_app.domain import PATIENT, Terms
from serve_app.errors import (
    DeadlineExceeded,
    DeviceFailed,
    DeviceOutOfMemory,
    NotAnImage,
    Overloaded,
    StageUnavailable,
)

BULK = Terms(bulk=True)


def request(name: str, items: int, terms: Terms = PATIENT, is_gone: Callable[[], bool] = lambda: False) -> Request[str]:
    return Request([name] * items, terms, 0.0, is_gone)


def queue(*requests: Request[str], max_items: int = 1_000) -> Queue[str]:
    made: Queue[str] = Queue(max_items)
    for waiting in requests:
        made.add(waiting)
    return made


def sealed(of: Queue[str], max_batch: int, now_s: float = 0.0) -> str:
    """Return the next batch as the names of its items."""
    batch, _ = of.seal(max_batch, now_s)
    return "".join(item for part in batch for item in part.items)


def test_requests_are_served_whole_in_the_order_of_their_arrival():
    waiting = queue(request("a", 4), request("b", 2), request("c", 4))
    assert sealed(waiting, 8) == "aaaabbcc"
    assert sealed(waiting, 8) == "cc"


def test_a_large_request_takes_turns_with_small_ones():
    waiting = queue(request("L", 3 * FAIR_ITEMS), request("a", 1), request("b", 1))
    assert [sealed(waiting, FAIR_ITEMS) for _ in range(4)] == ["LLLL", "abLL", "LLLL", "LL"]


def test_a_shoppers_search_comes_before_bulk_calls():
    waiting = queue(request("b", 4, BULK), request("s", 2))
    assert sealed(waiting, 4) == "ssbb"


def test_bulk_calls_leave_room_for_searches():
    waiting = queue(request("b", 4, BULK), max_items=8)
    with pytest.raises(Overloaded):
        waiting.add(request("b", 1, BULK))
    waiting.add(request("s", 4))
    with pytest.raises(Overloaded):
        waiting.add(request("s", 1))


def test_a_request_larger_than_the_queue_is_taken_by_an_empty_one():
    waiting = queue(request("L", 9), max_items=8)
    assert len(waiting) == 9


def test_work_past_its_deadline_is_dropped_before_the_model_sees_it():
    late, gone = request("l", 2, Terms(deadline_s=5.0)), request("g", 2, is_gone=lambda: True)
    waiting = queue(late, gone, request("a", 1, Terms(deadline_s=5.1)))
    batch, over = waiting.seal(8, now_s=5.0)
    assert [part.request.items for part in batch] == [["a"]]
    assert over == [late, gone]
    assert len(waiting) == 0


def test_a_request_that_expires_half_served_gives_its_place_up():
    waiting = queue(request("l", 6, Terms(deadline_s=5.0)), request("a", 4))
    assert sealed(waiting, 4) == "llll"
    assert sealed(waiting, 8, now_s=6.0) == "aaaa"
    assert len(waiting) == 0


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=30),
    st.integers(1, 16),
)
def test_every_item_is_sealed_once_and_no_batch_is_too_large(asked: list[tuple[int, bool]], max_batch: int):
    requests = [
        Request([f"{number}.{i}" for i in range(items)], Terms(bulk=bulk), 0.0, lambda: False)
        for number, (items, bulk) in enumerate(asked)
    ]
    waiting: Queue[str] = Queue(10**6)
    for each in requests:
        waiting.add(each)
    seen: list[str] = []
    while batch := waiting.seal(max_batch, 0.0)[0]:
        items = [item for part in batch for item in part.items]
        assert len(items) == min(max_batch, len(items) + len(waiting))
        seen += items
    assert sorted(seen) == sorted(item for each in requests for item in each.items)
    assert len(waiting) == 0


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, FAIR_ITEMS))
def test_a_small_request_waits_for_one_turn_of_each_before_it(before: list[int], items: int):
    waiting = queue(*(request("L", size) for size in before), request("s", items))
    ahead = ""
    while "s" not in ahead:
        ahead += sealed(waiting, FAIR_ITEMS)
    assert ahead.index("s") <= FAIR_ITEMS * len(before)


class GatedModel:
    """Double numbers, one batch for each time the gate is opened; remember the batches."""

    def __init__(self, fits: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Semaphore(0)
        self.fits = fits

    def run(self, items: list[int]) -> list[int]:
        assert self.gate.acquire(timeout=10)
        self.batches.append(items)
        if -1 in items:
            raise RuntimeError("poison")
        if -2 in items:
            raise NotAnImage("no image")
        if -3 in items:
            raise DeviceFailed("the GPU failed")
        if len(items) > self.fits:
            raise DeviceOutOfMemory("too large")
        return [2 * item for item in items]


class Notes:
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def sealed(self, items, waits_ms):
        assert all(wait_ms >= 0 for wait_ms in waits_ms)
        self.told.append(("sealed", items))

    def dropped(self, reason, items):
        self.told.append((reason, items))


async def started(batcher: Batcher[int, int], *requests: list[int], terms: Terms = PATIENT) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(batcher.submit(items, terms)) for items in requests]
    await asyncio.sleep(0)
    return tasks


async def test_lone_request_is_served_at_once():
    model = GatedModel()
    model.gate.release()
    assert await Batcher(model.run, max_batch=8, max_queued=8).submit([3, 4]) == [6, 8]


async def test_no_items_need_no_model():
    assert await Batcher(GatedModel().run, max_batch=8, max_queued=8).submit([]) == []


async def test_what_came_while_the_model_was_busy_forms_one_batch():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=8, max_queued=8)
    tasks = await started(batcher, [1])
    tasks += await started(batcher, [2], [3, 4])
    assert batcher.backlog() == 4
    model.gate.release(2)
    assert await asyncio.gather(*tasks) == [[2], [4], [6, 8]]
    assert model.batches == [[1], [2, 3, 4]]
    assert batcher.backlog() == 0


async def test_a_request_larger_than_a_batch_is_answered_in_order():
    model = GatedModel()
    model.gate.release(9)
    items = list(range(20))
    assert await Batcher(model.run, max_batch=3, max_queued=100).submit(items) == [2 * item for item in items]
    assert max(map(len, model.batches)) == 3


async def test_full_queue_refuses():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=1, max_queued=2)
    tasks = await started(batcher, [1])
    tasks += await started(batcher, [2], [3])
    with pytest.raises(Overloaded):
        await batcher.submit([4])
    model.gate.release(3)
    assert await asyncio.gather(*tasks) == [[2], [4], [6]]


async def test_who_stopped_waiting_is_not_served():
    model, notes = GatedModel(), Notes()
    batcher = Batcher(model.run, max_batch=1, max_queued=8, watcher=notes)
    first, gone, last = [(await started(batcher, [i]))[0] for i in (1, 2, 3)]
    gone.cancel()
    model.gate.release(2)
    assert await asyncio.gather(first, last) == [[2], [6]]
    assert model.batches == [[1], [3]]
    assert ("gone", 1) in notes.told


async def test_whose_deadline_passed_is_told_and_not_served():
    model, notes = GatedModel(), Notes()
    batcher = Batcher(model.run, max_batch=1, max_queued=8, watcher=notes)
    (first,) = await started(batcher, [1])
    (late,) = await started(batcher, [2, 2], terms=Terms.within(0))
    model.gate.release(2)
    assert await first == [2]
    with pytest.raises(DeadlineExceeded):
        await late
    assert model.batches == [[1]]
    assert ("expired", 2) in notes.told


async def test_poisonous_request_fails_alone():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=8, max_queued=8)
    tasks = await started(batcher, [1], [-1], [3])
    model.gate.release(5)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == [2]
    assert isinstance(results[1], StageUnavailable)
    assert results[2] == [6]


async def test_error_of_the_input_reaches_its_caller_as_it_is():
    model = GatedModel()
    model.gate.release()
    with pytest.raises(NotAnImage):
        await Batcher(model.run, max_batch=8, max_queued=8).submit([-2])


async def test_model_that_fails_again_and_again_is_unhealthy():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=1, max_queued=8)
    for _ in range(3):
        batcher.check_health()
        model.gate.release()
        with pytest.raises(StageUnavailable):
            await batcher.submit([-1])
    with pytest.raises(StageUnavailable):
        batcher.check_health()


async def test_device_that_failed_makes_unhealthy_at_once():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=8, max_queued=8)
    tasks = await started(batcher, [1], [-3])
    model.gate.release(2)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, StageUnavailable)
    with pytest.raises(StageUnavailable, match="the GPU failed"):
        batcher.check_health()


async def test_batches_that_do_not_fit_are_halved_once():
    model = GatedModel(fits=2)
    batcher = Batcher(model.run, max_batch=4, max_queued=8)
    model.gate.release(20)
    assert await batcher.submit([1, 2, 3, 4]) == [2, 4, 6, 8]
    assert await batcher.submit([1, 2, 3, 4]) == [2, 4, 6, 8]
    assert [len(batch) for batch in model.batches] == [4, 2, 2, 2, 2]
    batcher.check_health()


async def test_a_model_that_fits_nothing_any_more_is_unhealthy():
    model = GatedModel(fits=0)
    batcher = Batcher(model.run, max_batch=4, max_queued=8)
    model.gate.release(20)
    for _ in range(3):
        with pytest.raises(StageUnavailable):
            await batcher.submit([1])
    with pytest.raises(StageUnavailable):
        batcher.check_health()


async def test_model_that_hangs_is_unhealthy(monkeypatch):
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=4, max_queued=8)
    (task,) = await started(batcher, [1])
    await asyncio.sleep(0.01)
    batcher.check_health()
    monkeypatch.setattr("serve_app.batching.HUNG_S", 0.0)
    with pytest.raises(StageUnavailable, match="busy with one batch"):
        batcher.check_health()
    model.gate.release()
    assert await task == [2]
    batcher.check_health()


async def test_batches_are_measured():
    model, notes = GatedModel(), Notes()
    model.gate.release()
    batcher = Batcher(model.run, max_batch=8, max_queued=8, watcher=notes)
    await batcher.submit([1, 2])
    assert notes.told == [("sealed", 2)]
    assert 0 < batcher.report()["busy"] <= 1


async def test_closing_answers_everyone_who_waits():
    model = GatedModel()
    batcher = Batcher(model.run, max_batch=1, max_queued=8)
    tasks = await started(batcher, [1])
    tasks += await started(batcher, [2])
    await batcher.close()
    model.gate.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StageUnavailable, StageUnavailable]
