"""A look, now and then, at what an alias stands for and what of it is loaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from pymilvus import MilvusClient

from serve_app.collection import quote
from serve_app.config import MilvusConfig
from serve_app.coverage import SAME, Guard, Loading, Sample
from serve_app.domain import EMBEDDING_DIM, Embeddings
from serve_app.errors import FailingOver, IndexMissing, ShoplensError
from serve_app.milvus import indexing
from serve_app.milvus.client import connect, server_version, translated
from serve_app.milvus.loading import read_loading

log = logging.getLogger(__name__)

CALM_S = 1.0
ALERT_S = 0.3
"""Seconds between two looks, the shorter while a failover may be going on."""
SAMPLE_ROWS = 16
"""An answer that lacks a quarter of the rows passes 1 time in 100, one that lacks half of them 1 in 65,000."""
DIRECTIONS = 64
ROWS_A_DIRECTION = 8
SETTLE_S = 6.0
"""How old a sample is before it counts: with bounded consistency, rows are found everywhere within 5 s."""
RENEW_S = 60.0
FEW = 2
FEW_GONE_S, MANY_GONE_S = 1.0, 8.0
"""How long rows can't be read by their keys before they count as deleted. A part of the index lacks many at once,
for up to 5 s in drills, and answers a read by key as it does a search."""

EMPTY = Sample((), np.zeros((0, EMBEDDING_DIM), np.float32))


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold what a search has to know of the collection that it searches."""

    collection: str
    index_type: str | None
    prunes: bool
    whole: bool
    """One process answers, so that no part of the index can be away: Milvus Lite."""


