"""Turns at changing products, where several processes do: one of them at a time has a product."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

LEASE_S = 30.0
"""How long a turn outlives a holder that died; one that lives renews it."""


class Turns:
    """Hand out turns in the memory of this process; use it in one event loop."""

    def __init__(self, lease_s: float = LEASE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}
        """Holder of each product, and when it has to have renewed its turn, by the clock's seconds."""
        self._left = asyncio.Condition()

    async def take(self, holder: str, products: Sequence[str], wait_s: float) -> bool:
        """Return True once the holder has all of these products, False where that takes longer than `wait_s`.

        Nothing is held while others are waited for, so that no two wait for each other.
        """
        until_s = self._clock() + wait_s
        async with self._left:
            while any(self._is_others(holder, product) for product in products):
                left_s = until_s - self._clock()
                if left_s <= 0:
                    return False
                # A turn that ends by itself wakes nobody.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._left.wait(), min(left_s, self._next_end_s()))
            self._held |= dict.fromkeys(products, (holder, self._clock() + self._lease_s))
        return True

    async def renew(self, holder: str) -> None:
        """Let a holder keep what it has."""
        own = [product for product, (other, _) in self._held.items() if other == holder]
        self._held |= dict.fromkeys(own, (holder, self._clock() + self._lease_s))

    async def leave(self, holder: str) -> None:
        """Let others have what a holder had."""
        async with self._left:
            self._held = {product: held for product, held in self._held.items() if held[0] != holder}
            self._left.notify_all()

    def _is_others(self, holder: str, product: str) -> bool:
        other, end_s = self._held.get(product, (holder, 0.0))
        return other != holder and self._clock() < end_s

    def _next_end_s(self) -> float:
        return max(0.001, min(end_s for _, end_s in self._held.values()) - self._clock())
