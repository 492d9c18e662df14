"""Turns at changing products as one named actor of Ray, which all ingress replicas of a cluster share."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import ray
from ray.exceptions import RayError

from serve_app.errors import DeadlineExceeded, StageUnavailable
from serve_app.turns import LEASE_S, Turns

log = logging.getLogger(__name__)

NAME = "turns"
NAMESPACE = "shoplens"
RENEW_S = LEASE_S / 3
MOST_CALLS = 1000
"""Calls that the actor has at a time; each ingress replica has one that waits."""


class ActorTurns:
    """Take turns by the actor; the first who needs it makes it, and one that died starts anew, with no turns out."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._handle: Any = None

    @asynccontextmanager
    async def held(self, products: Sequence[str]) -> AsyncIterator[None]:
        """Keep all others from these products until the block ends.

        Raises DeadlineExceeded where others have them for too long, StageUnavailable where the actor is away.
        """
        holder = secrets.token_hex(8)
        if not await self._call("take", holder, list(products), self._wait_s):
            raise DeadlineExceeded("others change these products; try again")
        renewing = asyncio.create_task(self._renew(holder))
        try:
            yield
        finally:
            renewing.cancel()
            try:
                await self._call("leave", holder)
            except StageUnavailable as error:
                log.warning("turn not given back", extra={"cause": error.message})

    async def _renew(self, holder: str) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._call("renew", holder)
            except StageUnavailable as error:
                log.warning("turn not renewed", extra={"cause": error.message})

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(_actor)
            return await getattr(self._handle, method).remote(*arguments)
        except (RayError, ValueError) as error:
            self._handle = None
            raise StageUnavailable(f"turns at changing products can't be had: {str(error)[:200]}") from error


def _actor() -> Any:
    made: Any = ray.remote(Turns)
    return made.options(
        name=NAME,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=MOST_CALLS,
        num_cpus=0,
    ).remote()
