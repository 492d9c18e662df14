"""When a call is worth another attempt: circuits, back-off, one budget, the moment to hedge.

Nothing here waits or calls; time comes in as seconds of a monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

FIRST_BACK_OFF_S = 0.02
LONGEST_BACK_OFF_S = 0.5


def back_off_s(attempt: int, draw: Callable[[], float]) -> float:
    """Return the seconds to wait after the `attempt`-th failure, from 1 on; `draw` gives 0…1.

    Full jitter: callers that failed together do not come back together,
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """
    longest_s: float = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** min(attempt - 1, 30))
    return draw() * longest_s


class RetryBudget:
    """Keep attempts beyond the first below a share of the requests, so that failure does not become overload.

    Each request earns `share` of an attempt; up to `reserve` are kept for a failover, and are there at the start.
    """

    def __init__(self, share: float, reserve: float) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Take one attempt; False where none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Circuit:
    """Keep calls from an endpoint that fails, and let one through now and then to see whether it is back.

    It opens after `threshold` failures without a success between them. Then one call at a time may try, each
    `FIRST_OPEN_S` to `LONGEST_OPEN_S` after the last failed one; the first success closes it.
    """

    FIRST_OPEN_S = 0.1
    LONGEST_OPEN_S = 1.0
    IN_PROBE_S = 0.02
    """How soon to ask again while another call tries."""

    def __init__(self, threshold: int = 3) -> None:
        self._threshold = threshold
        self._failures = 0
        self._opens_until_s = 0.0
        self._probe_until_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._threshold

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until a call may be made; 0 where one may now."""
        if not self.is_open:
            return 0.0
        if now_s < self._opens_until_s:
            return self._opens_until_s - now_s
        return self.IN_PROBE_S if now_s < self._probe_until_s else 0.0

    def begin(self, now_s: float, timeout_s: float) -> None:
        """Note that a call is made that ends within `timeout_s`."""
        if self.is_open:
            self._probe_until_s = now_s + timeout_s

    def succeed(self) -> None:
        self._failures = 0
        self._probe_until_s = 0.0

    def abandon(self) -> None:
        """Note that a call was given up before it could tell."""
        self._probe_until_s = 0.0

    def fail(self, now_s: float) -> None:
        self._failures += 1
        self._probe_until_s = 0.0
        if self.is_open:
            longer = 2 ** min(self._failures - self._threshold, 10)
            self._opens_until_s = now_s + min(self.LONGEST_OPEN_S, self.FIRST_OPEN_S * longer)


class Latencies:
    """Know when a call is slower than most: the 95th percentile of the last ones."""

    WINDOW = 256
    ENOUGH = 32
    EVERY = 32
    """How many calls the percentile is kept for: sorting at each would cost as much as it saves."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=self.WINDOW)
        self._since = 0
        self._p95_s: float | None = None

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)
        self._since += 1
        if self._since >= self.EVERY and len(self._seconds) >= self.ENOUGH:
            self._since = 0
            ordered = sorted(self._seconds)
            self._p95_s = ordered[int(0.95 * (len(ordered) - 1))]

    def p95_s(self) -> float | None:
        """Return the seconds within which 95 % of the last calls ended; None before there were enough."""
        return self._p95_s
