"""The sides of a comparison taking turns: the bare pipeline, Shoplens, and its peers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from scripts.bare_side import OBJECTS, Bare
from scripts.closed_loop import Outcome, over_http
from scripts.load_outcome import late_share
from scripts.load_schedule import Schedule
from scripts.load_sending import Load, send
from scripts.peer_list import Work
from scripts.peer_outcome import Round
from scripts.peer_services import Service

SEED = 1
"""Draws when searches of an open loop are due, the same moments for all sides."""
WARM_UP = 2
"""Searches before each round that are not measured: a side that was stopped has left the processor's caches."""


@dataclass(frozen=True)
class Photos:
    """Hold the photos that are sent, in their order."""

    paths: Sequence[Path]
    data: Sequence[bytes]


class Side(Protocol):
    @property
    def service(self) -> Service: ...

    def closed(self, searches: int, in_flight: int) -> Outcome:
        """Keep so many searches in flight."""
        ...

    def when_due(self, schedule: Schedule) -> tuple[Outcome, float]:
        """Send searches when they are due; returns also the part of them that was sent late."""
        ...


@dataclass(frozen=True)
class BareSide:
    bare: Bare
    service: Service
    work: Work

    @property
    def _objects(self) -> int:
        return OBJECTS if self.work == "objects" else 0

    def closed(self, searches: int, in_flight: int) -> Outcome:
        return self.bare.round(searches, in_flight, self._objects)

    def when_due(self, schedule: Schedule) -> tuple[Outcome, float]:
        return self.bare.when_due(list(schedule.arrivals(SEED)), self._objects), 0.0


@dataclass(frozen=True)
class HttpSide:
    service: Service
    photos: Photos

    def closed(self, searches: int, in_flight: int) -> Outcome:
        own = self.service
        return asyncio.run(over_http(own.url, self.photos.data, searches, in_flight, own.path))

    def when_due(self, schedule: Schedule) -> tuple[Outcome, float]:
        own = self.service
        answers, _ = send(Load(own.url, self.photos.paths, schedule, SEED, own.path))
        outcome: Outcome = {
            "seconds": schedule.seconds,
            "latencies_ms": [1e3 * each.latency_s for each in answers if each.status == 200],
            "failed": [each.code for each in answers if each.status != 200],
        }
        return outcome, late_share(answers)


def take_turns(
    sides: Mapping[str, Side], rounds: int, searches: Mapping[int, int], tell: Callable[[str], None]
) -> dict[int, dict[str, list[Round]]]:
    """Return rounds by connections and side; `searches` are those of a round, by connections.

    Before, each side has one round of the most connections that counts for nothing: the first batch of each size is
    slow.
    """
    most = max(searches)
    for name, side in sides.items():
        tell(f"warming up {name} …")
        _turn(side, partial(_closed, searches[most], most))
    measured: dict[int, dict[str, list[Round]]] = {n: {name: [] for name in sides} for n in searches}
    for number in range(rounds):
        for in_flight, wanted in searches.items():
            for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
                tell(f"round {number + 1} of {rounds}, {in_flight} connections, {name} …")
                own, _ = _turn(sides[name], partial(_closed, wanted, in_flight))
                measured[in_flight][name].append(own)
    return measured


def in_the_open(
    sides: Mapping[str, Side], rate: float, seconds: float, tell: Callable[[str], None]
) -> dict[str, tuple[Round, float]]:
    """Return a round per side in which `rate` searches a second are due, and the part that was sent late."""
    schedule, measured = Schedule("steady", rate, rate, seconds), {}
    for name, side in sides.items():
        tell(f"{rate:.2f} searches a second, {name} …")
        measured[name] = _turn(side, lambda side: side.when_due(schedule))
    return measured


def fastest(side: Side, searches: int, in_flight: int) -> float:
    """Return the seconds of the faster of two rounds; infinity where a search failed."""
    seconds = []
    for _ in range(2):
        outcome = side.closed(searches, in_flight)
        seconds.append(float("inf") if outcome["failed"] else float(outcome["seconds"]))
    return min(seconds)


def _closed(searches: int, in_flight: int, side: Side) -> tuple[Outcome, float]:
    return side.closed(searches, in_flight), 0.0


def _turn(side: Side, measure: Callable[[Side], tuple[Outcome, float]]) -> tuple[Round, float]:
    service = side.service
    service.resume()
    try:
        side.closed(WARM_UP, 1)
        before_s = service.cpu_s()
        outcome, late = measure(side)
        cpu_s = service.cpu_s() - before_s
        memory_mib = service.memory_mib()
    finally:
        service.pause()
    return Round(outcome["seconds"], outcome["latencies_ms"], len(outcome["failed"]), cpu_s, memory_mib), late
