"""Calls to a server that is cheaper asked for many things at once than for each alone."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    key: Hashable
    item: Item
    since_s: float
    future: asyncio.Future[Result]


class Gatherer(Generic[Item, Result]):
    """Make calls of items that arrived together; use it in one event loop.

    Up to `at_once()` calls are under way: a lone item is called for at once, further ones wait, and go together
    when a call ends, the oldest first. A call takes items of equal `key`, `most` at most. Whoever stopped waiting is
    left out.
    """

    def __init__(
        self, call: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], at_once: Callable[[], int], most: int
    ) -> None:
        self._call = call
        self._at_once = at_once
        self._most = most
        self._waiting: list[_Waiting[Item, Result]] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def submit(self, key: Hashable, item: Item, since_s: float = 0.0) -> Result:
        """Return the result for one item; raises what its call raised.

        What is tried again keeps its turn by the time `since_s` that it was first asked for.
        """
        waiting: _Waiting[Item, Result] = _Waiting(key, item, since_s, asyncio.get_running_loop().create_future())
        insort(self._waiting, waiting, key=lambda other: other.since_s)
        self._start()
        return await waiting.future

    async def close(self) -> None:
        """Cancel the calls under way, and whoever waits."""
        for waiting in self._waiting:
            waiting.future.cancel()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _start(self) -> None:
        while len(self._calls) < self._at_once() and (batch := self._seal()):
            task = asyncio.create_task(self._serve(batch))
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._start()

    def _seal(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        others: list[_Waiting[Item, Result]] = []
        for waiting in self._waiting:
            if waiting.future.done():
                continue
            fits = not batch or (waiting.key == batch[0].key and len(batch) < self._most)
            (batch if fits else others).append(waiting)
        self._waiting = others
        return batch

    async def _serve(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._call([waiting.item for waiting in batch])
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - a call's error belongs to those who wait for it
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)
