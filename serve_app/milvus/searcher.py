"""Search of one model's index by cosine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pymilvus import AsyncMilvusClient
from pymilvus.client.types import LoadState

from serve_app.collection import HIT_FIELDS, IndexState, to_hit
from serve_app.config import MilvusConfig
from serve_app.domain import Embeddings, Hit
from serve_app.errors import DeadlineExceeded, IndexMissing, MilvusUnavailable
from serve_app.milvus.client import async_client, translated
from serve_app.pipeline import MAX_ROWS


class MilvusSearcher:
    """Search the collection that `alias` stands for; use it in one event loop.

    Each call is one attempt of at most `config.attempt_timeout_s`. Calls raise MilvusUnavailable, also when that time
    is over, and `search` IndexMissing; the next call after an error starts from a new connection if need be.
    """

    def __init__(self, uri: str, config: MilvusConfig, alias: str) -> None:
        self._uri = uri
        self._config = config
        self._alias = alias
        self._client: AsyncMilvusClient | None = None
        self._connecting = asyncio.Lock()
        self._exits = AsyncExitStack()

    async def search(self, embeddings: Embeddings, k: int) -> list[list[Hit]]:
        """Return at most `k` rows for each embedding, best first, equal scores by row id; k is cut to MAX_ROWS."""
        if len(embeddings) == 0:
            return []
        k = min(k, MAX_ROWS)
        async with self._attempt() as client:
            found = await client.search(
                self._alias,
                data=list(embeddings),
                anns_field="vector",
                limit=k,
                output_fields=list(HIT_FIELDS),
                # An exact index ignores `ef`, so the kind of index need not be asked for.
                search_params={"metric_type": "COSINE", "params": {"ef": max(self._config.ef, k)}},
                retry_times=0,
            )
        return [_hits(rows) for rows in found]

    async def index(self) -> IndexState:
        """Say what the alias stands for now."""
        try:
            async with self._attempt() as client:
                target = await client.describe_alias(self._alias, retry_times=0)
                state = await client.get_load_state(target["collection_name"], retry_times=0)
        except IndexMissing:
            return IndexState(None, loaded=False)
        return IndexState(target["collection_name"], loaded=state["state"] == LoadState.Loaded)

    async def close(self) -> None:
        """Close the connection; calls after it fail."""
        await self._exits.aclose()

    @asynccontextmanager
    async def _attempt(self) -> AsyncIterator[AsyncMilvusClient]:
        """Bound a call in time and translate its errors."""
        try:
            with translated():
                async with asyncio.timeout(self._config.attempt_timeout_s):
                    yield await self._connected()
        except DeadlineExceeded as error:
            # The caller's own deadline may still be far: what ran out is the time that Milvus is given.
            raise MilvusUnavailable(f"{error.message}; try again shortly") from error

    async def _connected(self) -> AsyncMilvusClient:
        """Connect once: the client itself makes one connection per call that finds none."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._exits.enter_async_context(async_client(self._config, self._uri))
            return self._client


def _hits(rows: Iterable[Any]) -> list[Hit]:
    hits = [to_hit(row["entity"], float(row["distance"])) for row in rows]
    return sorted(hits, key=lambda hit: (-hit.score, hit.row_id))
