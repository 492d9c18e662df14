"""Searches by embeddings of any model, each in that model's own index."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from serve_app.collection import alias
from serve_app.config import MilvusConfig, SearchParams
from serve_app.domain import PATIENT, Hit, Ranked, Terms
from serve_app.filters import NO_FILTER, Filter
from serve_app.milvus.searcher import MilvusSearcher
from serve_app.pipeline import Embedded, Found, Stored

MODELS_AT_ONCE = 3
"""The old one, the new one, and one that is tried beside them."""


class ModelSearchers:
    """Search a catalogue; use it in one event loop.

    While a model is rolled out, embeddings of the old one and of the new one arrive side by side. Each is searched
    through its own model's alias, so they can't be mixed. `params` may be set at any time.
    """

    def __init__(self, uris: Sequence[str], config: MilvusConfig, catalogue: str, params: SearchParams) -> None:
        self._uris = uris
        self._config = config
        self._catalogue = catalogue
        self._params = params
        self._searchers: OrderedDict[str, MilvusSearcher] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def params(self) -> SearchParams:
        return self._params

    @params.setter
    def params(self, params: SearchParams) -> None:
        self._params = params
        for searcher in self._searchers.values():
            searcher.params = params

    async def search(
        self, embedded: Embedded, k: int, wanted: Filter = NO_FILTER, strong: bool = False, terms: Terms = PATIENT
    ) -> Found:
        """Return the rows nearest to each embedding, see MilvusSearcher."""
        return await self.searcher(embedded.model).search(embedded.embeddings, k, wanted, strong, terms)

    async def refresh(self, model: str, ranked: Sequence[Ranked], terms: Terms = PATIENT) -> Found:
        """Return what is true now of a model's ranking, see MilvusSearcher."""
        return await self.searcher(model).refresh(ranked, terms)

    async def product(
        self, model: str, product_id: str, vectors: bool = False, strong: bool = False, terms: Terms = PATIENT
    ) -> Stored:
        """Return what a model's index has of a product, see MilvusSearcher."""
        return await self.searcher(model).product(product_id, vectors=vectors, strong=strong, terms=terms)

    async def image(self, model: str, image_id: str, terms: Terms = PATIENT) -> Hit | None:
        """Return a row of an image of a model's index, see MilvusSearcher."""
        return await self.searcher(model).image(image_id, terms=terms)

    def searcher(self, model: str) -> MilvusSearcher:
        """Return the searcher for a model's embeddings."""
        if model not in self._searchers:
            self._searchers[model] = MilvusSearcher(
                self._uris, self._config, alias(self._catalogue, model), self._params
            )
            if len(self._searchers) > MODELS_AT_ONCE:
                _, oldest = self._searchers.popitem(last=False)
                closing = asyncio.create_task(oldest.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
        self._searchers.move_to_end(model)
        return self._searchers[model]

    async def close(self) -> None:
        """Close the connections; calls after it fail."""
        for searcher in self._searchers.values():
            await searcher.close()
        self._searchers.clear()
