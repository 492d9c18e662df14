"""The store of photos as one named actor of Ray, which all ingress replicas of a cluster share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError

from serve_app.errors import StageUnavailable
from serve_app.keeping import Bounds, ShelfStore

log = logging.getLogger(__name__)

NAME = "photos"
NAMESPACE = "shoplens"
ON_THE_LOOP_BYTES = 256 * 1024
"""Larger parts are handed to Ray in a thread: it copies them before its call returns."""


class ActorStore:
    """Call the actor, which is made where there is none; Ray restarts a dead one, empty."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._handle: Any = None
        self._making: asyncio.Task[Any] | None = None

    async def open(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        return bool(await self._call("open", owner, token, parts, size_bytes=sum(map(len, parts.values()))))

    async def add(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        return bool(await self._call("add", owner, token, parts, size_bytes=sum(map(len, parts.values()))))

    async def read(self, owner: str, token: str, name: str) -> bytes | None:
        """Return a part; what a dead actor held is gone, so its death is told as that."""
        try:
            found: bytes | None = await self._call("read", owner, token, name)
        except _Lost:
            return None
        return found

    async def signing_key(self, proposed: bytes) -> bytes:
        key: bytes = await self._call("signing_key", proposed)
        return key

    async def connect(self) -> None:
        """Find or make the actor, so that no search waits for that."""
        if self._handle is None:
            if self._making is None:
                self._making = asyncio.create_task(asyncio.to_thread(_actor, self._bounds))
            try:
                # Whoever gives up leaves the others their actor.
                self._handle = await asyncio.shield(self._making)
            except RayError as error:
                raise StageUnavailable(f"the store of photos can't be made: {error}") from error
            finally:
                if self._making is not None and self._making.done():
                    self._making = None

    async def _call(self, method: str, *arguments: Any, size_bytes: int = 0) -> Any:
        await self.connect()
        call = getattr(self._handle, method).remote
        try:
            reference = (
                await asyncio.to_thread(call, *arguments) if size_bytes > ON_THE_LOOP_BYTES else call(*arguments)
            )
            return await reference
        except ActorDiedError as error:
            self._handle = None
            raise _Lost("the store of photos died") from error
        except RayActorError as error:
            raise _Lost("the store of photos is being restarted") from error
        except RayError as error:
            raise StageUnavailable(f"the store of photos failed: {error}") from error


class _Lost(StageUnavailable):
    """The actor's process is gone, and with it what it held."""


def _actor(bounds: Bounds) -> Any:
    """Return the actor; it stays when its maker goes, and keeps a token through a roll-out of the ingress."""
    made: Any = ray.remote(ShelfStore)
    actor = made.options(
        name=NAME,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=64,
        num_cpus=0,
    ).remote(bounds)
    actor.configure.remote(bounds)
    return actor
