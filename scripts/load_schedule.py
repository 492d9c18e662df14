"""When the searches of a load test are due: drawn before it starts, whatever the service does then."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

SHAPES: dict[str, Callable[[float], float]] = {
    "steady": lambda _: 0.0,
    "soak": lambda _: 0.0,
    "step": lambda part: 1.0 if 0.25 <= part < 0.75 else 0.0,
    "ramp": lambda part: part / 0.7 if part < 0.7 else 0.0,
    "spike": lambda part: 1.0 if 0.4 <= part < 0.5 else 0.0,
    "diurnal": lambda part: (1 - math.cos(2 * math.pi * part)) / 2,
}
"""How far the rate is on its way from base to peak, 0…1, at a part of the test, 0…1."""


@dataclass(frozen=True, slots=True)
class Share:
    """Say which searches of a schedule one of `count` senders sends; together they send each of them once."""

    index: int = 0
    count: int = 1

    def of(self, arrivals: Iterable[float]) -> Iterator[tuple[int, float]]:
        """Yield number and seconds of the share's searches."""
        return itertools.islice(enumerate(arrivals), self.index, None, self.count)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Say how many searches a second are due at each moment of a test."""

    shape: str
    base_rate: float
    peak_rate: float
    seconds: float

    def rate(self, at_s: float) -> float:
        """Return the searches per second that are due then."""
        return self.base_rate + SHAPES[self.shape](at_s / self.seconds) * (self.peak_rate - self.base_rate)

    @property
    def highest_rate(self) -> float:
        return self.base_rate if self.shape in ("steady", "soak") else max(self.base_rate, self.peak_rate)

    def arrivals(self, seed: int) -> Iterator[float]:
        """Yield the seconds at which searches are due, as independent shoppers send them (a Poisson process).

        By thinning, Lewis and Shedler 1979, https://doi.org/10.1002/nav.3800260304.
        """
        draw, now_s = random.Random(seed), 0.0
        while (now_s := now_s + draw.expovariate(self.highest_rate)) < self.seconds:
            if draw.random() * self.highest_rate <= self.rate(now_s):
                yield now_s

    def peak(self) -> tuple[float, float] | None:
        """Return from when until when a step or a spike is at its peak."""
        spans = {"step": (0.25, 0.75), "spike": (0.4, 0.5)}
        if self.shape not in spans:
            return None
        start, stop = spans[self.shape]
        return start * self.seconds, stop * self.seconds
