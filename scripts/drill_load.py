"""A catalogue in Milvus, with the searches and writes that go on while a drill does its harm."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from scripts.drill_counts import Answer, Ledger
from scripts.synthetic import clustered, queries_near, unit
from serve_app.collection import Row, alias, row_id
from serve_app.config import MilvusConfig
from serve_app.domain import EMBEDDING_DIM, Embeddings, View
from serve_app.errors import ShoplensError
from serve_app.milvus import indexing
from serve_app.milvus.searcher import MilvusSearcher
from serve_app.milvus.writer import MilvusWriter

CATALOGUE = "drill"
FINGERPRINT = "0123456789ab"
K = 10
QUERIES = 100
CATEGORIES = 8
ROWS_A_CLUSTER = 40
"""Enough that all answers to a query come from one cluster, far from what is written meanwhile."""
FLUSH_ROWS = 10_000
"""The mock of a broker keeps about 5 MB a partition: less than 20,000 rows may wait for a flush."""

NEW_ROWS, CHANGED_ROWS, DELETED_ROWS = 10, 10, 5

SPARE_S = 0.2
"""What the searcher leaves of a deadline for the way back."""

Asked = tuple[tuple[str, ...] | None, tuple[str, ...], str]
"""The ids of an answer, None where there is none; what it is flagged with; the error."""


class Shop:
    """Hold the rows of a catalogue, the queries, and their answers while nothing disturbs.

    What is written during a drill lies far from the queries, or changes no vector, so that the answers stay.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.vectors = clustered(self._rng, rows, ROWS_A_CLUSTER)
        self.queries = queries_near(self._rng, self.vectors, QUERIES)
        self.exact = [self._nearest(query) for query in self.queries]
        self.wanted: list[tuple[str, ...]] = []

    def rows(self) -> Iterator[Row]:
        for number, vector in enumerate(self.vectors):
            yield make_row(f"image-{number}", vector, number)

    def far_vectors(self, count: int) -> Embeddings:
        """Return vectors that are no neighbours of any query."""
        return unit(self._rng.normal(size=(count, EMBEDDING_DIM)))

    def _nearest(self, query: Any) -> tuple[str, ...]:
        best = np.argsort(-(self.vectors @ query))[:K]
        return tuple(row_id(f"image-{number}", View.WHOLE) for number in best)


def make_row(image_id: str, vector: Any, number: int, price: int = 0, updated_at: int = 0) -> Row:
    category = f"category {number % CATEGORIES}"
    return Row(
        image_id=image_id,
        view=View.WHOLE,
        vector=vector,
        product_id=f"product of {image_id}",
        image_sha256="0" * 64,
        row_sha256="0" * 64,
        updated_at=updated_at,
        category_root=category,
        category=category,
        price=price,
        currency="EUR",
    )


def fill(client: MilvusClient, config: MilvusConfig, shop: Shop) -> None:
    """Make the index of a shop, and store its rows; raises ShoplensError."""
    indexing.ensure(client, config, CATALOGUE, FINGERPRINT, datetime.now(UTC))
    writer = MilvusWriter(client, alias(CATALOGUE, FINGERPRINT), config)
    rows = list(shop.rows())
    for start in range(0, len(rows), FLUSH_ROWS):
        writer.write(rows[start : start + FLUSH_ROWS])
        writer.flush()


class Searcher:
    """Ask a MilvusSearcher one query, and note what came of it."""

    def __init__(self, uris: Sequence[str], config: MilvusConfig, deadline_s: float) -> None:
        config = config.model_copy(update={"search_deadline_s": deadline_s - SPARE_S})
        self._searcher = MilvusSearcher(uris, config, alias(CATALOGUE, FINGERPRINT))

    async def ask(self, query: Any, deadline_s: float) -> Asked:
        """Return the ids, None where the search failed, what it is flagged with, and its error."""
        try:
            async with asyncio.timeout(deadline_s):
                found = await self._searcher.search(query[None], K)
        except TimeoutError:
            return None, (), f"no answer within {deadline_s:g} s"
        except ShoplensError as error:
            return None, (), f"{error.code}: {error.message[:120]}"
        return tuple(hit.row_id for hit in found.hits[0]), found.degraded, ""

    async def close(self) -> None:
        await self._searcher.close()


