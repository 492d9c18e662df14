"""Searches that belong together: with a new photo, again with one that was sent before, and page by page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from serve_app.cursors import Cursors
from serve_app.domain import PATIENT, Terms
from serve_app.errors import StageUnavailable
from serve_app.paging import Paging, goes_on
from serve_app.photos import Photos
from serve_app.pipeline import NO_TOKEN, Answer, Pipeline, Query, Seen
from serve_app.seen_photos import SeenPhotos, known_again


class Sessions:
    """Search, and keep what further searches need."""

    def __init__(
        self,
        pipeline: Pipeline,
        photos: Photos,
        paging: Paging,
        signing_key: bytes | None = None,
        remembered: SeenPhotos | None = None,
    ) -> None:
        """Sign cursors with a key that is given, else with the store's; ask no model for photos that are remembered."""
        self._pipeline = pipeline
        self._photos = photos
        self._paging = paging
        self._remembered = remembered
        self._cursors = None if signing_key is None else Cursors(signing_key)

    async def search(self, owner: str, photo: bytes, query: Query, terms: Terms = PATIENT) -> Answer:
        """Search with a new photo, and keep it beside the search; raises what the stages raise."""
        return await self._kept(owner, photo, query, lambda keep: self._searched(owner, photo, query, terms, keep))

    async def search_together(
        self, owner: str, photos: Sequence[bytes], query: Query, terms: Terms = PATIENT
    ) -> Answer:
        """Search with several new photos of one thing, of which the first is kept; raises what the stages raise."""
        return await self._kept(
            owner, photos[0], query, lambda keep: self._pipeline.run_together(photos, query, terms, keep)
        )

    async def _kept(
        self, owner: str, photo: bytes, query: Query, search: Callable[[Callable[[], None]], Awaitable[Answer]]
    ) -> Answer:
        """Search, and keep the photo from when `search` calls what it is given."""
        keeping: list[asyncio.Task[tuple[str, Cursors] | None]] = []

        def keep() -> None:
            keeping.append(asyncio.create_task(self._signed(self._photos.keep(owner, photo))))

        answer = await search(keep)
        kept = await keeping[0]
        if kept is None:
            return replace(answer, degraded=(*answer.degraded, NO_TOKEN))
        token, cursors = kept
        return self._paging.continued(owner, replace(answer, token=token), query, cursors)

    async def search_again(self, owner: str, token: str, query: Query, terms: Terms = PATIENT) -> Answer:
        """Search with a photo that was sent before; raises PhotoExpired, and what the stages and the store raise."""
        photo = await self._photos.photo(owner, token)
        answer = replace(await self._searched(owner, photo, query, terms), token=token)
        return self._paging.continued(owner, answer, query, await self._signing())

    async def _searched(
        self, owner: str, photo: bytes, query: Query, terms: Terms, sighted: Callable[[], None] = lambda: None
    ) -> Answer:
        """Search with a photo, without the models where it is remembered; `sighted` as for the pipeline."""
        started = time.perf_counter()
        key = None if self._remembered is None else await self._remembered.key(owner, photo, query.focus)
        if self._remembered is None or key is None:
            return await self._pipeline.run(photo, query, terms, sighted)
        seen: Seen | None = self._remembered.get(key)
        if seen is not None:
            sighted()
            return await self._pipeline.find(known_again(seen, time.perf_counter() - started), query, terms)
        seen = await self._pipeline.see(photo, query.focus, terms, sighted)
        self._remembered.put(key, seen)
        return await self._pipeline.find(seen, query, terms)

    async def page(
        self,
        owner: str,
        cursor: str,
        top_k: int,
        query: Query | None,
        terms: Terms = PATIENT,
        product_id: str = "",
    ) -> Answer:
        """Return a further page of one list, see Paging.page."""
        return await self._paging.page(owner, cursor, top_k, query, await self._signing(), terms, product_id)

    async def begun(self, owner: str, answer: Answer, query: Query) -> Answer:
        """Return the first page of a search that no photo was sent for, with cursors to what follows it."""
        if not any(goes_on(entry, query.top_k) for entry in answer.lists):
            return answer
        kept = await self._signed(self._photos.keep_nothing(owner))
        if kept is None:
            return replace(answer, degraded=(*answer.degraded, NO_TOKEN))
        token, cursors = kept
        return self._paging.continued(owner, replace(answer, token=token), query, cursors)

    async def connect(self) -> None:
        """Reach the store before the first search does, which would wait for it; where it is away, later ones will."""
        try:
            await self._signing()
        except StageUnavailable:
            return

    async def _signed(self, keeping: Awaitable[str | None]) -> tuple[str, Cursors] | None:
        token = await keeping
        if token is None:
            return None
        try:
            return token, await self._signing()
        except StageUnavailable:
            return None

    async def _signing(self) -> Cursors:
        if self._cursors is None:
            self._cursors = Cursors(await self._photos.signing_key())
        return self._cursors
