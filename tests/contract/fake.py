"""A searcher in memory, held to the same contract as those on Milvus."""

from collections.abc import Sequence

import numpy as np

from serve_app.collection import IndexState, Row, to_hit
from serve_app.domain import Embeddings, Hit
from serve_app.errors import IndexMissing, MilvusUnavailable


class FakeSearcher:
    """Search rows by exact cosine; `state` and `away` may be set to make it fail as Milvus does."""

    def __init__(self, rows: Sequence[Row], *, state: IndexState | None = None, away: bool = False) -> None:
        self.rows = list(rows)
        self.state = state or IndexState("fake", loaded=True)
        self.away = away

    async def search(self, embeddings: Embeddings, k: int) -> list[list[Hit]]:
        self._check_there()
        if len(embeddings) == 0:
            return []
        if self.state.collection is None or not self.state.loaded:
            raise IndexMissing("the index is missing or not loaded")
        vectors = np.array([row.vector for row in self.rows], np.float32).reshape(len(self.rows), -1)
        return [self._nearest(vectors @ embedding if len(vectors) else vectors, k) for embedding in embeddings]

    async def index(self) -> IndexState:
        self._check_there()
        return self.state

    async def close(self) -> None:
        pass

    def _nearest(self, scores: Embeddings, k: int) -> list[Hit]:
        hits = [
            to_hit(row.values() | {"row_id": row.row_id}, float(score))
            for row, score in zip(self.rows, scores, strict=True)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.row_id))[:k]

    def _check_there(self) -> None:
        if self.away:
            raise MilvusUnavailable("Milvus can't be reached")
