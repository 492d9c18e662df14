"""How much one host is asked for at once, and how soon again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_IDLE_HOSTS = 4096
"""How many hosts are remembered that nobody fetches from: some 4 MB."""


def retry_after_s(text: str, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, given as a number or as a date; None for neither."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
    except (ValueError, OverflowError):
        return None


class Pace:
    """Space the requests to one host; time comes in as seconds of a monotonic clock."""

    BURST_S = 0.1
    """Turns of this much time may be caught up on: who wakes late must not slow the rest."""

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s
        self._next_s = -math.inf
        self._held_until_s = -math.inf

    def take(self, now_s: float) -> float:
        """Take a turn; returns 0, or the seconds after which to ask again."""
        wait_s = max(self._next_s, self._held_until_s) - now_s
        if wait_s > 0:
            return wait_s
        self._next_s = max(self._next_s, now_s - self.BURST_S) + self._interval_s
        return 0.0

    def hold(self, until_s: float) -> None:
        """Give no turns before `until_s`."""
        self._held_until_s = max(self._held_until_s, until_s)

    def held_s(self, now_s: float) -> float:
        return max(0.0, self._held_until_s - now_s)


class Host:
    """Hold what one host may be asked for at once, and how soon again."""

    def __init__(self, connections: int, per_s: float) -> None:
        self.slots = asyncio.Semaphore(connections)
        self.pace = Pace(per_s)
        self.users = 0


class Hosts:
    """Remember each host that is in use, and the `most_idle` last ones that were."""

    def __init__(self, make: Callable[[], Host], most_idle: int = MOST_IDLE_HOSTS) -> None:
        self._make = make
        self._most_idle = most_idle
        self._busy: dict[str, Host] = {}
        self._idle: dict[str, Host] = {}

    def __len__(self) -> int:
        return len(self._busy) + len(self._idle)

    @contextmanager
    def using(self, name: str) -> Iterator[Host]:
        host = self._busy.get(name) or self._idle.pop(name, None) or self._make()
        self._busy[name] = host
        host.users += 1
        try:
            yield host
        finally:
            host.users -= 1
            if not host.users:
                self._idle[name] = self._busy.pop(name)
                if len(self._idle) > self._most_idle:
                    del self._idle[next(iter(self._idle))]
