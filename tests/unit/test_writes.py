"""Changes of products wait for their turn, and are stored in groups."""

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager

import pytest

from serve_app.changes import Changed, GivenImage, Put, Removal, Result
from serve_app.errors import DeadlineExceeded, MilvusUnavailable, Overloaded
from serve_app.writes import CHANGES_A_CALL, MOST_WAITING, MOST_WAITING_BYTES, Writes


class FakeWriter:
    def __init__(self):
        self.groups = []
        self.opened = self.closed = 0
        self.error = None
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()

    @contextmanager
    def open(self):
        self.opened += 1
        yield self
        self.closed += 1

    def apply(self, changes):
        self.groups.append([change.product_id for change in changes])
        self.busy.set()
        assert self.free.wait(30)
        if self.error is not None:
            raise self.error
        return [Changed(change.product_id, change.at_ms, Result.DELETED) for change in changes]


class Alone:
    """Let this process have every product."""

    def __init__(self):
        self.products = []

    @asynccontextmanager
    async def held(self, products):
        self.products.append(products)
        yield


def removals(*names):
    return [Removal(name) for name in names]


async def test_changes_are_written_in_their_order_with_the_time_of_their_request():
    writer = FakeWriter()
    own = Removal("b", at_ms=3)
    found = await Writes(writer.open, Alone(), 10).write([Removal("a"), own], at_ms=7)
    assert [(each.product_id, each.at_ms) for each in found] == [("a", 7), ("b", 3)]
    assert writer.opened == 1


async def test_nothing_is_opened_before_the_first_change():
    writer = FakeWriter()
    assert await Writes(writer.open, Alone(), 10).write([], at_ms=7) == []
    assert writer.opened == 0


async def test_what_came_meanwhile_is_stored_together():
    writer = FakeWriter()
    writer.free.clear()
    queue = Writes(writer.open, Alone(), 10)
    first = asyncio.create_task(queue.write(removals("a"), 1))
    await asyncio.to_thread(writer.busy.wait, 30)
    others = [asyncio.create_task(queue.write(removals(str(n)), 1)) for n in range(CHANGES_A_CALL + 2)]
    await asyncio.sleep(0)
    writer.free.set()
    await asyncio.gather(first, *others)
    assert [len(group) for group in writer.groups] == [1, CHANGES_A_CALL, 2]


async def test_index_that_is_away_is_the_reason_of_each_change_and_is_opened_anew():
    writer = FakeWriter()
    writer.error = MilvusUnavailable("Milvus can't be reached")
    queue = Writes(writer.open, Alone(), 10)
    (changed,) = await queue.write(removals("a"), 1)
    assert (changed.refusal.code, changed.refusal.status, changed.refusal.may_pass) == ("milvus_unavailable", 503, True)
    writer.error = None
    (changed,) = await queue.write(removals("a"), 1)
    assert (changed.result, writer.opened, writer.closed) == (Result.DELETED, 2, 1)


async def test_index_that_can_not_be_opened_is_the_reason():
    @contextmanager
    def away():
        raise MilvusUnavailable("Milvus can't be reached")
        yield

    (changed,) = await Writes(away, Alone(), 10).write(removals("a"), 1)
    assert changed.refusal.code == "milvus_unavailable"


async def test_change_that_takes_too_long_is_answered_in_time():
    writer = FakeWriter()
    writer.free.clear()
    queue = Writes(writer.open, Alone(), 0.05)
    found = await queue.write(removals("a"), 1)
    late = await queue.write(removals("b"), 1)
    assert [each.refusal.code for each in found + late] == ["deadline_exceeded"] * 2
    writer.free.set()
    (changed,) = await Writes(writer.open, Alone(), 10).write(removals("c"), 1)
    assert changed.result is Result.DELETED
    assert ["b"] not in writer.groups


@pytest.mark.parametrize(
    "more",
    [removals(*map(str, range(MOST_WAITING))), [Put("b", (GivenImage(data=b"x" * (MOST_WAITING_BYTES + 1)),))]],
    ids=["many", "large"],
)
async def test_more_than_may_wait_is_refused_and_nothing_of_it_taken_on(more):
    writer = FakeWriter()
    writer.free.clear()
    queue = Writes(writer.open, Alone(), 10)
    first = asyncio.create_task(queue.write(removals("a"), 1))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await queue.write(more, 1)
    writer.free.set()
    await first
    assert writer.groups == [["a"]]
    assert len(await queue.write(more, 1)) == len(more)


async def test_products_are_held_once_each_while_they_are_changed():
    writer, turns = FakeWriter(), Alone()
    await Writes(writer.open, turns, 10).write(removals("b", "a", "b"), 1)
    # The first is called for at once, the others go together after it.
    assert turns.products == [["b"], ["a", "b"]]


async def test_products_that_others_have_are_the_reason_and_nothing_is_written():
    class Taken(Alone):
        @asynccontextmanager
        async def held(self, products):
            raise DeadlineExceeded("others change these products")
            yield

    writer = FakeWriter()
    (changed,) = await Writes(writer.open, Taken(), 10).write(removals("a"), 1)
    assert (changed.refusal.code, writer.groups) == ("deadline_exceeded", [])
