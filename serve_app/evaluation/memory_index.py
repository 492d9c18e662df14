"""An index in memory that is searched exactly, for evaluation: what an import writes, without Milvus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.catalogue.plan import StoredRow
from serve_app.collection import KnownImage, Row, to_hit
from serve_app.domain import PATIENT, Hit, Terms, View
from serve_app.filters import NO_FILTER, Filter, matches
from serve_app.pipeline import Embedded, Found

FIRST_ROWS = 1024


class MemoryIndex:
    """Hold rows and search them by exact cosine.

    It is what preparing and recording an import ask for, so that a gallery is made by the import's own code, and a
    searcher of the pipeline.
    """

    def __init__(self) -> None:
        self._values: list[Mapping[str, Any]] = []
        self._vectors = np.empty((0, 0), np.float32)
        self._images: dict[str, list[int]] = {}
        self._files: dict[tuple[str, str], list[int]] = {}

    def __len__(self) -> int:
        return len(self._values)

    @property
    def image_ids(self) -> frozenset[str]:
        return frozenset(self._images)

    def images(self) -> list[Mapping[str, Any]]:
        """Return the values of one row of each image."""
        return [self._values[rows[0]] for rows in self._images.values()]

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row, by the names of its fields; `vector` is of unit length, and as long as those of all others."""
        vector = np.asarray(values["vector"], np.float32)
        row = len(self._values)
        if row >= len(self._vectors):
            # Doubled, so that a row costs the same however many there are.
            grown = np.zeros((max(FIRST_ROWS, 2 * row), len(vector)), np.float32)
            grown[:row] = self._vectors[:row] if row else 0
            self._vectors = grown
        self._vectors[row] = vector
        self._values.append({name: value for name, value in values.items() if name != "vector"})
        self._images.setdefault(values["image_id"], []).append(row)
        self._files.setdefault((values["image_sha256"], values["product_id"]), []).append(row)

    def copies(self, sha256: str, products: Iterable[str]) -> frozenset[str]:
        """Return the ids of images of some products whose files have the same bytes as a photo's."""
        rows = [row for product in products for row in self._files.get((sha256, product), ())]
        return frozenset(self._values[row]["image_id"] for row in rows)

    def without(self, image_ids: Iterable[str]) -> Searching:
        """Return a searcher that does not find some images."""
        return Searching(self, [row for image_id in image_ids for row in self._images.get(image_id, ())])

    def known(self, image_ids: Iterable[str], before_ms: int | None = None) -> Mapping[str, KnownImage]:
        """Know nothing: a gallery is made once."""
        return {}

    def data(self, image_ids: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
        return {}

    def stored(self, image_ids: Sequence[str]) -> Mapping[str, Mapping[View, StoredRow]]:
        return {}

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.add(row.values())

    def nearest(self, vectors: Sequence[npt.NDArray[np.float32]], k: int) -> list[list[Mapping[str, Any]]]:
        """Return the values of the `k` rows nearest to each vector, with their `score`."""
        return [
            [{**self._values[row], "score": score} for row, score in self.best(vector, k, ())]
            for vector in (vectors if len(self) else [])
        ] or [[] for _ in vectors]

    def hit(self, row: int, score: float) -> Hit:
        return to_hit(self._values[row], score)

    def best(self, vector: npt.NDArray[np.float32], k: int, gone: Sequence[int]) -> list[tuple[int, float]]:
        """Return the `k` best rows but those that are `gone`, with their cosines; equal ones by row id."""
        scores = self._vectors[: len(self)] @ vector
        scores[list(gone)] = -np.inf
        some = min(k, len(scores) - len(gone))
        if some <= 0:
            return []
        # Ties with the last one are all taken, and then cut in a fixed order.
        last = np.partition(scores, -some)[-some]
        rows = np.flatnonzero(scores >= last).tolist()
        rows.sort(key=lambda row: (-scores[row], self._values[row]["row_id"]))
        return [(row, float(scores[row])) for row in rows[:some]]


class Searching:
    """Search an index without some of its rows: the searcher of one question's pipeline."""

    def __init__(self, index: MemoryIndex, gone: Sequence[int]) -> None:
        self._index = index
        self._gone = gone

    async def search(
        self, embedded: Embedded, k: int, wanted: Filter = NO_FILTER, strong: bool = False, terms: Terms = PATIENT
    ) -> Found:
        """Return the `k` nearest rows that pass the filter, by all of them."""
        hits = []
        for embedding in embedded.embeddings:
            most = k if not wanted else len(self._index)
            found = (self._index.hit(row, score) for row, score in self._index.best(embedding, most, self._gone))
            hits.append([hit for hit in found if matches(wanted, hit)][:k])
        return Found(hits, watermark_ms=time.time_ns() // 10**6)
