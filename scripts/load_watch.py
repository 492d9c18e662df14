"""What a service says of itself while it is under load, second by second."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

EVERY_S = 1.0

WANTED = "ray_serve_autoscaling_target_replicas"
HEALTHY = "ray_serve_deployment_replica_healthy"
IN_FLIGHT = "ray_shoplens_in_flight"
CAPACITY = "ray_shoplens_capacity"
BATCH = "ray_shoplens_batch_items"


@dataclass
class Sample:
    """Hold one look at the metrics; dictionaries are by stage."""

    at_s: float
    wanted: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    ready: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    batches: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    items: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    in_flight: float = 0.0
    capacity: float = 0.0


def read(text: str, at_s: float) -> Sample:
    """Return what Prometheus' text format says."""
    sample = Sample(at_s)
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name == WANTED:
                sample.wanted[labels["deployment"]] = value
            elif name == HEALTHY:
                sample.ready[labels["deployment"]] += value
            elif name == IN_FLIGHT:
                sample.in_flight += value
            elif name == CAPACITY:
                sample.capacity += value
            elif name == f"{BATCH}_count":
                sample.batches[labels["stage"]] += value
            elif name == f"{BATCH}_sum":
                sample.items[labels["stage"]] += value
    return sample


class Watch:
    """Look at a service's metrics every second until the block ends; a service that shows none gives no samples."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.start_s = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        with httpx.Client(base_url=self._url, timeout=5) as client:
            while not self._stop.wait(EVERY_S):
                try:
                    answer = client.get("/metrics")
                except httpx.HTTPError:
                    continue
                if answer.is_success:
                    self.samples.append(read(answer.text, time.monotonic() - self.start_s))
