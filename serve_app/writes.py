"""Changes of products, taken one group after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from typing import Protocol

from serve_app.changes import Change, Changed, Refusal
from serve_app.errors import DeadlineExceeded, Overloaded, ShoplensError, Unavailable
from serve_app.gathering import Gatherer

CHANGES_A_CALL = 16
"""Changes that are stored together: their images are fetched and embedded side by side."""
MOST_WAITING = 400
"""Changes that are in work or wait; four of the largest batches."""
MOST_WAITING_BYTES = 128 * 2**20
"""Of the images that came with them."""
LATE = "the change took longer than it may, and may be stored all the same; send it again"


class Writer(Protocol):
    def apply(self, changes: Sequence[Change]) -> list[Changed]:
        """Return what became of each change once it is stored; repeats do no harm."""
        ...


class Turns(Protocol):
    """Keep other processes from products while this one changes them."""

    def held(self, products: Sequence[str]) -> AbstractAsyncContextManager[None]: ...


class Writes:
    """Give changes to a writer, in the order in which they came, from one thread; use it in one event loop.

    The writer is opened by the first change, and anew where it failed. Who stopped waiting before a change's turn has
    it left out.
    """

    def __init__(
        self, open_writer: Callable[[], AbstractContextManager[Writer]], turns: Turns, deadline_s: float
    ) -> None:
        self._open = open_writer
        self._turns = turns
        self._deadline_s = deadline_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
        self._gatherer: Gatherer[Change, Changed] = Gatherer(self._call, lambda: 1, CHANGES_A_CALL)
        self._waiting = 0
        self._waiting_bytes = 0
        self._opened: tuple[ExitStack, Writer] | None = None

    async def write(self, changes: Sequence[Change], at_ms: int) -> list[Changed]:
        """Return what became of each change; those without a time are of `at_ms`.

        Where one is not stored in time, or not at all, it has the reason. Raises Overloaded, with nothing taken on,
        where too much waits already.
        """
        size_bytes = sum(change.size_bytes for change in changes)
        full = self._waiting + len(changes) > MOST_WAITING or self._waiting_bytes + size_bytes > MOST_WAITING_BYTES
        if full and self._waiting:
            raise Overloaded("too many changes of products wait; send them again later")
        self._waiting += len(changes)
        self._waiting_bytes += size_bytes
        try:
            return list(await asyncio.gather(*(self._write(change, at_ms) for change in changes)))
        finally:
            self._waiting -= len(changes)
            self._waiting_bytes -= size_bytes

    async def _write(self, change: Change, at_ms: int) -> Changed:
        if change.at_ms is None:
            change = replace(change, at_ms=at_ms)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._gatherer.submit(None, change)
        except TimeoutError:
            error: ShoplensError = DeadlineExceeded(LATE)
        except ShoplensError as raised:
            error = raised
        return Changed(change.product_id, change.at_ms or at_ms, refusal=Refusal.of(error))

    async def _call(self, changes: Sequence[Change]) -> Sequence[Changed]:
        # Two writers of one image would both find it older than what they bring.
        async with self._turns.held(sorted({change.product_id for change in changes})):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._apply, changes)

    def _apply(self, changes: Sequence[Change]) -> list[Changed]:
        if self._opened is None:
            stack = ExitStack()
            self._opened = stack, stack.enter_context(self._open())
        try:
            return self._opened[1].apply(changes)
        except Unavailable:
            self._close()
            raise

    def _close(self) -> None:
        if self._opened is not None:
            stack, _ = self._opened
            self._opened = None
            with suppress(ShoplensError):
                stack.close()
