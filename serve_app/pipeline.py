"""The query flow: a photo in, one list of products per object out.

The stages are protocols: in the service they are handles of Ray Serve deployments, in one process the
models themselves, in unit tests fakes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.domain import Crops, Detection, Embeddings, Hit
from serve_app.filters import NO_FILTER, Filter
from serve_app.objects import ObjectList, query_lists
from serve_app.ranking import group, needs_more

MAX_ROWS = 16_384
"""Milvus returns no more rows to one search: https://milvus.io/docs/limitations.md."""

NO_OBJECT = "no_object"
"""`degraded`: nothing was found in the photo, so the whole of it was searched."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """Hold what the detector makes of a photo.

    `detections` are all objects, the best one first; `crops` (n, side, side, 3) are cut for the
    whole photo and for as many of the objects as were asked for, in that order.
    """

    width: int
    height: int
    detections: tuple[Detection, ...]
    crops: Crops
    decode_ms: float


class DetectorStage(Protocol):
    async def detect(self, photo: bytes, objects: int) -> Sighting:
        """Decode the photo, find all its objects and cut the whole photo and the `objects` best of them."""
        ...


class EmbedderStage(Protocol):
    async def embed(self, crops: Crops) -> Embeddings:
        """Return one embedding per crop."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """Hold the hits of each embedding, and what the answer lacks.

    Every write that was acknowledged before `watermark_ms`, milliseconds since 1970 UTC, was searched.
    """

    hits: list[list[Hit]]
    watermark_ms: int
    degraded: tuple[str, ...] = ()


class SearcherStage(Protocol):
    async def search(self, embeddings: Embeddings, k: int, wanted: Filter, strong: bool) -> Found:
        """Return the `k` rows nearest to each embedding that pass the filter, best first.

        A strong search sees every write that was acknowledged before it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """Say what a shopper asked for."""

    top_k: int = 10
    objects: int = 3
    min_score: float | None = None
    wanted: Filter = NO_FILTER
    strong: bool = False


@dataclass(frozen=True, slots=True)
class ProductList:
    """Hold one object with its products, best first; None where the object was not searched."""

    object: ObjectList
    products: tuple[Hit, ...] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a search found, and the milliseconds that each stage took."""

    width: int
    height: int
    lists: tuple[ProductList, ...]
    degraded: tuple[str, ...]
    watermark_ms: int
    timings_ms: dict[str, float] = field(default_factory=dict)


class Pipeline:
    """Join the three stages."""

    def __init__(
        self, detector: DetectorStage, embedder: EmbedderStage, searcher: SearcherStage, *, rows_per_product: int = 4
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._searcher = searcher
        self._rows_per_product = rows_per_product

    async def run(self, photo: bytes, query: Query) -> Answer:
        """Search with a compressed photo."""
        started = time.perf_counter()
        sighting = await self._detector.detect(photo, query.objects)
        detected = time.perf_counter()
        embeddings = await self._embedder.embed(sighting.crops)
        embedded = time.perf_counter()
        wanted = query_lists(sighting.detections, query.objects)
        pages, watermark_ms, lacking = await self._pages(wanted, embeddings, query)
        searched = time.perf_counter()
        return Answer(
            width=sighting.width,
            height=sighting.height,
            lists=tuple(ProductList(entry, page) for entry, page in zip(wanted, pages, strict=True)),
            degraded=(*(() if sighting.detections else (NO_OBJECT,)), *lacking),
            watermark_ms=watermark_ms,
            timings_ms={
                "decode": sighting.decode_ms,
                "detect": (detected - started) * 1e3 - sighting.decode_ms,
                "embed": (embedded - detected) * 1e3,
                "search": (searched - embedded) * 1e3,
                "total": (searched - started) * 1e3,
            },
        )

    async def _pages(
        self, lists: Sequence[ObjectList], embeddings: Embeddings, query: Query
    ) -> tuple[list[tuple[Hit, ...] | None], int, tuple[str, ...]]:
        """Search all lists in one call, and again with more rows while a page is not sure to be full and final.

        The last call fixes the pages, so its watermark and its flags are theirs.
        """
        k = min(query.top_k * self._rows_per_product, MAX_ROWS)
        while True:
            found = await self._searcher.search(embeddings, k, query.wanted, query.strong)
            answers = found.hits
            pages: list[tuple[Hit, ...] | None] = []
            more = False
            for entry in lists:
                own = [answers[i] for i in entry.crops]
                page = group((hit for hits in own for hit in hits), min_score=query.min_score)
                more |= needs_more(page, own, asked=k, top_k=query.top_k, min_score=query.min_score)
                pages.append(tuple(page[: query.top_k]) if entry.crops else None)
            if not more or k == MAX_ROWS:
                return pages, found.watermark_ms, found.degraded
            k = min(k * 4, MAX_ROWS)
