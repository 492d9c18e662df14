"""Products like a stored one: its own rows are what is searched with."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol

import numpy as np

from serve_app.domain import PATIENT, WHOLE_BOX, Detection, Source, StoredView, Terms, View
from serve_app.errors import UnknownProduct
from serve_app.objects import ObjectList
from serve_app.pipeline import Answer, Embedded, Pipeline, ProductList, Query, Stored

MOST_VECTORS = 20
"""Rows that are searched with, those of whole images first: many images cost no more than a few searches."""


class ProductStage(Protocol):
    """What reading products asks of the searcher."""

    async def product(
        self, model: str, product_id: str, vectors: bool = False, strong: bool = False, terms: Terms = PATIENT
    ) -> Stored:
        """Return what a model's index has of a product."""
        ...


class Products:
    """Read products of one model's index, and search with what they show."""

    def __init__(self, pipeline: Pipeline, searcher: ProductStage, model: str) -> None:
        self._pipeline = pipeline
        self._searcher = searcher
        self._model = model

    async def product(self, product_id: str, strong: bool = False, terms: Terms = PATIENT) -> Stored:
        """Return a product's rows; raises UnknownProduct, and what the searcher raises."""
        return self._known(product_id, await self._searcher.product(self._model, product_id, False, strong, terms))

    async def similar(self, product_id: str, query: Query, terms: Terms = PATIENT) -> tuple[Answer, Query]:
        """Return one list of the products that are most like this one, without it, and what was asked for it.

        Where products of one parent are one, this one's own parent is left out. Raises UnknownProduct, and what the
        searcher raises.
        """
        started = time.perf_counter()
        stored = await self._searcher.product(self._model, product_id, True, query.strong, terms)
        views = sorted(self._known(product_id, stored).rows, key=_whole_first)[:MOST_VECTORS]
        parent = views[0].hit.parent_id if query.by_parent else ""
        asked = replace(query, wanted=replace(query.wanted, but_product=product_id, but_parent=parent))
        embedded = Embedded(np.stack([view.vector for view in views]), self._model)
        whole = ObjectList(Detection(WHOLE_BOX), Source.WHOLE, main=True, crops=tuple(range(len(views))))
        (fixed,), found = await self._pipeline.rank([whole], embedded, asked, asked.top_k, terms)
        took_ms = (time.perf_counter() - started) * 1e3
        answer = Answer(
            width=0,
            height=0,
            model=self._model,
            collection=found.collection,
            lists=(ProductList.first_page(whole, fixed, asked.top_k, "o0"),),
            degraded=found.degraded,
            watermark_ms=min(stored.watermark_ms, found.watermark_ms),
            timings_ms={"search": took_ms, "total": took_ms},
        )
        return answer, asked

    def _known(self, product_id: str, stored: Stored) -> Stored:
        if not stored.rows:
            raise UnknownProduct(
                f"there is no product {product_id[:80]!r} in the index; import it, or send it with "
                "PUT /v1/products/{product_id}, and ask with consistency=strong for what was sent just now"
            )
        return stored


def _whole_first(view: StoredView) -> tuple[bool, str]:
    return view.hit.view is not View.WHOLE, view.hit.row_id