class Watch:
    """Watch the collection behind `alias`; use it in one event loop.

    Its calls block, so they run in a thread; what they tell is noted in the loop. An answer is only sure to be whole
    from `SETTLE_S` after the start on, when there are rows to search for.
    """

    def __init__(self, uris: Sequence[str], config: MilvusConfig, alias: str) -> None:
        self._uris = uris
        self._config = config
        self._alias = alias
        self._clients: dict[str, MilvusClient] = {}
        self._guard = Guard()
        self._facts: asyncio.Future[Facts] | None = None
        self._sample = EMPTY
        self._next_sample = EMPTY
        self._drawn_s = float("-inf")
        self._suspected: dict[str, float] = {}
        self.gone: frozenset[str] = frozenset()
        """Rows of the last samples that are no longer in the index."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def facts(self) -> Facts:
        """Return what is known of the collection, after the first look; raises that look's error."""
        if self._task is None:
            self._facts = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run())
        assert self._facts is not None
        return self._facts.result() if self._facts.done() else await asyncio.shield(self._facts)

    def sign(self) -> None:
        """Note a sign of a failover."""
        self._guard.sign(time.monotonic())
        self._wake.set()

    def is_calm(self) -> bool:
        return not self._guard.is_on(time.monotonic())

    def sample(self) -> Sample:
        """Return the rows that the next answer has to prove itself by; none while all is calm."""
        return EMPTY if self.is_calm() else self._sample

    def suspect(self, row_ids: frozenset[str]) -> None:
        """Note rows that an answer lacked; whether they still exist is looked up."""
        now_s = time.monotonic()
        self._suspected = dict.fromkeys(row_ids, now_s) | self._suspected
        self.sign()

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for client in self._clients.values():
            client.close()

    async def _run(self) -> None:
        turn = 0
        while True:
            uri = self._uris[turn % len(self._uris)]
            turn += 1
            started_s = time.monotonic()
            try:
                await self._look(uri)
            except ShoplensError as error:
                self._failed(error)
            except Exception:
                # A watch that ended would let parts pass for the whole; what it did not expect is a bug to be seen.
                log.exception("looking at the index failed", extra={"alias": self._alias})
            pause_s = CALM_S if self.is_calm() else ALERT_S
            await asyncio.sleep(max(0.0, ALERT_S - (time.monotonic() - started_s)))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()

    def _failed(self, error: ShoplensError) -> None:
        assert self._facts is not None
        if self._facts.done():
            if isinstance(error, FailingOver | IndexMissing):
                self.sign()
            return
        # Whoever waits for the first look hears why there is none; the next one asks anew.
        self._facts.set_exception(error)
        self._facts.exception()
        self._facts = asyncio.get_running_loop().create_future()

    async def _look(self, uri: str) -> None:
        facts = await asyncio.to_thread(self._read_facts, uri)
        self._know(facts)
        if facts.whole:
            return
        loading = await asyncio.to_thread(self._read_loading, uri, facts.collection)
        self._guard.saw(loading, time.monotonic())
        await self._check_sample(uri, facts)

    def _know(self, facts: Facts) -> None:
        assert self._facts is not None
        if not self._facts.done():
            self._facts.set_result(facts)
        elif facts != self._facts.result():
            if facts.collection != self._facts.result().collection:
                log.info("alias switched", extra={"alias": self._alias, "collection": facts.collection})
                self._guard, self._sample, self._next_sample, self._suspected = Guard(), EMPTY, EMPTY, {}
                self._drawn_s = float("-inf")
            self._facts = asyncio.get_running_loop().create_future()
            self._facts.set_result(facts)

    async def _check_sample(self, uri: str, facts: Facts) -> None:
        """Keep a sample of rows that every answer of the whole index would hold."""
        now_s = time.monotonic()
        if self._suspected:
            await self._look_up_suspected(uri, facts)
        elif len(self._next_sample) and now_s >= self._drawn_s + SETTLE_S:
            lost = await asyncio.to_thread(self._read_lost, uri, facts.collection, self._next_sample)
            self._sample, self._next_sample, self.gone = self._next_sample.without(lost), EMPTY, frozenset()
        elif self.is_calm() and now_s >= self._drawn_s + (RENEW_S if len(self._sample) else SETTLE_S):
            self._next_sample = await asyncio.to_thread(self._draw, uri, facts.collection)
            self._drawn_s = now_s
        elif self.is_calm() and len(self._sample):
            # While it isn't, the answers themselves are proven.
            lost = await asyncio.to_thread(self._read_lost, uri, facts.collection, self._sample)
            self._suspected = dict.fromkeys(lost, now_s)
            if len(lost) > FEW:
                self.sign()

    async def _look_up_suspected(self, uri: str, facts: Facts) -> None:
        """Tell rows that were deleted or changed from rows whose part of the index is away."""
        found = await asyncio.to_thread(self._read_vectors, uri, facts.collection, frozenset(self._suspected))
        now_s = time.monotonic()
        wait_s = FEW_GONE_S if len(self._suspected) <= FEW else MANY_GONE_S
        known = dict(zip(self._sample.row_ids, self._sample.vectors, strict=True))
        gone = set()
        for row_id, since_s in list(self._suspected.items()):
            if row_id not in known:
                del self._suspected[row_id]
            elif row_id in found and float(np.dot(known[row_id], found[row_id])) >= SAME:
                del self._suspected[row_id]
                self.sign()
            elif row_id in found or now_s - since_s >= wait_s:
                del self._suspected[row_id]
                gone.add(row_id)
        if gone:
            log.info("sample rows gone", extra={"alias": self._alias, "rows": len(gone)})
        self.gone |= gone
        self._sample = self._sample.without(gone)

    # --- calls that block

    def _client(self, uri: str) -> MilvusClient:
        if uri not in self._clients:
            self._clients[uri] = connect(self._config, uri, self._config.attempt_timeout_s)
        return self._clients[uri]

    def _read_facts(self, uri: str) -> Facts:
        client = self._client(uri)
        collection = indexing.resolve(client, self._alias)
        if collection is None:
            raise IndexMissing(f"there is no index {self._alias}; `shoplens import MANIFEST` makes it")
        return Facts(
            collection=collection,
            index_type=indexing.index_type_of(client, collection),
            prunes=indexing.prunes(client, collection),
            whole=server_version(client) is None,
        )

    def _read_loading(self, uri: str, collection: str) -> Loading:
        return read_loading(self._client(uri), collection, self._config.attempt_timeout_s)

    def _draw(self, uri: str, collection: str) -> Sample:
        """Find rows in all directions: what lies in which segment can't be asked for."""
        directions = np.random.default_rng().normal(size=(DIRECTIONS, EMBEDDING_DIM)).astype(np.float32)
        found: dict[str, Embeddings] = {}
        for hits in self._search(uri, collection, directions, ROWS_A_DIRECTION):
            for hit in hits:
                found[hit["row_id"]] = np.asarray(hit["entity"]["vector"], np.float32)
        chosen = np.random.default_rng().permutation(list(found))[:SAMPLE_ROWS].tolist()
        return Sample(
            tuple(chosen), np.array([found[row_id] for row_id in chosen], np.float32).reshape(-1, EMBEDDING_DIM)
        )

    def _read_lost(self, uri: str, collection: str, sample: Sample) -> frozenset[str]:
        answers = self._search(uri, collection, sample.vectors, ROWS_A_DIRECTION)
        return sample.lost(([(hit["row_id"], hit["distance"]) for hit in hits] for hits in answers), ROWS_A_DIRECTION)

    def _search(self, uri: str, collection: str, vectors: Embeddings, k: int):  # type: ignore[no-untyped-def]
        with translated():
            return self._client(uri).search(
                collection,
                data=list(vectors),
                anns_field="vector",
                limit=k,
                output_fields=["row_id", "vector"],
                search_params={"metric_type": "COSINE", "params": {"ef": 128, "nprobe": 64, "search_list": 128}},
                timeout=self._config.attempt_timeout_s,
            )

    def _read_vectors(self, uri: str, collection: str, row_ids: frozenset[str]) -> dict[str, Embeddings]:
        with translated():
            rows = self._client(uri).query(
                collection,
                filter=f"row_id in [{', '.join(map(quote, sorted(row_ids)))}]",
                output_fields=["row_id", "vector"],
                timeout=self._config.attempt_timeout_s,
            )
        return {row["row_id"]: np.asarray(row["vector"], np.float32) for row in rows}
