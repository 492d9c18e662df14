"""What a running import or feed tells Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from serve_app.catalogue.feed import Batch
from serve_app.catalogue.report import Outcome


class ImportMetrics:
    """Count outcomes and seconds of work, at http://HOST:PORT/metrics while the process runs."""

    def __init__(self, host: str, port: int) -> None:
        registry = CollectorRegistry()
        self._images = Counter(
            "shoplens_import_images", "Images of the manifest by what became of them", ["status"], registry=registry
        )
        self._problems = Counter(
            "shoplens_import_problems", "Images that were left out, by code", ["code"], registry=registry
        )
        self._rows = Counter("shoplens_import_rows_written", "Rows written to the index", registry=registry)
        self._seconds = Counter(
            "shoplens_import_work_seconds", "Seconds that went into each part of the work", ["part"], registry=registry
        )
        start_http_server(port, host, registry)

    def add(self, outcomes: Sequence[Outcome], seconds: Mapping[str, float]) -> None:
        for outcome in outcomes:
            self._images.labels(outcome.status.value).inc()
            self._rows.inc(outcome.written_rows)
            if outcome.code:
                self._problems.labels(outcome.code).inc()
        for part, value in seconds.items():
            self._seconds.labels(part).inc(value)


class FeedMetrics:
    """Count events, and say how far behind the feed is, at http://HOST:PORT/metrics while the process runs."""

    def __init__(self, host: str, port: int) -> None:
        registry = CollectorRegistry()
        self._events = Counter("shoplens_feed_events", "Events by what became of them", ["status"], registry=registry)
        self._problems = Counter(
            "shoplens_feed_problems", "Events that could not be applied, by code", ["code"], registry=registry
        )
        self._rows = Counter("shoplens_feed_rows_written", "Rows written to the index", registry=registry)
        self._lag = Gauge(
            "shoplens_feed_lag_seconds",
            "Age of the oldest event of the last batch, once it was acknowledged",
            registry=registry,
        )
        start_http_server(port, host, registry)

    def add(self, batch: Batch) -> None:
        for outcome in batch.outcomes:
            self._events.labels(outcome.status.value).inc()
            self._rows.inc(outcome.written_rows)
            if outcome.code:
                self._problems.labels(outcome.code).inc()
        if batch.lag_s is not None:
            self._lag.set(batch.lag_s)
