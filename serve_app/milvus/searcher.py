"""Search of one model's index by cosine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from pymilvus import AsyncMilvusClient
from pymilvus.client.types import LoadState

from serve_app.collection import HIT_FIELDS, IndexState, quote, row_id, to_hit
from serve_app.config import MilvusConfig, SearchParams
from serve_app.coverage import PARTIAL_INDEX, Sample
from serve_app.domain import EMBEDDING_DIM, PATIENT, Embeddings, Hit, Ranked, StoredView, Terms, View
from serve_app.errors import IndexMissing
from serve_app.filters import NO_FILTER, Filter, expression, matches
from serve_app.gathering import Gatherer
from serve_app.milvus.endpoints import Endpoint, Endpoints
from serve_app.milvus.index_types import QUANTISED, search_params
from serve_app.milvus.watch import Facts, Watch
from serve_app.pipeline import MAX_ROWS, Found, Stored

STALENESS_MS = 5_500
"""How old what a bounded search reads may be: `common.gracefulTime` of Milvus, 5 s, and the way there."""

PROVEN_CALLS_AT_ONCE = 2
"""Calls under way at each proxy that have a proof with them; they cost more, so more searches share one."""
SEARCHES_A_CALL = 32
ROWS_A_READ = 500
ROWS_OF_A_PRODUCT = 500
"""Rows of one product that are read; a product with more images than half of that is shown with some of them."""
_NO_ROW: dict[str, Any] = {"product_id": None}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Hold one search."""

    embeddings: Embeddings
    k: int
    wanted: Filter
    strong: bool
    since_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    hits: list[list[Hit]]
    lost: frozenset[str]
    proven: bool
    """Nothing speaks against a whole index, or known rows were searched for."""
    facts: Facts


