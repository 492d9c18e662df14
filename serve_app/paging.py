"""Pages of rankings that the first page of a search fixed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from serve_app.cursors import Cursor, Cursors
from serve_app.domain import PATIENT, Hit, Ranked, Terms
from serve_app.errors import BadParameter, IndexMissing, MilvusUnavailable, PhotoExpired
from serve_app.photos import EXPIRED, Photos
from serve_app.pipeline import MAX_RANKED, Answer, Embedded, Found, Pipeline, ProductList, Query
from serve_app.rankings import Ranking, continued, digest, ranking_of

RANKING_BYTES = 6
DEEPER = "+"
"""Added to a ranking's name where the rest of it was found."""
LATE_S = 1.0
"""A ranking is stored beside its answer, so a client may ask for the second page before it is there."""
POLL_S = 0.02


class RefreshingStage(Protocol):
    """What paging asks of the searcher."""

    async def refresh(self, model: str, ranked: Sequence[Ranked], terms: Terms = PATIENT) -> Found:
        """Return one list: what is true now of these products, in their order, without those that are gone."""
        ...


def goes_on(entry: ProductList, shown: int) -> bool:
    """Tell whether a list has more products than those that were shown."""
    return entry.fixed is not None and not (entry.fixed.whole and len(entry.fixed.hits) <= shown)


@dataclass(frozen=True, slots=True)
class _Page:
    hits: tuple[Hit, ...]
    offset: int
    found: Found


class Paging:
    """Keep rankings beside their photos, and read them page by page."""

    def __init__(self, pipeline: Pipeline, searcher: RefreshingStage, photos: Photos, model: str) -> None:
        self._pipeline = pipeline
        self._searcher = searcher
        self._photos = photos
        self._model = model
        self._storing: set[asyncio.Task[bool]] = set()

    def continued(self, owner: str, answer: Answer, query: Query, cursors: Cursors) -> Answer:
        """Return the answer with a cursor for each list that goes on, and store their rankings meanwhile."""
        if answer.token is None:
            return answer
        name, asked, parts, lists = secrets.token_urlsafe(RANKING_BYTES), digest(query), {}, []
        for entry in answer.lists:
            fixed = entry.fixed
            if fixed is not None and goes_on(entry, query.top_k):
                part = f"{name}.{entry.object_id}"
                parts[part] = ranking_of(answer, entry, fixed, query)
                cursor = Cursor(answer.token, part, asked, query.top_k)
                lists.append(replace(entry, next=cursors.write(cursor)))
            else:
                lists.append(entry)
        if parts:
            task = asyncio.create_task(self._store(owner, answer.token, parts))
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)
        return replace(answer, lists=tuple(lists))

    async def page(
        self,
        owner: str,
        text: str,
        top_k: int,
        query: Query | None,
        cursors: Cursors,
        terms: Terms,
        product_id: str = "",
    ) -> Answer:
        """Return the page that a cursor points to.

        `query` is what the request asks for beside it, None for nothing; `product_id` is the product that the list has
        to be like, '' for a photo's list. Raises BadParameter where either is another than the cursor's, PhotoExpired
        where the ranking is gone.
        """
        started = time.perf_counter()
        cursor = cursors.read(text)
        if query is not None and digest(query) != cursor.query:
            raise BadParameter("the cursor belongs to a search with other parameters; repeat those, or leave them out")
        ranking = await self._ranking(owner, cursor)
        if ranking.query.wanted.but_product != product_id:
            raise BadParameter("the cursor belongs to another list; give it where its first page was asked for")
        page = await self._read(ranking, cursor.offset, top_k, terms)
        if len(page.hits) < top_k and not ranking.whole:
            cursor = replace(cursor, ranking=cursor.ranking + DEEPER)
            ranking = await self._deeper(owner, cursor, ranking, terms)
            page = await self._read(ranking, cursor.offset, top_k, terms)
        is_more = page.offset < len(ranking.ranked) or not ranking.whole
        after = cursors.write(replace(cursor, offset=page.offset)) if is_more else None
        took_ms = (time.perf_counter() - started) * 1e3
        return Answer(
            width=ranking.width,
            height=ranking.height,
            model=ranking.model,
            collection=page.found.collection,
            lists=(ProductList(ranking.object, page.hits, ranking.object_id, next=after, chances=ranking.chances),),
            degraded=page.found.degraded,
            watermark_ms=page.found.watermark_ms,
            timings_ms={"search": took_ms, "total": took_ms},
            token=cursor.token,
        )

    async def _store(self, owner: str, token: str, rankings: dict[str, Ranking]) -> bool:
        return await self._photos.add(owner, token, {name: each.to_bytes() for name, each in rankings.items()})

    async def _ranking(self, owner: str, cursor: Cursor) -> Ranking:
        deadline_s = time.monotonic() + LATE_S
        while (data := await self._photos.read(owner, cursor.token, cursor.ranking)) is None:
            if time.monotonic() > deadline_s or not await self._photos.is_kept(owner, cursor.token):
                raise PhotoExpired(EXPIRED)
            await asyncio.sleep(POLL_S)
        return Ranking.from_bytes(data)

    async def _deeper(self, owner: str, cursor: Cursor, known: Ranking, terms: Terms) -> Ranking:
        """Find the rest of a ranking, once: of those who do so at a time, the first one's is everybody's."""
        data = await self._photos.read(owner, cursor.token, cursor.ranking)
        if data is None:
            embedded = Embedded(known.embeddings, known.model)
            entry = replace(known.object, crops=tuple(range(len(known.embeddings))))
            try:
                (fixed,), found = await self._pipeline.rank([entry], embedded, known.query, MAX_RANKED, terms)
            except IndexMissing as error:
                raise self._gone(known, error) from error
            if found.degraded:
                # It would be fixed for all further pages, which could not say what they lack.
                raise MilvusUnavailable("a part of the index is away, and would lack on all further pages; try again")
            hits = () if fixed is None else fixed.hits
            ranked = continued(known.ranked, hits, by_parent=known.query.by_parent)
            deeper = replace(known, ranked=ranked, whole=True, vectors=b"")
            await self._store(owner, cursor.token, {cursor.ranking: deeper})
            data = await self._photos.read(owner, cursor.token, cursor.ranking)
        if data is None:
            raise PhotoExpired(EXPIRED)
        return Ranking.from_bytes(data)

    async def _read(self, ranking: Ranking, offset: int, top_k: int, terms: Terms) -> _Page:
        """Read on until the page is full: some of the products may have been deleted."""
        hits: list[Hit] = []
        while True:
            chunk = ranking.ranked[offset : offset + top_k - len(hits)]
            try:
                found = await self._searcher.refresh(ranking.model, chunk, terms)
            except IndexMissing as error:
                raise self._gone(ranking, error) from error
            hits += found.hits[0]
            offset += len(chunk)
            if len(hits) == top_k or offset >= len(ranking.ranked):
                return _Page(tuple(hits), offset, found)

    def _gone(self, ranking: Ranking, error: IndexMissing) -> PhotoExpired | IndexMissing:
        if ranking.model == self._model:
            return error
        return PhotoExpired("the index that this search was made in has been replaced; search again")
