"""Items that arrive while calls are under way go together."""

import asyncio
from collections.abc import Sequence

import pytest

from serve_app.gathering import Gatherer


class Server:
    """Answer each item with its double when told to, and remember the calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.free = asyncio.Semaphore(0)
        self.error: Exception | None = None

    async def call(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        await self.free.acquire()
        if self.error is not None:
            raise self.error
        return [2 * item for item in items]


async def submitted(gatherer: Gatherer[int, int], *items: int, key: str = "k") -> list[asyncio.Task[int]]:
    tasks = [asyncio.ensure_future(gatherer.submit(key, item)) for item in items]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_lone_items_are_called_for_at_once() -> None:
    server = Server()
    gatherer = Gatherer(server.call, lambda: 2, most=8)
    await submitted(gatherer, 1)
    await submitted(gatherer, 2)
    assert server.calls == [[1], [2]]
    await gatherer.close()


async def test_what_arrives_while_calls_are_under_way_goes_together() -> None:
    server = Server()
    gatherer = Gatherer(server.call, lambda: 1, most=3)
    tasks = await submitted(gatherer, 1, 2, 3, 4, 5)
    for _ in range(3):
        server.free.release()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert server.calls == [[1], [2, 3, 4], [5]]


async def test_only_items_of_one_key_go_together() -> None:
    server = Server()
    gatherer = Gatherer(server.call, lambda: 1, most=8)
    tasks = await submitted(gatherer, 1)
    tasks += await submitted(gatherer, 2, key="other")
    tasks += await submitted(gatherer, 3)
    tasks += await submitted(gatherer, 4, key="other")
    for _ in range(3):
        server.free.release()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert server.calls == [[1], [2, 4], [3]]


async def test_what_was_asked_for_first_goes_first() -> None:
    server = Server()
    gatherer = Gatherer(server.call, lambda: 1, most=2)
    tasks = [
        asyncio.ensure_future(gatherer.submit("k", item, since_s)) for item, since_s in ((1, 0), (2, 9), (3, 5), (4, 7))
    ]
    await asyncio.sleep(0)
    for _ in range(3):
        server.free.release()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert server.calls == [[1], [3, 4], [2]]


async def test_who_stopped_waiting_is_left_out() -> None:
    server = Server()
    gatherer = Gatherer(server.call, lambda: 1, most=8)
    first, second, third = await submitted(gatherer, 1, 2, 3)
    second.cancel()
    await asyncio.sleep(0)
    for _ in range(2):
        server.free.release()
    assert await asyncio.gather(first, third) == [2, 6]
    assert server.calls == [[1], [3]]


async def test_an_error_is_that_of_all_who_were_called_for() -> None:
    server = Server()
    server.error = ValueError("no")
    gatherer = Gatherer(server.call, lambda: 1, most=8)
    tasks = await submitted(gatherer, 1, 2, 3)
    for _ in range(2):
        server.free.release()
    for task in tasks:
        with pytest.raises(ValueError, match="no"):
            await task


async def test_closing_ends_who_waits() -> None:
    server = Server()
    gatherer = Gatherer(server.call, lambda: 1, most=8)
    tasks = await submitted(gatherer, 1, 2)
    await gatherer.close()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
