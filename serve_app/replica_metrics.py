"""What replicas count, exported by Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from serve_app import telemetry
from serve_app.shadow import Outcome


class BatchMetrics:
    """Measure batches where the model runs them."""

    def __init__(self, stage: str) -> None:
        self._items = Histogram(telemetry.BATCH_ITEMS, boundaries=list(telemetry.BATCH_BOUNDARIES), tag_keys=("stage",))
        self._wait = Histogram(
            telemetry.BATCH_WAIT_MS, boundaries=list(telemetry.STAGE_MS_BOUNDARIES), tag_keys=("stage",)
        )
        self._dropped = Counter(telemetry.DROPPED_ITEMS, tag_keys=("stage", "reason"))
        self._tags = {"stage": stage}

    def sealed(self, items: int, waits_ms: Sequence[float]) -> None:
        self._items.observe(items, tags=self._tags)
        for wait_ms in waits_ms:
            self._wait.observe(wait_ms, tags=self._tags)

    def dropped(self, reason: str, items: int) -> None:
        self._dropped.inc(items, tags=self._tags | {"reason": reason})


class SearchMetrics:
    """Count what became of searches, and show what is in work."""

    def __init__(self) -> None:
        self._requests = Counter(telemetry.REQUESTS, tag_keys=("code",))
        self._degraded = Counter(telemetry.DEGRADED, tag_keys=("code",))
        self._remembered = Counter(telemetry.REMEMBERED, tag_keys=("outcome",))
        self._shadow = Counter(telemetry.SHADOW_SEARCHES, tag_keys=("code",))
        self._shadow_empty = Counter(telemetry.SHADOW_EMPTY, tag_keys=("model",))
        self._shadow_ms = Histogram(
            telemetry.SHADOW_MS, boundaries=list(telemetry.STAGE_MS_BOUNDARIES), tag_keys=("model",)
        )
        self._shadow_shared = Histogram(telemetry.SHADOW_SHARED, boundaries=list(telemetry.SHARED_BOUNDARIES))
        self._in_flight = Gauge(telemetry.IN_FLIGHT)
        self._capacity = Gauge(telemetry.CAPACITY)
        self._stage_ms = Histogram(
            telemetry.STAGE_MS, boundaries=list(telemetry.STAGE_MS_BOUNDARIES), tag_keys=("stage",)
        )

    def ended(self, code: str, timings_ms: Mapping[str, float], degraded: Sequence[str]) -> None:
        self._requests.inc(1, tags={"code": code})
        for flag in degraded:
            self._degraded.inc(1, tags={"code": flag})
        for stage, milliseconds in timings_ms.items():
            self._stage_ms.observe(milliseconds, tags={"stage": stage})

    def looked_up(self, known: bool) -> None:
        self._remembered.inc(1, tags={"outcome": "hit" if known else "miss"})

    def repeated(self, outcome: Outcome) -> None:
        self._shadow.inc(1, tags={"code": outcome.code})
        if outcome.found is None:
            return
        for model, side in (("served", outcome.served), ("tried", outcome.found)):
            self._shadow_ms.observe(side.took_ms, tags={"model": model})
            if side.empty:
                self._shadow_empty.inc(1, tags={"model": model})
        self._shadow_shared.observe(outcome.shared)

    def not_repeated(self) -> None:
        self._shadow.inc(1, tags={"code": "dropped"})

    def stands(self, in_work: int, capacity: float) -> None:
        self._in_flight.set(in_work)
        self._capacity.set(capacity)
