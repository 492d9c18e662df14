"""What the shop's own people are told of their service, at /admin."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Protocol, TypeVar

from serve_app.catalogue.past import LeftOut, PastImport, PastImports
from serve_app.collection import IndexInfo
from serve_app.config import Config
from serve_app.domain import Terms
from serve_app.pictures import Picture, Pictures, Width
from serve_app.pipeline import Query
from serve_app.recent import Recent
from serve_app.shadow import Shadow
from serve_app.side_by_side import Candidate, Side, SideBySide, candidates
from serve_app.weights.chosen import registry_of
from serve_app.weights.loader import fingerprint
from serve_app.why import Explainer, Why

T = TypeVar("T")


class Admitted(Protocol):
    """Does a piece of work as one search among others, within their deadline."""

    def __call__(self, work: Callable[[Terms], Awaitable[T]], /) -> Awaitable[T]: ...


HTTP_LOGGER = "serve_app.api"
OWN = "this release's own"


class Backstage:
    """Answer for /admin; one of an ingress replica knows the searches of that replica alone."""

    def __init__(
        self,
        config: Config,
        uri: str,
        model: str,
        explainer: Explainer,
        comparer: SideBySide,
        pictures: Pictures,
        admitted: Admitted,
        shadow: Callable[[], Shadow],
    ) -> None:
        """`model` is the fingerprint of the one that runs, `shadow` returns what is known of the one that is tried."""
        self._config = config
        self._uri = uri
        self._model = model
        self._explainer = explainer
        self._comparer = comparer
        self._pictures = pictures
        self._admitted = admitted
        self._shadow = shadow
        self._past = PastImports(config.data_dir)
        self._recent = Recent()
        logging.getLogger(HTTP_LOGGER).addHandler(self._recent)

    def searches(self) -> list[dict[str, Any]]:
        return self._recent.lines()

    def shadow(self) -> Shadow:
        return self._shadow()

    async def imports(self) -> list[PastImport]:
        return await asyncio.to_thread(self._past.imports)

    async def left_out(self, name: str) -> list[LeftOut]:
        return await asyncio.to_thread(self._past.left_out, name)

    async def picture(self, name: str, row: int, known: Sequence[str]) -> Picture:
        file = await asyncio.to_thread(self._past.file, name, row)
        return await self._pictures.picture(file, Width.SMALL, known)

    async def indexes(self) -> list[IndexInfo]:
        return await asyncio.to_thread(_described, self._config, self._uri)

    async def models(self) -> list[Candidate]:
        indexes = await self.indexes()
        entries = await asyncio.to_thread(lambda: registry_of(self._config).entries())
        names = {fingerprint(): OWN} | {each.fingerprint: each.name for each in entries}
        return candidates(indexes, names, self._model)

    async def compare(self, photo: bytes, model: str, query: Query) -> tuple[Side, ...]:
        return await self._admitted(partial(self._comparer.compare, photo, (self._model, model), query))

    async def why(self, photo: bytes, product_id: str, query: Query) -> Why:
        return await self._admitted(partial(self._explainer.why, photo, product_id, query))


def _described(config: Config, uri: str) -> list[IndexInfo]:
    from serve_app.milvus import indexing
    from serve_app.milvus.client import connect

    with closing(connect(config.milvus, uri)) as client:
        return indexing.describe(client, config.catalogue)