class MilvusSearcher:
    """Search the collection that `alias` stands for, through any of the proxies at `uris`; use it in one event loop.

    Calls raise MilvusUnavailable when `config.search_deadline_s` or their own deadline is over, and `search`
    IndexMissing at once where the alias doesn't exist or its collection is released. `params` may be set at any time.
    """

    def __init__(
        self, uris: Sequence[str], config: MilvusConfig, alias: str, params: SearchParams | None = None
    ) -> None:
        self.params = params or SearchParams()
        self._alias = alias
        self._watch = Watch(uris, config, alias)
        self._endpoints = Endpoints(uris, config, self._watch.sign, self._is_loading)
        self._gatherers: dict[Endpoint, Gatherer[_Asked, _Answer]] = {}

    async def search(
        self,
        embeddings: Embeddings,
        k: int,
        wanted: Filter = NO_FILTER,
        strong: bool = False,
        terms: Terms = PATIENT,
    ) -> Found:
        """Return at most `k` rows for each embedding, best first, equal scores by row id; k is cut to MAX_ROWS.

        Only rows that pass the filter are returned. A `strong` search sees every write acknowledged before it, and
        takes up to a second for it. An answer that a part of the index gave is asked for again; if that doesn't help,
        it is flagged as PARTIAL_INDEX.
        """
        asked_ms = time.time_ns() // 10**6
        if len(embeddings) == 0:
            return Found([], watermark_ms=asked_ms)
        asked = _Asked(embeddings, min(k, MAX_ROWS), wanted, strong, time.monotonic())
        answer, whole = await self._endpoints.run(partial(self._ask, asked), self._is_whole, terms.deadline_s)
        return Found(
            answer.hits,
            collection=answer.facts.collection,
            degraded=() if whole and answer.proven else (PARTIAL_INDEX,),
            watermark_ms=asked_ms if strong or answer.facts.whole else asked_ms - STALENESS_MS,
        )

    async def refresh(self, ranked: Sequence[Ranked], terms: Terms = PATIENT) -> Found:
        """Return one list: what is true now of these products, such as price and stock, without those that are gone.

        Their order and scores stay: a ranking that was fixed is paged through with this. A product whose row is gone
        is shown by another of its rows.
        """
        asked_ms = time.time_ns() // 10**6
        facts = await self._watch.facts()
        rows = {row["row_id"]: row for row in await self._rows("row_id", [entry.row_id for entry in ranked], terms)}
        moved = [entry for entry in ranked if rows.get(entry.row_id, _NO_ROW)["product_id"] != entry.product_id]
        others: dict[str, Any] = {}
        for row in await self._rows("product_id", [entry.product_id for entry in moved], terms):
            others[row["product_id"]] = min(others.get(row["product_id"], row), row, key=itemgetter("row_id"))
        shown = {entry.row_id: rows[entry.row_id] for entry in ranked if entry not in moved}
        shown |= {entry.row_id: others[entry.product_id] for entry in moved if entry.product_id in others}
        return Found(
            [[to_hit(shown[entry.row_id], entry.score) for entry in ranked if entry.row_id in shown]],
            collection=facts.collection,
            watermark_ms=asked_ms if facts.whole else asked_ms - STALENESS_MS,
        )

    async def product(
        self, product_id: str, *, vectors: bool = False, strong: bool = False, terms: Terms = PATIENT
    ) -> Stored:
        """Return what the index has of a product, with its embeddings where they are asked for.

        A `strong` read sees every write acknowledged before it.
        """
        asked_ms = time.time_ns() // 10**6
        facts = await self._watch.facts()
        fields = (*HIT_FIELDS, "updated_at", *(("vector",) if vectors else ()))
        read = partial(
            self._read, f"product_id == {quote(product_id)}", fields=fields, strong=strong, most=ROWS_OF_A_PRODUCT
        )
        rows, _ = await self._endpoints.run(read, end_s=terms.deadline_s)
        return Stored(
            tuple(_stored_view(row) for row in sorted(rows, key=itemgetter("row_id"))),
            watermark_ms=asked_ms if strong or facts.whole else asked_ms - STALENESS_MS,
            collection=facts.collection,
        )

    async def image(self, image_id: str, *, terms: Terms = PATIENT) -> Hit | None:
        """Return a row of an image, that of the whole where it is there; None where the index has none."""
        rows = {row["view"]: row for row in await self._rows("row_id", [row_id(image_id, v) for v in View], terms)}
        return next((to_hit(rows[view], 0.0) for view in View if view in rows), None)

    async def _rows(self, field: str, values: Sequence[str], terms: Terms) -> list[dict[str, Any]]:
        rows = []
        distinct = list(dict.fromkeys(values))
        for start in range(0, len(distinct), ROWS_A_READ):
            wanted = f"{field} in [{', '.join(map(quote, distinct[start : start + ROWS_A_READ]))}]"
            found, _ = await self._endpoints.run(partial(self._read, wanted), end_s=terms.deadline_s)
            rows += found
        return rows

    async def index(self) -> IndexState:
        """Say what the alias stands for now."""
        try:
            state, _ = await self._endpoints.run(self._index)
        except IndexMissing:
            return IndexState(None, loaded=False)
        return state

    async def close(self) -> None:
        """Close the connections; calls after it fail."""
        await self._watch.close()
        for gatherer in self._gatherers.values():
            await gatherer.close()
        await self._endpoints.close()

    async def _ask(self, asked: _Asked, endpoint: Endpoint) -> _Answer:
        """Search together with others that ask alike: a call costs Milvus more than a vector more in it does."""
        facts = await self._watch.facts()
        text = expression(asked.wanted, prune=facts.prunes)
        if endpoint not in self._gatherers:
            self._gatherers[endpoint] = Gatherer(
                partial(self._call, endpoint),
                lambda: endpoint.window if self._watch.is_calm() else min(endpoint.window, PROVEN_CALLS_AT_ONCE),
                SEARCHES_A_CALL,
            )
        return await self._gatherers[endpoint].submit((asked.k, asked.strong, text), asked, asked.since_s)

    async def _call(self, endpoint: Endpoint, searches: Sequence[_Asked]) -> list[_Answer]:
        facts, calm, sample, asked = await self._watch.facts(), self._watch.is_calm(), self._watch.sample(), searches[0]
        exact = facts.index_type not in QUANTISED
        # Known rows that don't pass the filter have to be let through, and may take the place of hits.
        k = min(asked.k + (len(sample) if asked.wanted else 0), MAX_ROWS)
        vectors = [vector for search in searches for vector in search.embeddings]
        found = await endpoint.attempt(
            # Without pymilvus's own time limit: with one, it repeats the call by itself until it is over.
            lambda client: client.search(
                self._alias,
                data=[*vectors, *sample.vectors],
                anns_field="vector",
                filter=_expression(asked.wanted, facts.prunes, sample),
                limit=k,
                output_fields=list(HIT_FIELDS) if exact else [*HIT_FIELDS, "vector"],
                search_params={"metric_type": "COSINE", "params": search_params(self.params, k)},
                retry_times=0,
                **({"consistency_level": "Strong"} if asked.strong else {}),
            )
        )
        rows = iter(found)
        hits = [_hits(next(rows), asked, sample, None if exact else vector) for vector in vectors]
        lost = sample.lost(_row_ids(rows), k)
        taken = iter(hits)
        proven = calm or bool(sample)
        return [_Answer([next(taken) for _ in search.embeddings], lost, proven, facts) for search in searches]

    def _is_whole(self, answer: _Answer) -> bool:
        lost = answer.lost - self._watch.gone
        if lost:
            self._watch.suspect(lost)
        return not lost

    async def _read(
        self,
        wanted: str,
        endpoint: Endpoint,
        fields: Sequence[str] = HIT_FIELDS,
        *,
        strong: bool = False,
        most: int | None = None,
    ) -> list[dict[str, Any]]:
        options: dict[str, Any] = {} if most is None else {"limit": most}
        if strong:
            options["consistency_level"] = "Strong"
        rows: list[dict[str, Any]] = await endpoint.attempt(
            lambda client: client.query(
                self._alias,
                filter=wanted,
                output_fields=list(fields),
                retry_times=0,
                **options,
            )
        )
        return rows

    async def _index(self, endpoint: Endpoint) -> IndexState:
        name, state = await endpoint.attempt(self._state)
        return IndexState(name, loaded=state == LoadState.Loaded)

    async def _is_loading(self, endpoint: Endpoint) -> bool:
        """Tell an index that a failover took away for a moment from one that is missing or was released."""
        try:
            _, state = await endpoint.attempt(self._state)
        except IndexMissing:
            return False
        return state in (LoadState.Loaded, LoadState.Loading)

    async def _state(self, client: AsyncMilvusClient) -> tuple[str, LoadState]:
        target = await client.describe_alias(self._alias, retry_times=0)
        state = await client.get_load_state(target["collection_name"], retry_times=0)
        return target["collection_name"], state["state"]


