"""Which searches the service takes on, so that those it took stay fast.

Nothing here waits or calls; time comes in as seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

from serve_app.errors import Overloaded

SLOT_S = 0.25
WINDOW_SLOTS = 8
"""Slots that a rate is measured over: 2 s."""
ARRIVALS = ((4, 1.5), (12, 1.3), (40, 1.1))
"""More comes in than can be answered where arrivals of so many slots are so many times what can be: 1 s tells of a
flood, 10 s of a little too much. Shorter or closer, chance would."""
CHANCE = 3.0
"""Where few are expected, chance brings many times as many: arrivals also have to exceed their expected number by so
many of its standard deviations, which are its root."""
LEARN = 0.25
"""Part of the difference that the known capacity follows by in a slot: answers come in bursts, batch by batch."""
BUSY_PART = 0.5
"""There was enough to do where, all the while, what was in work took this part of the goal."""
STALL = 0.5
"""A service that answers less than this part of what it could is taken for one that waits for something to come
back, such as a stage that fails over."""
STALL_DECAY = 0.5 ** (SLOT_S / 10)
"""Its known capacity halves in 10 s: a stall ends sooner, and searches wait for that; a loss of replicas stays."""
BULK_SHARE = 0.5
"""Part of the searches in work that may be bulk calls."""
LEAST_CAPACITY = 0.1
"""Searches per second that are taken for possible after the longest stall."""
SHORTEST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0


class Admission:
    """Refuse what would wait longer than `goal_s` because more comes in than the service can answer.

    At most `most` searches are in work. Below that, a queue alone is no reason to refuse: after a stall, or in a
    burst, it drains by itself, as long as it is answered within `last_s`. Only while more comes in than was ever
    answered lately does it stand, and then its length is kept to what is answered within `goal_s` (Little's law). The
    capacity is learnt from answers, once there was enough to do; before, `most` alone bounds what waits.
    """

    def __init__(self, *, most: int, goal_s: float, last_s: float, now_s: float) -> None:
        self.goal_s = goal_s
        self.last_s = last_s
        self._most = most
        self.in_work = 0
        self._bulk_in_work = 0
        self._slot = int(now_s / SLOT_S)
        self._arrived = 0
        self._taken = 0
        self._answered = 0
        self._least_in_work = 0
        longest = max(slots for slots, _ in ARRIVALS)
        self._arrivals: deque[int] = deque([0] * longest, maxlen=longest)
        self._floods = False
        self._takings: deque[int] = deque([0] * WINDOW_SLOTS, maxlen=WINDOW_SLOTS)
        self._answers: deque[tuple[int, int]] = deque([(0, 0)] * WINDOW_SLOTS, maxlen=WINDOW_SLOTS)
        self._capacity = 0.0
        """The highest rate of answers lately: less than the capacity until there was enough to do."""
        self._known = False

    @property
    def capacity(self) -> float:
        """Return the searches per second that were answered while there was enough to do; 0 while that is unknown."""
        return self._capacity if self._known else 0.0

    @property
    def demand(self) -> float:
        """Return how many searches came in for each that was taken on, over the last seconds."""
        arrived = sum(islice(reversed(self._arrivals), WINDOW_SLOTS))
        return max(1.0, arrived / max(1, sum(self._takings)))

    def admit(self, now_s: float, *, bulk: bool = False) -> None:
        """Take a search on; raises Overloaded, with the seconds after which another try makes sense."""
        self._tick(now_s)
        self._arrived += 1
        full = self.in_work >= self._most or (bulk and self._bulk_in_work >= BULK_SHARE * self._most)
        if full or self._is_overloaded(bulk):
            raise Overloaded("more searches come in than can be answered; try again later").after(self._retry_s())
        self.in_work += 1
        self._taken += 1
        self._bulk_in_work += bulk

    def leave(self, now_s: float, *, answered: bool, bulk: bool = False) -> None:
        """Note that a search that was taken on has ended."""
        self._tick(now_s)
        self.in_work -= 1
        self._bulk_in_work -= bulk
        self._answered += answered
        self._least_in_work = min(self._least_in_work, self.in_work)

    def _is_overloaded(self, bulk: bool) -> bool:
        if not self._known:
            return False
        longest_s = self.goal_s if self._floods else max(self.goal_s, self.last_s)
        return self.in_work / self._capacity > (BULK_SHARE * longest_s if bulk else longest_s)

    def _retry_s(self) -> float:
        """Return how long what is in work takes."""
        if not self._known:
            return SHORTEST_RETRY_S
        return min(max(SHORTEST_RETRY_S, self.in_work / self._capacity), LONGEST_RETRY_S)

    def _tick(self, now_s: float) -> None:
        """Close the slots that have ended."""
        slot = int(now_s / SLOT_S)
        for _ in range(min(slot - self._slot, 2 * WINDOW_SLOTS)):
            self._arrivals.append(self._arrived)
            self._takings.append(self._taken)
            self._answers.append((self._answered, self._least_in_work))
            self._arrived = self._taken = self._answered = 0
            self._least_in_work = self.in_work
            self._learn()
        if slot > self._slot:
            self._floods = self._known and any(self._exceed(slots, more) for slots, more in ARRIVALS)
        self._slot = slot

    def _exceed(self, slots: int, more: float) -> bool:
        """Tell whether the arrivals of the last slots are too many to be answered, and too many for chance."""
        expected = slots * SLOT_S * self._capacity
        return sum(islice(reversed(self._arrivals), slots)) > max(
            more * expected, expected + CHANCE * math.sqrt(expected)
        )

    def _learn(self) -> None:
        answered = [answered for answered, _ in self._answers]
        rate = sum(answered) / (WINDOW_SLOTS * SLOT_S)
        busy = min(least for _, least in self._answers) > BUSY_PART * self.goal_s * rate
        # A stall that has just ended still weighs on the rate.
        resumes = 2 * sum(answered[: WINDOW_SLOTS // 2]) < sum(answered[WINDOW_SLOTS // 2 :])
        if rate >= self._capacity:
            self._capacity += (LEARN if self._known else 1.0) * (rate - self._capacity)
        elif not busy or resumes:
            return  # There was not enough to do to tell, or not all the while.
        elif rate < STALL * self._capacity:
            self._capacity = max(STALL_DECAY * self._capacity, LEAST_CAPACITY)
        else:
            self._capacity += LEARN * (rate - self._capacity)
        self._known |= busy and not resumes and 0 < rate >= STALL * self._capacity
