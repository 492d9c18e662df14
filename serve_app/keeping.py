"""What is kept of photos and searches, for how long, and what goes first where room is short."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from serve_app.quotas import Buckets, Quota, Standing

NOBODY = ""
"""The owner where no API keys are given out: the bound per key does not hold for it."""
SWEEP_S = 5.0
"""How long a photo may outlive its token."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Say how much is kept, and how long; `max_bytes_per_key` holds for each owner but NOBODY."""

    max_bytes: int
    max_bytes_per_key: int
    expiry_s: float


class Store(Protocol):
    """Keep the parts of tokens, each token its owner's alone.

    A token goes with all its parts, `expiry_s` after it was opened, or earlier where newer ones need the room.
    Calls raise StageUnavailable where the store is away.
    """

    async def open(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        """Begin a token with these parts; False where there is no room for it."""
        ...

    async def add(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        """Add those parts that the token has not; False where the token is gone."""
        ...

    async def read(self, owner: str, token: str, name: str) -> bytes | None:
        """Return a part; None where the token, or the part, is not there."""
        ...

    async def signing_key(self, proposed: bytes) -> bytes:
        """Return the key that all who use the store sign with: the first that one of them proposed."""
        ...

    async def take(self, name: str, quota: Quota, cost: int) -> Standing:
        """Take requests out of a caller's bucket, see Buckets.take."""
        ...


@dataclass(slots=True)
class _Kept:
    owner: str
    expires_s: float
    parts: dict[str, bytes] = field(default_factory=dict)
    size_bytes: int = 0


class Shelf:
    """Hold what a store holds in memory. Nothing here waits; time comes in as seconds of a monotonic clock."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        """By token, the oldest first."""
        self.size_bytes = 0

    def open(self, now_s: float, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        if token in self._kept:
            return False
        self._kept[token] = _Kept(owner, now_s + self.bounds.expiry_s)
        return self.add(now_s, owner, token, parts)

    def add(self, now_s: float, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        kept = self._find(now_s, owner, token)
        if kept is None:
            return False
        for name, data in parts.items():
            if name not in kept.parts:
                kept.parts[name] = data
                kept.size_bytes += len(data)
                self.size_bytes += len(data)
        self.sweep(now_s)
        if owner != NOBODY:
            self._make_room(self.bounds.max_bytes_per_key, token, owner)
        self._make_room(self.bounds.max_bytes, token)
        return token in self._kept

    def read(self, now_s: float, owner: str, token: str, name: str) -> bytes | None:
        kept = self._find(now_s, owner, token)
        return None if kept is None else kept.parts.get(name)

    def sweep(self, now_s: float) -> None:
        """Drop what has expired."""
        for token in [token for token, kept in self._kept.items() if kept.expires_s <= now_s]:
            self._drop(token)

    def _find(self, now_s: float, owner: str, token: str) -> _Kept | None:
        kept = self._kept.get(token)
        return kept if kept is not None and kept.owner == owner and now_s < kept.expires_s else None

    def _make_room(self, most_bytes: int, token: str, owner: str | None = None) -> None:
        """Drop the oldest of one owner, or of all, the token itself last, until the rest is small enough."""
        own = [name for name, kept in self._kept.items() if owner is None or kept.owner == owner]
        size_bytes = sum(self._kept[name].size_bytes for name in own) if owner is not None else self.size_bytes
        for name in (*(name for name in own if name != token), token):
            if size_bytes <= most_bytes:
                return
            size_bytes -= self._kept[name].size_bytes
            self._drop(name)

    def _drop(self, token: str) -> None:
        self.size_bytes -= self._kept.pop(token).size_bytes


class ShelfStore:
    """Be a store in the memory of this process; what has expired goes though nobody asks for it."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._shelf = Shelf(bounds)
        self._clock = clock
        self._key: bytes | None = None
        self._buckets = Buckets()
        self._sweeper: asyncio.Task[None] | None = None

    async def configure(self, bounds: Bounds) -> None:
        """Take other bounds from now on."""
        self._shelf.bounds = bounds

    async def open(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        return self._shelf.open(self._clock(), owner, token, parts)

    async def add(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        return self._shelf.add(self._clock(), owner, token, parts)

    async def read(self, owner: str, token: str, name: str) -> bytes | None:
        return self._shelf.read(self._clock(), owner, token, name)

    async def signing_key(self, proposed: bytes) -> bytes:
        self._key = self._key or proposed
        return self._key

    async def take(self, name: str, quota: Quota, cost: int) -> Standing:
        return self._buckets.take(self._clock(), name, quota, cost)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._shelf.sweep(self._clock())
