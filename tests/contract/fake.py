"""A searcher in memory, held to the same contract as those on Milvus."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from serve_app.collection import IndexState, Row, to_hit
from serve_app.domain import EMBEDDING_DIM, PATIENT, Embeddings, Hit, Ranked, StoredView, Terms, View
from serve_app.errors import IndexMissing, MilvusUnavailable
from serve_app.filters import NO_FILTER, Filter, matches
from serve_app.pipeline import Found, Stored


class FakeSearcher:
    """Search rows by exact cosine; `state` and `away` may be set to make it fail as Milvus does."""

    def __init__(self, rows: Sequence[Row], *, state: IndexState | None = None, away: bool = False) -> None:
        self.rows = list(rows)
        self.state = state or IndexState("fake", loaded=True)
        self.away = away

    async def search(
        self,
        embeddings: Embeddings,
        k: int,
        wanted: Filter = NO_FILTER,
        strong: bool = False,
        terms: Terms = PATIENT,
    ) -> Found:
        self._check_there()
        now_ms = time.time_ns() // 10**6
        if len(embeddings) == 0:
            return Found([], now_ms)
        if self.state.collection is None or not self.state.loaded:
            raise IndexMissing("the index is missing or not loaded")
        rows = [row for row in self.rows if matches(wanted, row.values())]
        vectors = np.array([row.vector for row in rows], np.float32)
        hits: list[list[Hit]] = [_nearest(rows, vectors @ embedding, k) if rows else [] for embedding in embeddings]
        return Found(hits, now_ms)

    async def refresh(self, ranked: Sequence[Ranked], terms: Terms = PATIENT) -> Found:
        self._check_there()
        shown = [self._row(entry) for entry in ranked]
        hits = [to_hit(row, entry.score) for row, entry in zip(shown, ranked, strict=True) if row is not None]
        return Found([hits], time.time_ns() // 10**6)

    async def product(
        self, product_id: str, *, vectors: bool = False, strong: bool = False, terms: Terms = PATIENT
    ) -> Stored:
        self._check_there()
        if self.state.collection is None:
            raise IndexMissing("the index is missing or not loaded")
        own = sorted((row for row in self.rows if row.product_id == product_id), key=lambda row: row.row_id)
        views = (
            StoredView(
                to_hit(row.values() | {"row_id": row.row_id}, 0.0),
                row.vector if vectors else np.empty((0, EMBEDDING_DIM), np.float32),
                row.updated_at,
            )
            for row in own
        )
        return Stored(tuple(views), time.time_ns() // 10**6)

    async def image(self, image_id: str, *, terms: Terms = PATIENT) -> Hit | None:
        self._check_there()
        own = {row.view: to_hit(row.values() | {"row_id": row.row_id}, 0.0) for row in self._of(image_id)}
        return next((own[view] for view in View if view in own), None)

    def _of(self, image_id: str) -> list[Row]:
        return [row for row in self.rows if row.image_id == image_id]

    def _row(self, entry: Ranked) -> dict[str, Any] | None:
        own = sorted((row for row in self.rows if row.product_id == entry.product_id), key=lambda row: row.row_id)
        found = next((row for row in own if row.row_id == entry.row_id), own[0] if own else None)
        return None if found is None else found.values() | {"row_id": found.row_id}

    async def index(self) -> IndexState:
        self._check_there()
        return self.state

    async def close(self) -> None:
        pass

    def _check_there(self) -> None:
        if self.away:
            raise MilvusUnavailable("Milvus can't be reached")


def _nearest(rows: Sequence[Row], scores: Embeddings, k: int) -> list[Hit]:
    hits = [
        to_hit(row.values() | {"row_id": row.row_id}, float(score)) for row, score in zip(rows, scores, strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.row_id))[:k]
