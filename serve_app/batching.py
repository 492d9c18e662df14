"""The batcher between a stage's requests and its model.

A batch is sealed when the model is free, not by a timer: an idle model serves a lone request at once, a
busy one finds everything that has arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from serve_app.domain import PATIENT, Terms
from serve_app.errors import (
    DeadlineExceeded,
    DeviceFailed,
    DeviceOutOfMemory,
    Overloaded,
    ShoplensError,
    StageUnavailable,
)
from serve_app.scaling import Meter

FAILURES_UNTIL_UNHEALTHY = 3
FAIR_ITEMS = 4
"""Items of one request that are served before it is another's turn: the crops of a search with default settings."""
BULK_SHARE = 0.5
"""Part of the queue that bulk calls may fill, so that a search always finds room."""
HUNG_S = 60.0
"""A batch that takes longer hangs: even 64 crops on one slow core take 10 s."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Watcher(Protocol):
    """Is told what the batcher does."""

    def sealed(self, items: int, waits_ms: Sequence[float]) -> None:
        """Take a batch's size, and how long each of its requests has waited for the model, ms."""
        ...

    def dropped(self, reason: str, items: int) -> None:
        """Take how much work was dropped before it reached the model: `gone` or `expired`."""
        ...


class _Unwatched:
    def sealed(self, items: int, waits_ms: Sequence[float]) -> None:
        """Look away."""

    def dropped(self, reason: str, items: int) -> None:
        """Look away."""


UNWATCHED: Watcher = _Unwatched()


@dataclass(eq=False)
class Request(Generic[Item]):
    """Hold the items that one caller waits for; `sealed` of them are in batches already."""

    items: Sequence[Item]
    terms: Terms
    since_s: float
    is_gone: Callable[[], bool]
    sealed: int = 0

    @property
    def waiting(self) -> int:
        return len(self.items) - self.sealed


@dataclass(frozen=True)
class Part(Generic[Item]):
    """Name some of a request's items."""

    request: Request[Item]
    start: int
    stop: int

    @property
    def items(self) -> Sequence[Item]:
        return self.request.items[self.start : self.stop]


class Queue(Generic[Item]):
    """Decide whose items come next.

    Searches come before bulk calls. Within either, requests take turns of FAIR_ITEMS in the order of their arrival:
    a large one waits for small ones that came later, never the other way round.
    """

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._lanes: dict[bool, deque[Request[Item]]] = {False: deque(), True: deque()}
        self._items: Counter[bool] = Counter()

    def __len__(self) -> int:
        return self._items.total()

    def add(self, request: Request[Item]) -> None:
        """Let a request wait; raises Overloaded where that would be more items than may wait.

        A request that is larger than the whole queue is taken by an empty one.
        """
        bulk, items = request.terms.bulk, len(request.items)
        full = len(self) + items > self._max_items
        if bulk:
            full |= self._items[bulk] + items > BULK_SHARE * self._max_items
        if full and len(self):
            raise Overloaded("too many searches wait for this stage; try again shortly")
        self._lanes[bulk].append(request)
        self._items[bulk] += items

    def seal(self, max_batch: int, now_s: float) -> tuple[list[Part[Item]], list[Request[Item]]]:
        """Take the next batch, of at most `max_batch` items, and the requests that nobody waits for any more.

        A batch is empty only where nothing waits.
        """
        batch: list[Part[Item]] = []
        over: list[Request[Item]] = []
        room = max_batch
        for bulk, lane in self._lanes.items():
            while lane and room:
                request = lane[0]
                if request.is_gone() or request.terms.deadline_s <= now_s:
                    over.append(request)
                    self._items[bulk] -= lane.popleft().waiting
                    continue
                taken = min(request.waiting, room, FAIR_ITEMS)
                batch.append(Part(request, request.sealed, request.sealed + taken))
                request.sealed += taken
                room -= taken
                self._items[bulk] -= taken
                # Who was cut short by the batch's end stays first.
                if not request.waiting:
                    lane.popleft()
                elif taken == FAIR_ITEMS:
                    lane.rotate(-1)
        return batch, over

    def clear(self) -> list[Request[Item]]:
        """Take everything that waits."""
        left = [request for lane in self._lanes.values() for request in lane]
        for lane in self._lanes.values():
            lane.clear()
        self._items.clear()
        return left