def _expression(wanted: Filter, prunes: bool, sample: Sample) -> str:
    text = expression(wanted, prune=prunes and not sample)
    if not text or not sample:
        return text
    return f"({text}) or row_id in [{', '.join(map(quote, sample.row_ids))}]"


def _hits(rows: Iterable[Any], asked: _Asked, sample: Sample, embedding: Any) -> list[Hit]:
    """Return the hits in order; with an `embedding`, their scores are computed from the rows' vectors."""
    hits = []
    for row in rows:
        entity = row["entity"]
        score = row["distance"] if embedding is None else np.dot(embedding, np.asarray(entity["vector"], np.float32))
        hits.append(to_hit(entity, float(score)))
    if asked.wanted and sample:
        let_through = frozenset(sample.row_ids)
        hits = [hit for hit in hits if hit.row_id not in let_through or matches(asked.wanted, hit)]
    return sorted(hits, key=lambda hit: (-hit.score, hit.row_id))[: asked.k]


def _stored_view(row: Mapping[str, Any]) -> StoredView:
    vector = np.asarray(row.get("vector", np.empty((0, EMBEDDING_DIM))), np.float32)
    return StoredView(to_hit(row, 0.0), vector, row["updated_at"])


def _row_ids(answers: Iterable[Iterable[Any]]) -> Iterator[list[tuple[str, float]]]:
    for rows in answers:
        yield [(row["row_id"], row["distance"]) for row in rows]
