"""Quotas that all ingress replicas count together."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from serve_app.callers import Caller
from serve_app.degradation import Away, Presence
from serve_app.domain import Terms
from serve_app.errors import DeadlineExceeded, QuotaExceeded
from serve_app.keeping import Store
from serve_app.quotas import WINDOW_S, Buckets, Quota, Standing

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 0.1
"""For the store, by every request that is counted."""


class Quotas:
    """Count in the store; while that is away, here, where each replica lets as many through as all should."""

    def __init__(self, store: Store, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._timeout_s = min(timeout_s, LONGEST_WAIT_S)
        self._clock = clock
        self._presence = Presence("store of quotas")
        self._own = Buckets()
        self._counts_alone = False

    async def charge(self, caller: Caller, cost: int = 1) -> Standing | None:
        """Return how a caller stands who asks for so many requests; None where nobody counts."""
        quota = caller.quota
        return None if quota is None else await self._take(caller.owner, quota, cost)

    async def _take(self, name: str, quota: Quota, cost: int) -> Standing:
        try:
            terms = Terms.within(self._timeout_s)
            standing = await self._presence.ask(lambda: self._store.take(name, quota, cost), terms)
        except (Away, DeadlineExceeded) as error:
            if not self._counts_alone:
                log.warning("quotas are counted by each replica alone", extra={"cause": error.message})
            self._counts_alone = True
            return self._own.take(self._clock(), name, quota, cost)
        if self._counts_alone:
            log.info("quotas are counted together again")
        self._counts_alone = False
        return standing


def exceeded(standing: Standing, cost: int) -> QuotaExceeded:
    """Return the error that says when to come back."""
    quota, wait_s = standing.quota, standing.wait_s(cost)
    whose = "this API key" if quota.policy == "key" else "your address"
    return QuotaExceeded(
        f"{whose} may make {quota.requests} requests in {WINDOW_S} s, and has made them; "
        f"try again in {math.ceil(wait_s)} s"
    ).after(wait_s)
