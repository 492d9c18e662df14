"""How many requests a caller may make, as buckets of tokens that fill again.

Nothing here waits; time comes in as seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

WINDOW_S = 60
MOST_BUCKETS = 100_000
"""Buckets that are kept at once; about 30 MB."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Allow so many requests a window, `WINDOW_S`: all at once, or as they come."""

    policy: str
    """`key` or `address`: what the requests are counted by."""
    requests: int

    @property
    def per_s(self) -> float:
        return self.requests / WINDOW_S


@dataclass(frozen=True, slots=True)
class Standing:
    """Say what is left of a quota after a request asked for its part."""

    quota: Quota
    taken: bool
    left: float
    """Requests that may be made now."""

    @property
    def full_s(self) -> int:
        """Whole seconds until the quota is whole again."""
        return math.ceil((self.quota.requests - self.left) / self.quota.per_s)

    def wait_s(self, cost: int) -> float:
        """Return the seconds until a request of this cost can be made."""
        return max(0.0, (min(cost, self.quota.requests) - self.left) / self.quota.per_s)


class Buckets:
    """Hold the buckets of all callers; of more than `most`, those go first that were not asked for the longest."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By caller what was left, and when; who was asked for last stands last."""

    def __len__(self) -> int:
        return len(self._left)

    def take(self, now_s: float, name: str, quota: Quota, cost: int) -> Standing:
        """Take `cost` requests out of a caller's bucket, all of them or none.

        What costs more than a whole bucket may be had from a full one, and leaves it that far below empty.
        """
        before, at_s = self._left.get(name, (float(quota.requests), now_s))
        left = min(float(quota.requests), before + (now_s - at_s) * quota.per_s)
        taken = left >= min(cost, quota.requests)
        if taken:
            left -= cost
        self._left[name] = (left, now_s)
        self._left.move_to_end(name)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return Standing(quota, taken, left)