@dataclass(eq=False)
class _Call(Request[Item], Generic[Item, Result]):
    future: asyncio.Future[list[Result]] = field(kw_only=True)
    results: dict[int, Result] = field(default_factory=dict, kw_only=True)

    def take(self, start: int, results: Iterable[Result]) -> None:
        self.results.update(enumerate(results, start))
        if len(self.results) == len(self.items) and not self.future.done():
            self.future.set_result([self.results[i] for i in range(len(self.items))])

    def fail(self, error: ShoplensError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Batcher(Generic[Item, Result]):
    """Run items through a synchronous model in batches, one batch at a time, in one worker thread.

    A batch holds at most `max_batch` items, of one request or of several, and at most `max_queued` wait.
    Work whose caller is gone or whose deadline has passed does not reach the model. Where a batch does not fit
    into the device's memory, batches are half as large from then on.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Result]],
        *,
        max_batch: int,
        max_queued: int,
        watcher: Watcher = UNWATCHED,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._watcher = watcher
        self._queue: Queue[Item] = Queue(max_queued)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None
        self._running: tuple[int, float] = 0, 0.0
        self._meter = Meter(time.monotonic())
        self._failures = 0
        self._halved = False
        self._broken = ""

    async def submit(self, items: Sequence[Item], terms: Terms = PATIENT) -> list[Result]:
        """Return the model's result for each item of one request.

        Raises Overloaded at once where the queue is full, DeadlineExceeded where the items did not reach the model
        in time, and whatever the model raises for one of them.
        """
        if not items:
            return []
        future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._queue.add(_Call(items, terms, time.monotonic(), future.done, future=future))
        self._meter.asked(len(items), terms.demand)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    def backlog(self) -> int:
        """Return the items that wait or run."""
        return len(self._queue) + self._running[0]

    def report(self) -> dict[str, float]:
        """Return what autoscaling needs to know, of the time since the last report."""
        return self._meter.report(time.monotonic(), self.backlog())

    def check_health(self) -> None:
        """Raise StageUnavailable where the device failed, the model hangs, or it failed again and again."""
        if self._broken:
            raise StageUnavailable(self._broken)
        if self._failures >= FAILURES_UNTIL_UNHEALTHY:
            raise StageUnavailable(f"the model failed {self._failures} times in a row")
        items, since_s = self._running
        if items and time.monotonic() - since_s > HUNG_S:
            raise StageUnavailable(f"the model has been busy with one batch for {time.monotonic() - since_s:.0f} s")

    async def close(self) -> None:
        """Stop; whoever still waits gets StageUnavailable."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        _refuse(self._queue.clear())
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        while batch := self._seal():
            self._watcher.sealed(
                sum(len(part.items) for part in batch),
                [(time.monotonic() - part.request.since_s) * 1e3 for part in batch],
            )
            await self._serve(batch)

    def _seal(self) -> list[Part[Item]]:
        batch, over = self._queue.seal(self._max_batch, time.monotonic())
        for request in over:
            reason = "gone" if request.is_gone() else "expired"
            self._watcher.dropped(reason, request.waiting)
            _call(request).fail(DeadlineExceeded("the search waited too long for this stage; try again"))
        return batch

    async def _serve(self, batch: list[Part[Item]]) -> None:
        items = [item for part in batch for item in part.items]
        try:
            results = await self._compute(items)
        except asyncio.CancelledError:
            _refuse(part.request for part in batch)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model raises belongs to its callers, not to the worker
            await self._recover(batch, error)
            return
        self._failures = 0
        rest = iter(results)
        for part in batch:
            _call(part.request).take(part.start, [next(rest) for _ in part.items])

    async def _compute(self, items: list[Item]) -> Sequence[Result]:
        started_s = time.monotonic()
        self._running = len(items), started_s
        self._meter.began(started_s)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, items)
        finally:
            self._running = 0, 0.0
            self._meter.ended(len(items), time.monotonic())

    async def _recover(self, batch: list[Part[Item]], error: Exception) -> None:
        """Serve the halves of a batch that was too large, else find the request that failed it.

        Neighbours of a bad request do not pay for it.
        """
        if isinstance(error, DeviceFailed):
            self._broken = error.message
            _refuse((part.request for part in batch), error.message)
            return
        if isinstance(error, DeviceOutOfMemory) and not self._halved and self._max_batch > 1:
            self._halved = True
            self._max_batch //= 2
            for half in _halves(batch):
                await self._serve(half)
            return
        if len(batch) > 1:
            for part in batch:
                await self._serve([part])
            return
        if isinstance(error, DeviceOutOfMemory) or not isinstance(error, ShoplensError):
            self._failures += 1
            error = StageUnavailable(f"the model failed: {error!r}")
        _call(batch[0].request).fail(error)


def _halves(batch: Sequence[Part[Item]]) -> list[list[Part[Item]]]:
    """Split a batch by items, a part as well where the middle falls into it."""
    left = sum(len(part.items) for part in batch) // 2
    halves: tuple[list[Part[Item]], list[Part[Item]]] = ([], [])
    for part in batch:
        middle = min(part.stop, part.start + left)
        left -= middle - part.start
        for half, start, stop in ((halves[0], part.start, middle), (halves[1], middle, part.stop)):
            if start < stop:
                half.append(Part(part.request, start, stop))
    return [half for half in halves if half]


def _call(request: Request[Item]) -> _Call[Item, object]:
    assert isinstance(request, _Call)
    return request


def _refuse(requests: Iterable[Request[Item]], reason: str = "this stage is shutting down; try again") -> None:
    for request in requests:
        _call(request).fail(StageUnavailable(reason))
