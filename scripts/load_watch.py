"""What a service says of itself while it is under load, second by second."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from scripts.measuring import descendants, key_headers, memory_mib

EVERY_S = 1.0
HEALTH_S = 12.0
"""Ray Serve tells of a replica's health at each check alone, every 10 s by default."""

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
    healthy: set[tuple[str, str]] = field(default_factory=set)
    """Stages and replicas that were just found healthy."""
    ready: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    batches: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    items: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    in_flight: float = 0.0
    capacity: float = 0.0
    memory_mib: float = 0.0
    """Of all the service's processes; 0 where they can't be seen from here."""


def read(text: str, at_s: float) -> Sample:
    """Return what Prometheus' text format says."""
    sample = Sample(at_s)
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            if name == WANTED:
                sample.wanted[labels["deployment"]] = value
            elif name == HEALTHY and value:
                sample.healthy.add((labels["deployment"], labels["replica"]))
            elif name == IN_FLIGHT:
                sample.in_flight += value
            elif name == CAPACITY:
                sample.capacity += value
            elif name == f"{BATCH}_count":
                sample.batches[labels["stage"]] += value
            elif name == f"{BATCH}_sum":
                sample.items[labels["stage"]] += value
    return sample


def count_ready(samples: Sequence[Sample]) -> None:
    """Count each stage's replicas that were found healthy lately."""
    seen_s: dict[tuple[str, str], float] = {}
    for sample in samples:
        seen_s |= dict.fromkeys(sample.healthy, sample.at_s)
        for (stage, _), at_s in seen_s.items():
            sample.ready[stage] += at_s > sample.at_s - HEALTH_S


class Watch:
    """Look at a service every second until the block ends: at its metrics and, with `pid`, at its processes' memory.

    A service that shows no metrics gives samples without them.
    """

    def __init__(self, url: str, pid: int | None = None) -> None:
        self._url = url
        self._pid = pid
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def samples(self, start_s: float) -> list[Sample]:
        """Return what was seen from `start_s` of the monotonic clock on, which is their zero."""
        count_ready(self._samples)
        return [replace(each, at_s=each.at_s - start_s) for each in self._samples if each.at_s >= start_s]

    def _look(self) -> None:
        with httpx.Client(base_url=self._url, headers=key_headers(), timeout=5) as client:
            while not self._stop.wait(EVERY_S):
                sample = Sample(time.monotonic())
                with suppress(httpx.HTTPError):
                    answer = client.get("/metrics")
                    if answer.is_success:
                        sample = read(answer.text, time.monotonic())
                if self._pid is not None:
                    sample.memory_mib = sum(_memory_mib(pid) for pid in descendants(self._pid))
                self._samples.append(sample)


def _memory_mib(pid: int) -> float:
    try:
        return memory_mib(pid)
    except (OSError, ValueError):
        return 0.0  # It has ended.
