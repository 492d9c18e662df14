"""How many replicas a stage needs, from the work that waits and the time that work takes.

Ray Serve's controller imports this module, so it uses the standard library only.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

BUSY = "busy"
"""What a replica reports: seconds of work per second."""
BACKLOG_S = "backlog_s"
"""What a replica reports: seconds that the work which waits in it takes."""
REQUEST_S = "request_s"
"""What a replica reports: seconds of work that a request is, on average."""
DEMAND = "demand"
"""What a replica reports: searches that came in for each that the ingress took on."""

GROWTH_S = 3.0
"""What the growth of the backlog is measured over."""
SAMPLE_S = 0.5
FIRST_REQUEST_S = 0.1
"""What a request is taken to be before any replica has reported."""


_History = list[list[float]]
"""Moments and values, oldest first."""


class Meter:
    """Measure a replica's work; time comes in as seconds of a monotonic clock."""

    SMOOTHING = 0.1

    def __init__(self, now_s: float) -> None:
        self._busy_s = 0.0
        self._busy_since_s: float | None = None
        self._began_s = now_s
        self._read_s = now_s
        self._item_s = 0.0
        self._request_items = 1.0
        self._demands: list[float] = []

    def asked(self, items: int, demand: float = 1.0) -> None:
        """Note a request of so many items, and how many like it came in for each that was taken on."""
        self._request_items += self.SMOOTHING * (items - self._request_items)
        self._demands.append(demand)

    def began(self, now_s: float) -> None:
        """Note that the model has begun with a batch."""
        self._began_s = self._busy_since_s = now_s

    def ended(self, items: int, now_s: float) -> None:
        """Note that the model is through with a batch of so many items."""
        assert self._busy_since_s is not None
        self._busy_s += now_s - max(self._busy_since_s, self._read_s)
        self._busy_since_s = None
        each_s = (now_s - self._began_s) / items
        self._item_s += (self.SMOOTHING if self._item_s else 1.0) * (each_s - self._item_s)

    def report(self, now_s: float, backlog: int) -> dict[str, float]:
        """Return what happened since the last report; `backlog` items wait or run."""
        busy_s, self._busy_s = self._busy_s, 0.0
        if self._busy_since_s is not None:
            busy_s += now_s - max(self._busy_since_s, self._read_s)
        passed_s = max(now_s - self._read_s, 1e-3)
        self._read_s = now_s
        demands, self._demands = self._demands, []
        return {
            BUSY: min(1.0, busy_s / passed_s),
            BACKLOG_S: backlog * self._item_s,
            REQUEST_S: self._request_items * self._item_s,
            DEMAND: statistics.fmean(demands) if demands else 1.0,
        }


class LoopMeter:
    """Measure a replica that has no model: its event loop is busy while the process computes.

    What it computes for itself, such as its watch of the index, is no work: a replica that nobody called is idle.
    """

    def __init__(self, now_s: float, cpu_s: float) -> None:
        self._read_s = now_s
        self._cpu_s = cpu_s
        self._under_way = 0
        self._called = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Note that somebody waits for an answer while the block runs."""
        self._under_way += 1
        self._called = True
        try:
            yield
        finally:
            self._under_way -= 1

    def report(self, now_s: float, cpu_s: float) -> dict[str, float]:
        """Return what happened since the last report; `cpu_s` is what the process has computed since its start."""
        busy = (cpu_s - self._cpu_s) / max(now_s - self._read_s, 1e-3) if self._called else 0.0
        self._read_s, self._cpu_s = now_s, cpu_s
        self._called = self._under_way > 0
        return {BUSY: min(1.0, busy), BACKLOG_S: 0.0, REQUEST_S: 0.0}


@dataclass(frozen=True, slots=True)
class Signals:
    """Hold what is known of a stage at one moment."""

    now_s: float
    target: int
    """Replicas that it is to have."""
    running: int
    queued_requests: float
    """Requests that wait at callers, outside all replicas."""
    reports: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, slots=True)
class Aims:
    """Say how a stage is to be scaled."""

    target_utilisation: float = 0.7
    """Part of a replica's time that is spent on work when there are as many as needed."""
    drain_s: float = 5.0
    """A backlog gets as many more replicas as work it off in this time."""
    upscale_delay_s: float = 1.5
    """More replicas have to be needed for so long."""
    downscale_delay_s: float = 60.0
    """A replica has to be spare for so long."""
    downscale_to_zero_delay_s: float = 300.0
    """There has to be nothing to do for so long."""


