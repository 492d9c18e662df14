"""Photos that are searched again by a token."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serve_app.degradation import Away, Presence
from serve_app.domain import Terms
from serve_app.errors import DeadlineExceeded, PhotoExpired, StageUnavailable
from serve_app.keeping import Store
from serve_app.metadata import without_metadata

PHOTO = "photo"
"""The name of the part that is the photo, compressed as it came, without its metadata."""
HERE = "here"
"""The name of an empty part, which tells whether the token is there."""
TOKEN_BYTES = 16
KEY_BYTES = 32
EXPIRED = "this photo is no longer here; send it again"

T = TypeVar("T")


class Photos:
    """Keep photos in a store for further searches. A store that is away costs a search its token, and nothing else.

    `clean` leaves out what nobody has to know of a photo, without changing how it looks.
    """

    def __init__(
        self, store: Store, timeout_s: float, clean: Callable[[bytes], bytes | None] = without_metadata
    ) -> None:
        self._store = store
        self._clean = clean
        self._timeout_s = timeout_s
        self._presence = Presence("store of photos")

    async def keep(self, owner: str, photo: bytes) -> str | None:
        """Return the token of a photo, None where it could not be kept; takes `timeout_s` at most."""
        cleaned = await asyncio.to_thread(self._clean, photo)
        return None if cleaned is None else await self._open(owner, {HERE: b"", PHOTO: cleaned})

    async def keep_nothing(self, owner: str) -> str | None:
        """Return a token without a photo, for a search that needed none; None where it could not be kept."""
        return await self._open(owner, {HERE: b""})

    async def note(self, owner: str, name: str, parts: dict[str, bytes]) -> bool:
        """Keep parts under a name that the caller can make again; False where they could not be kept."""
        try:
            return await self._presence.ask(lambda: self._store.open(owner, name, parts), self._terms())
        except (Away, DeadlineExceeded):
            return False

    async def _open(self, owner: str, parts: dict[str, bytes]) -> str | None:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        return token if await self.note(owner, token, parts) else None

    async def photo(self, owner: str, token: str) -> bytes:
        """Return the photo of a token; raises PhotoExpired, or StageUnavailable where the store is away."""
        found = await self.read(owner, token, PHOTO)
        if found is None:
            raise PhotoExpired(EXPIRED)
        return found

    async def is_kept(self, owner: str, token: str) -> bool:
        """Tell whether a token is still there; raises StageUnavailable where the store is away."""
        return await self.read(owner, token, HERE) is not None

    async def read(self, owner: str, token: str, name: str) -> bytes | None:
        """Return a part of a token, None where it is gone; raises StageUnavailable where the store is away."""
        return await self._needed(self._store.read(owner, token, name))

    async def add(self, owner: str, token: str, parts: dict[str, bytes]) -> bool:
        """Add parts to a token; False where that could not be done."""
        try:
            return await self._presence.ask(lambda: self._store.add(owner, token, parts), self._terms())
        except (Away, DeadlineExceeded):
            return False

    async def signing_key(self) -> bytes:
        """Return the key that all who share the store sign with; raises StageUnavailable where it is away."""
        return await self._needed(self._store.signing_key(secrets.token_bytes(KEY_BYTES)))

    async def _needed(self, call: Awaitable[T]) -> T:
        """Wait for a call that nothing can stand in for, however often others have failed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError as error:
            raise StageUnavailable("the store of photos does not answer; try again shortly") from error

    def _terms(self) -> Terms:
        return Terms.within(self._timeout_s)
