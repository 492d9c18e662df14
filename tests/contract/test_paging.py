"""A ranking of a thousand products is paged through on every engine while the catalogue changes."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from serve_app.collection import Row
from serve_app.config import SearchParams
from serve_app.domain import PATIENT, Crops, Terms
from serve_app.keeping import NOBODY, Bounds, ShelfStore
from serve_app.milvus.models import ModelSearchers
from serve_app.objects import Focus
from serve_app.paging import Paging
from serve_app.photos import Photos
from serve_app.pipeline import Embedded, Pipeline, Query, Sighting
from serve_app.sessions import Sessions
from tests.contract.engines import FINGERPRINT, Index, settle
from tests.contract.rows import embedding, embeddings, row

PRODUCTS = 1_200
SEED = 20_261_125
CHANGED_AT_ONCE = 10
PAUSE_S = 0.06
"""About a hundred upserts and deletes a second."""


class OnePhoto:
    async def detect(self, photo: bytes, focus: Focus, terms: Terms = PATIENT) -> Sighting:
        return Sighting(640, 480, (), np.zeros((1, 2, 2, 3), np.uint8), 1.0)

    async def embed(self, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        return Embedded(embeddings(1, seed=SEED), FINGERPRINT)


def rows() -> list[Row]:
    return [row(f"item-{number}", product_id=f"p{number}", price=number, updated_at=1) for number in range(PRODUCTS)]


class Changes:
    """Upsert and delete rows in a thread, until stopped; remember what was deleted."""

    def __init__(self, index: Index, seed: int) -> None:
        self._writer = index.writer()
        self._draw = random.Random(seed)
        self._stopped = threading.Event()
        self.deleted: set[str] = set()
        self.calls = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            self.calls += 1
            now = 1 + self.calls
            chosen = self._draw.sample(range(PRODUCTS), CHANGED_AT_ONCE)
            gone = [number for number in chosen if number % 10 == 0]
            self.deleted |= {f"p{number}" for number in gone}
            self._writer.write([self._moved(number, now) for number in chosen if number % 10])
            if gone:
                self._writer.delete([f"item-{number}" for number in gone])

    def _moved(self, number: int, now: int) -> Row:
        """Give a product another price, and another place in every ranking."""
        moved = embedding(f"moved {number} {now}")
        return row(f"item-{number}", product_id=f"p{number}", vector=moved, price=10_000 + now, updated_at=now)


@pytest.fixture
async def sessions(index: Index) -> AsyncIterator[Sessions]:
    index.writer().write(rows())
    settle(index.engine)
    searchers = ModelSearchers([index.engine.uri], index.engine.config, index.catalogue, SearchParams())
    flow = Pipeline(OnePhoto(), OnePhoto(), searchers)
    photos = Photos(ShelfStore(Bounds(10**8, 10**8, 900)), 5, bytes)
    yield Sessions(flow, photos, Paging(flow, searchers, photos, FINGERPRINT))
    await searchers.close()


async def test_no_product_comes_twice_and_none_is_lost_but_the_deleted(index: Index, sessions: Sessions) -> None:
    """The second page fixes the rest of the ranking, so what is fixed is known after it."""
    first = await sessions.search(NOBODY, b"photo", Query(top_k=10, focus=Focus(0)))
    fixed = await sessions.page(NOBODY, first.lists[0].next or "", 100, None)
    seen = [hit.product_id for hit in (*(first.lists[0].products or ()), *(fixed.lists[0].products or ()))]
    assert len(seen) == 110
    everything = await _rest(sessions, fixed.lists[0].next, 100)
    changes = Changes(index, SEED)
    with changes.running():
        started_s = time.monotonic()
        found = list(seen)
        cursor = fixed.lists[0].next
        while cursor:
            answer = await sessions.page(NOBODY, cursor, 20, None)
            found += [hit.product_id for hit in answer.lists[0].products or ()]
            cursor = answer.lists[0].next
            await asyncio.sleep(0.05)
        took_s = time.monotonic() - started_s
    print(f"{changes.calls * CHANGED_AT_ONCE / took_s:.0f} changes a second, {len(changes.deleted)} products deleted")
    assert changes.deleted
    assert len(found) == len(set(found))
    ranking = [*seen, *everything]
    assert len(ranking) == 1_000
    lost = set(ranking) - set(found)
    assert lost <= changes.deleted
    assert [product for product in ranking if product not in lost] == found


async def _rest(sessions: Sessions, cursor: str | None, top_k: int) -> list[str]:
    found: list[str] = []
    while cursor:
        answer = await sessions.page(NOBODY, cursor, top_k, None)
        found += [hit.product_id for hit in answer.lists[0].products or ()]
        cursor = answer.lists[0].next
    return found
