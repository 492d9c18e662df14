"""The batcher between a stage's requests and its model.

A batch is sealed when the model is free, not by a timer: an idle model serves a lone request at once, a
busy one finds everything that has arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from serve_app.errors import Overloaded, ShoplensError, StageUnavailable

FAILURES_UNTIL_UNHEALTHY = 3

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    cost: int
    future: asyncio.Future[Result]
    since: float


class Batcher(Generic[Item, Result]):
    """Run items through a synchronous model in batches, one batch at a time, in one worker thread.

    `cost` counts an item's work (crops); a batch holds at most `max_batch` of it, except for a single
    item that costs more, and at most `max_queued` waits. Whoever stopped waiting is dropped unserved.
    `observe` is told each batch's cost and how long its items waited, ms.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        *,
        max_batch: int,
        max_queued: int,
        cost: Callable[[Item], int] = lambda _: 1,
        observe: Callable[[int, Sequence[float]], None] = lambda _cost, _waits_ms: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._cost = cost
        self._observe = observe
        self._failures = 0
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._queued = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Return the model's result for one item.

        Raises Overloaded at once where the queue is full, and whatever the model raises for this item.
        """
        cost = self._cost(item)
        if self._queue and self._queued + cost > self._max_queued:
            raise Overloaded("too many searches wait for this stage; try again shortly")
        waiting: _Waiting[Item, Result] = _Waiting(
            item, cost, asyncio.get_running_loop().create_future(), time.monotonic()
        )
        self._queue.append(waiting)
        self._queued += cost
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.future

    def check_health(self) -> None:
        """Raise StageUnavailable where the model failed several times in a row on input that was fine."""
        if self._failures >= FAILURES_UNTIL_UNHEALTHY:
            raise StageUnavailable(f"the model failed {self._failures} times in a row")

    async def close(self) -> None:
        """Stop; whoever still waits gets StageUnavailable."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        _refuse(self._queue)
        self._queue.clear()
        self._queued = 0
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        while batch := self._seal():
            await self._serve(batch)

    def _seal(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        cost = 0
        while self._queue:
            first = self._queue[0]
            if not first.future.done():
                if batch and cost + first.cost > self._max_batch:
                    break
                batch.append(first)
                cost += first.cost
            self._queue.popleft()
            self._queued -= first.cost
        return batch

    async def _serve(self, batch: list[_Waiting[Item, Result]]) -> None:
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._observe(sum(w.cost for w in batch), [(now - w.since) * 1e3 for w in batch])
        try:
            results = await loop.run_in_executor(self._thread, self._run, [w.item for w in batch])
        except asyncio.CancelledError:
            _refuse(batch)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model raises belongs to its caller, not to the worker
            await self._serve_alone(batch, error)
            return
        self._failures = 0
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)

    async def _serve_alone(self, batch: list[_Waiting[Item, Result]], error: Exception) -> None:
        """Find the item that failed the batch, so that its neighbours do not pay for it."""
        if len(batch) > 1:
            for waiting in batch:
                await self._serve([waiting])
            return
        if not isinstance(error, ShoplensError):
            self._failures += 1
            error = StageUnavailable(f"the model failed: {error!r}")
        if not batch[0].future.done():
            batch[0].future.set_exception(error)


def _refuse(items: Iterable[_Waiting[Item, Result]]) -> None:
    for waiting in items:
        if not waiting.future.done():
            waiting.future.set_exception(StageUnavailable("this stage is shutting down; try again"))
