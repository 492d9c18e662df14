"""Searches kept in flight: each client sends its next one as soon as the last is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

TIMEOUT_S = 60.0
SEARCH_PATH = "/v1/search"

Search = Callable[[bytes], Awaitable[dict[str, float]]]
"""Searches with one photo and returns its milliseconds per stage."""
Outcome = dict[str, Any]
"""`seconds` of a round, `latencies_ms` of its searches, `stages` of each, and why others `failed`."""


class SearchFailed(Exception):
    """Say why one search got no answer: a round goes on without it."""


async def over_http(
    url: str, photos: Sequence[bytes], searches: int, in_flight: int, path: str = SEARCH_PATH
) -> Outcome:
    """Search a service; what it answers may be any JSON, stages are told where it tells them."""
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits) as client:

        async def search(photo: bytes) -> dict[str, float]:
            try:
                answer = await client.post(path, files={"photo": ("photo.jpg", photo, "image/jpeg")})
                answer.raise_for_status()
                body = answer.json()
            except (httpx.HTTPError, ValueError) as error:
                raise SearchFailed(str(error) or type(error).__name__) from error
            timings: dict[str, float] = body.get("timings_ms", {}) if isinstance(body, dict) else {}
            return timings

        return await drive(search, photos, searches, in_flight)


async def drive(search: Search, photos: Sequence[bytes], searches: int, in_flight: int) -> Outcome:
    """Keep `in_flight` searches going until the round's number is done."""
    waiting = iter(itertools.islice(itertools.cycle(photos), searches))
    latencies_ms: list[float] = []
    stages: list[dict[str, float]] = []
    failed: list[str] = []

    async def client() -> None:
        for photo in waiting:
            started = time.perf_counter()
            try:
                stages.append(await search(photo))
            except SearchFailed as error:
                failed.append(str(error))
                continue
            latencies_ms.append((time.perf_counter() - started) * 1e3)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    return {
        "seconds": time.perf_counter() - started,
        "latencies_ms": latencies_ms,
        "stages": stages,
        "failed": failed,
    }