class StagePolicy:
    """Decide for Ray Serve, in its words; Serve itself applies the bounds."""

    def __init__(self, **aims: float) -> None:
        self._aims = Aims(**aims)

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        memory = ctx.policy_state
        by_name = ctx.aggregated_metrics or {}
        replicas = {replica for reports in by_name.values() for replica in reports}
        reports = [
            {name: values[replica] for name, values in by_name.items() if replica in values} for replica in replicas
        ]
        signals = Signals(
            now_s=ctx.current_time,
            target=ctx.target_num_replicas,
            running=ctx.current_num_replicas,
            queued_requests=ctx.total_queued_requests or 0.0,
            reports=[report for report in reports if BUSY in report],
        )
        return decide(signals, memory, self._aims), memory


def needed(signals: Signals, growth: float, request_s: float, aims: Aims) -> int:
    """Return the replicas that the load of this moment needs.

    The load is the work that is done, plus the work by which the backlog grows: what comes in, times what comes in
    for each search that is taken on. What waits comes on top. `growth` is in seconds of work per second.
    """
    busy = sum(report.get(BUSY, 0.0) for report in signals.reports)
    backlog_s = sum(report.get(BACKLOG_S, 0.0) for report in signals.reports) + signals.queued_requests * request_s
    if not busy and not backlog_s and not signals.queued_requests:
        return 0
    demand = statistics.fmean(report.get(DEMAND, 1.0) for report in signals.reports) if signals.reports else 1.0
    exact = demand * (busy + max(0.0, growth)) / aims.target_utilisation + backlog_s / aims.drain_s
    return max(1, math.ceil(exact - 1e-6))


def decide(signals: Signals, memory: dict[str, Any], aims: Aims) -> int:
    """Return the replicas that the stage is to have, and note in `memory` what the next decision needs.

    Quick up: as many as were needed at all times of the last seconds. Slow down: as many as were needed at any time
    of the last minute. What lies between is kept, so that a load at the edge of a step does not swing it.
    """
    if signals.running and not signals.reports:
        return signals.target
    reported = [report[REQUEST_S] for report in signals.reports if report.get(REQUEST_S)]
    request_s = statistics.fmean(reported) if reported else memory.get(REQUEST_S, FIRST_REQUEST_S)
    memory[REQUEST_S] = request_s
    backlog_s = sum(report.get(BACKLOG_S, 0.0) for report in signals.reports) + signals.queued_requests * request_s
    growth = _growth(memory, signals.now_s, backlog_s)
    wanted = needed(signals, growth, request_s, aims)
    history = memory.setdefault("wanted", [])
    _note(history, signals.now_s, wanted, max(aims.downscale_delay_s, aims.downscale_to_zero_delay_s))
    if not signals.target:
        return wanted
    up = _extreme(min, history, signals.now_s - aims.upscale_delay_s)
    if up is not None and up > signals.target:
        return up
    down = _extreme(max, history, signals.now_s - aims.downscale_delay_s)
    if down is None or down >= signals.target:
        return signals.target
    idle = _extreme(max, history, signals.now_s - aims.downscale_to_zero_delay_s) == 0
    return 0 if idle else max(1, down)


def _growth(memory: dict[str, Any], now_s: float, backlog_s: float) -> float:
    """Return by how much the backlog grows, in seconds of work per second."""
    seen = memory.setdefault("backlog", [])
    _note(seen, now_s, backlog_s, GROWTH_S)
    (first_s, first), (last_s, last) = seen[0], seen[-1]
    return (last - first) / (last_s - first_s) if last_s - first_s >= SAMPLE_S else 0.0


def _note(history: _History, now_s: float, value: float, keep_s: float) -> None:
    """Append a value, no more often than every SAMPLE_S, and drop what is older than needed.

    One value from before `keep_s` stays, so that a history tells whether it reaches back that far.
    """
    if not history or now_s - history[-1][0] >= SAMPLE_S:
        history.append([now_s, value])
    while len(history) > 1 and history[1][0] <= now_s - keep_s:
        history.pop(0)


def _extreme(choose: Callable[[Iterable[float]], float], history: _History, since_s: float) -> int | None:
    """Return the least or the largest value since then; None where the history does not reach back that far."""
    before = bisect_right(history, since_s, key=lambda entry: entry[0])
    return int(choose(value for _, value in history[before - 1 :])) if before else None
