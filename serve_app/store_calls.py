"""The store of photos as one named actor of Ray, which all ingress replicas of a cluster share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from serve_app.errors import StageUnavailable
from serve_app.keeping import Bounds, ShelfStore
from serve_app.quotas import Quota, Standing

log = logging.getLogger(__name__)

NAME = "photos"
NAMESPACE = "shoplens"
ON_THE_LOOP_BYTES = 256 * 1024
"""Larger parts are handed to Ray in a thread: it copies them before its call returns."""


class ActorStore:
    """Call the actor, which is made where there is none; one that died is made anew, empty."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._handle: Any = None
        self._making: asyncio.Task[None] | None = None
        self._lost = False
        """The actor died, and another one is not there yet: what it held is gone, and nobody has to wait to know."""

    async def open(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        return bool(await self._call("open", owner, token, parts, size_bytes=sum(map(len, parts.values()))))

    async def add(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        return bool(await self._call("add", owner, token, parts, size_bytes=sum(map(len, parts.values()))))

    async def read(self, owner: str, token: str, name: str) -> bytes | None:
        try:
            found: bytes | None = await self._call("read", owner, token, name)
        except _Lost:
            return None
        return found

    async def signing_key(self, proposed: bytes) -> bytes:
        key: bytes = await self._call("signing_key", proposed)
        return key

    async def take(self, name: str, quota: Quota, cost: int) -> Standing:
        standing: Standing = await self._call("take", name, quota, cost)
        return standing

    async def _call(self, method: str, *arguments: Any, size_bytes: int = 0) -> Any:
        if self._lost:
            self._make_one()
            raise _Lost("the store of photos died, and another one is not there yet")
        if self._handle is None:
            # Whoever gives up waiting leaves the others their actor.
            await asyncio.shield(self._make_one())
        handle = self._handle
        if handle is None:
            raise StageUnavailable("the store of photos can't be made")
        call = getattr(handle, method).remote
        try:
            in_thread = size_bytes > ON_THE_LOOP_BYTES
            return await (await asyncio.to_thread(call, *arguments) if in_thread else call(*arguments))
        except RayActorError as error:
            if handle is self._handle:
                self._handle, self._lost = None, True
            self._make_one()
            raise _Lost("the store of photos died") from error
        except RayError as error:
            raise StageUnavailable(f"the store of photos failed: {error}") from error

    def _make_one(self) -> asyncio.Task[None]:
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        return self._making

    async def _make(self) -> None:
        try:
            handle = await asyncio.to_thread(_actor, self._bounds)
            await handle.configure.remote(self._bounds)
            self._handle, self._lost = handle, False
        except (RayError, ValueError) as error:
            log.warning("store of photos not made", extra={"cause": str(error)[:200]})
        finally:
            self._making = None


class _Lost(StageUnavailable):
    """The actor's process is gone, and with it what it held."""


def _actor(bounds: Bounds) -> Any:
    """Return the actor; it stays when its maker goes, and keeps a token through a roll-out of the ingress."""
    made: Any = ray.remote(ShelfStore)
    return made.options(
        name=NAME,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        # Calls to an actor that Ray restarts wait until it is there again; those to a dead one fail at once.
        max_restarts=0,
        max_concurrency=64,
        num_cpus=0,
    ).remote(bounds)
