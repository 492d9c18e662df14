"""Requests that are sent again, told by their key, so that they take effect once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from serve_app.errors import BadParameter, StageUnavailable
from serve_app.keeping import Store

MARK = "once:"
"""Begins the names under which requests are kept beside photos; no token holds a colon."""
REQUEST, TIME, ANSWER = "request", "time", "answer"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Begun:
    """Say when a request came first, in milliseconds since 1970 UTC, and what it was answered, if it was."""

    at_ms: int
    answer: bytes | None = None


class Repeats:
    """Keep requests by their owners' keys, as long as the store keeps a photo."""

    def __init__(self, store: Store, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s

    async def begin(self, owner: str, key: str, request: bytes, now_ms: int) -> Begun:
        """Note a request, and return what is known of it.

        Raises BadParameter where the key came with another request before, StageUnavailable where the store is away or
        has no room.
        """
        name, digest = _name(owner, key), hashlib.sha256(request).hexdigest().encode()
        parts = {REQUEST: digest, TIME: str(now_ms).encode()}
        if await self._needed(self._store.open(owner, name, parts)):
            return Begun(now_ms)
        known = await self._needed(self._store.read(owner, name, REQUEST))
        time = await self._needed(self._store.read(owner, name, TIME))
        if known is None or time is None:
            raise StageUnavailable("there is no room to remember this Idempotency-Key; try again later")
        if known != digest:
            raise BadParameter("this Idempotency-Key came with another request before; take a new key for each request")
        return Begun(int(time), await self._needed(self._store.read(owner, name, ANSWER)))

    async def end(self, owner: str, key: str, answer: bytes) -> None:
        """Keep what a request was answered, for whoever sends it again; raises StageUnavailable."""
        await self._needed(self._store.add(owner, _name(owner, key), {ANSWER: answer}))

    async def _needed(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError as error:
            raise StageUnavailable("what remembers Idempotency-Keys does not answer; try again shortly") from error


def _name(owner: str, key: str) -> str:
    digest = hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()
    return f"{MARK}{digest}"