@dataclass
class Searches:
    """Send searches at a steady rate, whether or not earlier ones were answered, until told to stop."""

    searcher: Searcher
    shop: Shop
    rate: float
    deadline_s: float
    answers: list[Answer] = field(default_factory=list)
    started_s: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        self.started_s = time.monotonic()
        number = 0
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                due_s = number / self.rate
                await asyncio.sleep(max(0.0, due_s - self.now_s()))
                tasks.create_task(self._ask(number % QUERIES, due_s))
                number += 1

    def now_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started_s

    def failed_within(self, seconds: float) -> bool:
        """Tell whether any search was answered with a failure in the last `seconds`."""
        since_s = self.now_s() - seconds
        return any(answer.ids is None and answer.answered_s > since_s for answer in self.answers)

    async def _ask(self, query: int, due_s: float) -> None:
        ids, degraded, error = await self.searcher.ask(self.shop.queries[query], self.deadline_s)
        self.answers.append(Answer(due_s, self.now_s(), self.shop.wanted[query], ids, degraded, error))


async def capacity(searcher: Searcher, shop: Shop, seconds: float, deadline_s: float, at_once: int) -> float:
    """Return how many searches per second are answered with `at_once` in flight."""
    end_s = time.monotonic() + seconds
    answered = 0

    async def client(first: int) -> None:
        nonlocal answered
        query = first
        while time.monotonic() < end_s:
            ids, _, _ = await searcher.ask(shop.queries[query % QUERIES], deadline_s)
            answered += ids is not None
            query += at_once

    await asyncio.gather(*(client(first) for first in range(at_once)))
    return answered / seconds


class Writes:
    """Upsert new rows, change stored ones and delete others, one call after the other, in a thread of its own."""

    def __init__(self, client: MilvusClient, config: MilvusConfig, shop: Shop, ledger: Ledger) -> None:
        self._writer = MilvusWriter(client, alias(CATALOGUE, FINGERPRINT), config)
        self._shop = shop
        self._ledger = ledger
        self._rng = np.random.default_rng()
        self._known: dict[str, Row] = {}
        self._number = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.acknowledged: list[float] = []
        """When each call was acknowledged (time.monotonic)."""
        self.failed: list[str] = []

    def start(self) -> None:
        self.acknowledged, self.failed = [], []
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="writes")
        self._thread.start()

    def stop(self) -> None:
        """Return when the call in work is over."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._upsert([*self._new_rows(), *self._changed_rows()])
                self._delete(self._pick(DELETED_ROWS))
            except ShoplensError as error:
                self.failed.append(f"{error.code}: {error.message[:120]}")

    def _new_rows(self) -> Iterator[Row]:
        for vector in self._shop.far_vectors(NEW_ROWS):
            self._number += 1
            yield make_row(f"new-{self._number}", vector, self._number, self._number, _now_ms())

    def _changed_rows(self) -> Iterator[Row]:
        """Yield rows of both kinds with a new price: those that are answers, and those written before."""
        self._number += 1
        for place in self._rng.choice(len(self._shop.vectors), CHANGED_ROWS // 2, replace=False):
            yield make_row(f"image-{place}", self._shop.vectors[place], int(place), self._number, _now_ms())
        for image_id in self._pick(CHANGED_ROWS // 2):
            yield replace(self._known[image_id], price=self._number, updated_at=_now_ms())

    def _pick(self, count: int) -> list[str]:
        """Choose images that were written before and are no answers."""
        live = [image_id for image_id in self._ledger.live() if image_id in self._known]
        return [live[place] for place in self._rng.choice(len(live), min(count, len(live)), replace=False)]

    def _upsert(self, rows: Sequence[Row]) -> None:
        self._ledger.begin(row.image_id for row in rows)
        self._writer.write(rows)
        self._ledger.acknowledge({row.image_id: row.price for row in rows})
        self._known |= {row.image_id: row for row in rows if row.image_id.startswith("new-")}
        self.acknowledged.append(time.monotonic())

    def _delete(self, image_ids: Sequence[str]) -> None:
        self._ledger.begin(image_ids)
        self._writer.delete(image_ids)
        self._ledger.acknowledge(dict.fromkeys(image_ids))
        self.acknowledged.append(time.monotonic())


def _now_ms() -> int:
    return time.time_ns() // 10**6


def stored_prices(client: MilvusClient, image_ids: Sequence[str]) -> dict[str, int]:
    """Return the price of each of those images that is there, with all that was acknowledged."""
    found: dict[str, int] = {}
    for start in range(0, len(image_ids), 500):
        keys = ", ".join(f'"{row_id(image_id, View.WHOLE)}"' for image_id in image_ids[start : start + 500])
        rows = client.query(
            alias(CATALOGUE, FINGERPRINT),
            filter=f"row_id in [{keys}]",
            output_fields=["image_id", "price"],
            consistency_level="Strong",
            timeout=30,
        )
        found |= {row["image_id"]: row["price"] for row in rows}
    return found
