"""Take pods of an installed release away while shoppers search, and count what they see.

It works on the cluster that KUBECONFIG names and sends to the release's Service, so it runs where that can be reached.
A node's drain is the eviction of all its pods; here one worker is evicted, which is what a drain does to a release
whose workers are spread over nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from rich.console import Console

from scripts import shoppers
from scripts.load_schedule import Schedule
from scripts.measuring import Report, wait_until
from scripts.processes import CantStart
from scripts.stand_in_service import is_ready

SUMMARY = "a release of the chart, on the Kubernetes that KUBECONFIG names"
HAS_NAMESPACE = False
SECONDS, QUICK_SECONDS = 120.0, 60.0
HARM_S = 10.0
RECOVERY_S = 300.0
TIMEOUT_S = 10.0
"""Of one call of the API server."""
GROUP, VERSION = "ray.io", "v1"


@dataclass(frozen=True, slots=True)
class Drill:
    """Name a harm, and whether what is in flight may break once."""

    name: str
    strike: Callable[[], None]
    may_break: bool


class Release:
    """Look at a release of the chart, and take pods of it away."""

    def __init__(self, namespace: str, name: str) -> None:
        """Connect to the cluster that KUBECONFIG names; raises CantStart."""
        try:
            config.load_config()  # type: ignore[no-untyped-call]
        except ConfigException as error:
            raise CantStart(f"no Kubernetes is known: {error}; set KUBECONFIG") from error
        self._pods = client.CoreV1Api()
        self._slices = client.DiscoveryV1Api()
        self._services = client.CustomObjectsApi()
        self._namespace = namespace
        self._name = name

    def is_whole(self, workers: int) -> bool:
        """Tell whether the release is ready, with one cluster, and so many of its pods take searches."""
        found = self._service()
        conditions = {each["type"]: each["status"] for each in found.get("status", {}).get("conditions", [])}
        upgrading = conditions.get("UpgradeInProgress") == "True"
        return conditions.get("Ready") == "True" and not upgrading and self.endpoints() >= workers

    def endpoints(self) -> int:
        """Return how many pods the Service sends searches to."""
        selector = f"kubernetes.io/service-name={self._name}-serve-svc"
        slices = _items(
            self._slices.list_namespaced_endpoint_slice(
                self._namespace, label_selector=selector, _request_timeout=TIMEOUT_S
            )
        )
        return sum(bool(each["conditions"].get("ready")) for one in slices for each in one.get("endpoints") or [])

    def worker(self) -> str:
        """Return a pod that takes searches, of the group that has no GPU."""
        return self._pod("ray.io/node-type=worker,ray.io/group=cpu")

    def head(self) -> str:
        return self._pod("ray.io/node-type=head")

    def evict(self, pod: str) -> None:
        """Ask for a pod's eviction, as a drain of its node does, until the disruption budget allows it."""
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=self._namespace))

        def is_evicted() -> bool:
            try:
                self._pods.create_namespaced_pod_eviction(pod, self._namespace, body, _request_timeout=TIMEOUT_S)
            except ApiException as error:
                if error.status == 429:
                    time.sleep(1)
                    return False
                raise
            return True

        wait_until(is_evicted, timeout_s=RECOVERY_S, what=f"the eviction of {pod}")

    def kill(self, pod: str) -> None:
        """End a pod at once, as the loss of its node does."""
        self._pods.delete_namespaced_pod(pod, self._namespace, grace_period_seconds=0, _request_timeout=TIMEOUT_S)

    def _service(self) -> dict[str, Any]:
        found: Any = self._services.get_namespaced_custom_object(
            GROUP, VERSION, self._namespace, "rayservices", self._name, _request_timeout=TIMEOUT_S
        )
        return dict(found)

    def _pod(self, labels: str) -> str:
        cluster = self._service()["status"]["activeServiceStatus"]["rayClusterName"]
        found = _items(
            self._pods.list_namespaced_pod(
                self._namespace, label_selector=f"ray.io/cluster={cluster},{labels}", _request_timeout=TIMEOUT_S
            )
        )
        running = sorted(each["metadata"]["name"] for each in found if each["status"]["phase"] == "Running")
        if not running:
            raise CantStart(f"{self._name} has no running pod with {labels}")
        return str(running[0])


def _items(found: Any) -> list[dict[str, Any]]:
    """Return a list of the API server's as plain values."""
    plain: dict[str, Any] = client.ApiClient().sanitize_for_serialization(found)  # type: ignore[no-untyped-call]
    return list(plain.get("items") or [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="drills whose names contain one of these")
    parser.add_argument("--namespace", default="shoplens", help="of the release (default: %(default)s)")
    parser.add_argument("--release", default="shoplens", help="its name (default: %(default)s)")
    parser.add_argument(
        "--url", help="what reaches its Service, with SHOPLENS_KEY; default: the Service's name in the cluster"
    )
    parser.add_argument("--photo", type=Path, required=True, help="a JPEG to search with")
    parser.add_argument("--rate", type=float, required=True, help="searches a second: half of what it answers, or more")


def prepare(arguments: argparse.Namespace, console: Console) -> None:
    """Need nothing that is not in the cluster."""


def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Do the drills; raises CantStart, ApiException and TimeoutError."""
    name, rate = arguments.release, arguments.rate
    release = Release(arguments.namespace, name)
    url = arguments.url or f"http://{name}-serve-svc.{arguments.namespace}.svc:8000"
    body = arguments.photo.read_bytes()
    if not is_ready(url):
        raise CantStart(f"{url} is not ready; name what reaches the release's Service with --url")
    workers = release.endpoints()
    if workers < 2:
        raise CantStart(f"{name} takes searches at {workers} pods; the drills need two or more")
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    report = Report(
        "drills kubernetes", {"seconds": seconds, "searches_per_s": rate, "pods that take searches": workers}
    )
    for drill in _drills(release, workers):
        if arguments.only and not any(words in drill.name for words in arguments.only):
            continue
        _search(release, workers, url, body, Schedule("steady", rate, rate, seconds), drill, report)
        print(f"done: {drill.name}", flush=True)
    return report


def _drills(release: Release, workers: int) -> list[Drill]:
    return [
        Drill(f"one worker of {workers} evicted", lambda: release.evict(release.worker()), may_break=False),
        Drill(f"one worker of {workers} killed", lambda: release.kill(release.worker()), may_break=True),
        Drill("the head killed", lambda: release.kill(release.head()), may_break=False),
    ]


def _search(
    release: Release, workers: int, url: str, body: bytes, schedule: Schedule, drill: Drill, report: Report
) -> None:
    async def mend() -> None:
        # What was taken away is still counted for a moment.
        await asyncio.sleep(2)
        await asyncio.to_thread(
            wait_until, lambda: release.is_whole(workers), timeout_s=RECOVERY_S, what=f"recovery from {drill.name}"
        )

    seen, moments = asyncio.run(shoppers.search([url], body, schedule, HARM_S, drill.strike, mend, fresh=True))
    shoppers.judge(report, drill.name, seen, moments, RECOVERY_S, may_break=drill.may_break)
