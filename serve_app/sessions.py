"""Searches that belong together: with a new photo, and again with one that was sent before."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from serve_app.domain import PATIENT, Terms
from serve_app.photos import Photos
from serve_app.pipeline import NO_TOKEN, Answer, Pipeline, Query


class Sessions:
    """Search, and keep what further searches need."""

    def __init__(self, pipeline: Pipeline, photos: Photos) -> None:
        self._pipeline = pipeline
        self._photos = photos

    async def search(self, owner: str, photo: bytes, query: Query, terms: Terms = PATIENT) -> Answer:
        """Search with a new photo, and keep it beside the search; raises what the stages raise."""
        keeping: list[asyncio.Task[str | None]] = []

        def keep() -> None:
            keeping.append(asyncio.create_task(self._photos.keep(owner, photo)))

        answer = await self._pipeline.run(photo, query, terms, keep)
        token = await keeping[0]
        if token is None:
            return replace(answer, degraded=(*answer.degraded, NO_TOKEN))
        return replace(answer, token=token)

    async def search_again(self, owner: str, token: str, query: Query, terms: Terms = PATIENT) -> Answer:
        """Search with a photo that was sent before; raises PhotoExpired, and what the stages and the store raise."""
        photo = await self._photos.photo(owner, token)
        return replace(await self._pipeline.run(photo, query, terms), token=token)
