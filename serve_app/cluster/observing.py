"""Gathering what there is to know of a release."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from serve_app.cluster import inventory, reading
from serve_app.cluster.facts import Gpus, Health, Import, Pod, RayCluster, RayService, SecretRef, Snapshot
from serve_app.cluster.room import Resources
from serve_app.errors import KubernetesUnavailable, NotInstalled, RightMissing

NAME_LENGTH = 47
"""KubeRay makes longer names of a RayService's, which may have 63."""
DASHBOARD_PORT, SERVE_PORT, METRICS_PORT = 8265, 8000, 8080
MOST_METRICS = 20
"""Pods that are asked for their queue."""
IN_WORK = re.compile(r"^ray_shoplens_in_flight(?:\{[^}]*\})? (\S+)", re.MULTILINE)

NO_ENDPOINTS = "no endpoints available"
"""The API server's words for a Service that no ready pod stands behind."""

T = TypeVar("T")
AWAY = (RightMissing, NotInstalled, KubernetesUnavailable)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class Api(Protocol):
    """Read from an API server; all three raise NotInstalled, RightMissing or KubernetesUnavailable."""

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the JSON object at `path`."""
        ...

    def through(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return what is answered behind the API server's proxy."""
        ...

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[str]:
        """Yield a log's lines."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Say which release is looked at, and where what it needs is."""

    namespace: str
    release: str
    milvus_namespace: str
    operator_namespace: str

    @property
    def service(self) -> str:
        return self.release[:NAME_LENGTH].rstrip("-")

    @property
    def labels(self) -> str:
        return f"app.kubernetes.io/instance={self.release}"

    @property
    def core(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    @property
    def ray(self) -> str:
        return f"/apis/ray.io/v1/namespaces/{self.namespace}"


class Observer:
    """Look at one release; what can't be read but isn't needed is noted with its reason."""

    def __init__(self, api: Api, target: Target) -> None:
        self._api = api
        self._target = target
        self.unread: dict[str, str] = {}

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """Return what `read` reads, or None and a note."""
        try:
            return read()
        except AWAY as error:
            self.unread[what] = error.message
            return None

    def look(self) -> Snapshot:
        """Read all that `status` shows; raises where not even the RayService or the pods can be read."""
        self.unread = {}
        target = self._target
        service = self.service()
        pods = self.pods(service)
        refusals = reading.refusals(self.attempt("RayClusters", lambda: self.list(f"{target.ray}/rayclusters")) or ())
        service = replace(
            service,
            active=self._with_dashboard(service, service.active, pods, refusals),
            pending=self._with_dashboard(service, service.pending, pods, refusals),
        )
        milvus = self.attempt(
            "Milvus",
            lambda: self.list(
                f"/api/v1/namespaces/{target.milvus_namespace}/pods", labels="app.kubernetes.io/name=milvus"
            ),
        )
        return Snapshot(
            service=service,
            pods=pods,
            health=self._health(service),
            gpus=self.attempt("GPUs", self._gpus),
            in_work=self.attempt("queue", lambda: self._in_work(service, pods)),
            milvus=tuple(map(reading.pod, milvus or ())),
            last_import=self.attempt("imports", self._last_import),
            unread=tuple(f"{what}: {why}" for what, why in self.unread.items()),
        )

    def service(self) -> RayService:
        """Return the release's RayService; raises NotInstalled, with what there is instead."""
        target = self._target
        try:
            return reading.ray_service(self._api.get(f"{target.ray}/rayservices/{quote(target.service)}"))
        except NotInstalled as error:
            # Its name is the release's, unless the values give another one.
            named = self.attempt("RayServices", lambda: self.list(f"{target.ray}/rayservices", target.labels))
            if named:
                return reading.ray_service(named[0])
            raise NotInstalled(self._nothing_there()) from error

    def _nothing_there(self) -> str:
        target = self._target
        others = self.attempt("RayServices", lambda: self.list(f"{target.ray}/rayservices"))
        if others is None:
            return "the cluster does not know RayServices; install KubeRay's operator, then `shoplens cluster doctor`"
        names = ", ".join(each["metadata"]["name"] for each in others)
        found = f"there is {names}: name it with --release" if names else "there is none"
        return (
            f"no RayService {target.service} is in namespace {target.namespace}, {found}; "
            f"`helm install {target.release} helm/shoplens -n {target.namespace}` makes it, --namespace looks elsewhere"
        )

    def list(self, path: str, labels: str = "") -> list[dict[str, Any]]:
        """Return the objects at `path` with these labels."""
        found = self._api.get(path, {"labelSelector": labels} if labels else {})
        return list(found.get("items") or [])

    def pods(self, service: RayService) -> tuple[Pod, ...]:
        """Return the pods of the release, those of its Ray clusters included."""
        clusters = [each.name for each in (service.active, service.pending) if each is not None]
        found = self.list(f"{self._target.core}/pods", self._target.labels)
        if clusters:
            found += self.list(f"{self._target.core}/pods", f"ray.io/cluster in ({','.join(clusters)})")
        pods = {each["metadata"]["name"]: reading.pod(each) for each in found}
        return tuple(pods[name] for name in sorted(pods))

    def _with_dashboard(
        self, service: RayService, cluster: RayCluster | None, pods: Iterable[Pod], refusals: Mapping[str, str]
    ) -> RayCluster | None:
        if cluster is None:
            return None
        cluster = replace(cluster, refused=refusals.get(cluster.name, ""))
        details = self.attempt(f"Ray's dashboard of {cluster.name}", lambda: self._dashboard(cluster, pods))
        if details is None:
            return cluster
        return reading.with_applications(cluster, reading.applications(details, service.wanted))

    def _dashboard(self, cluster: RayCluster, pods: Iterable[Pod]) -> dict[str, Any]:
        head = next((pod for pod in pods if pod.cluster == cluster.name and pod.token), None)
        # The API server takes `Authorization` for itself; Ray reads this one where that is missing.
        headers = {"X-Ray-Authorization": f"Bearer {self._secret(head.token)}"} if head and head.token else {}
        path = f"{self._target.core}/services/{cluster.head_service}:{DASHBOARD_PORT}/proxy/api/serve/applications/"
        answer = self._api.through(path, headers)
        if answer.status != 200:
            raise KubernetesUnavailable(f"it answers {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}")
        try:
            details: dict[str, Any] = json.loads(answer.body)
        except ValueError as error:
            raise KubernetesUnavailable("it answers without JSON") from error
        return details

    def _secret(self, reference: SecretRef) -> str:
        secret = self._api.get(f"{self._target.core}/secrets/{quote(reference.name)}")
        return base64.b64decode((secret.get("data") or {}).get(reference.key, "")).decode()

    def _health(self, service: RayService) -> Health:
        path = f"{self._target.core}/services/{service.serve_service}:{SERVE_PORT}/proxy/v2/health/ready"
        try:
            answer = self._api.through(path)
            body = json.loads(answer.body)
        except NotInstalled:
            return Health(False, None, None, f"there is no Service {service.serve_service} yet")
        except AWAY as error:
            if NO_ENDPOINTS in error.message:
                return Health(False, None, None, "no pod is ready to answer")
            self.unread["index"] = error.message
            return Health(None, None, None, "")
        except ValueError:
            return Health(False, None, None, f"it answers {answer.status}, and not as Shoplens does")
        if not isinstance(body, dict) or "status" not in body:
            return Health(False, None, None, f"it answers {answer.status}, and not as Shoplens does")
        return Health(answer.status == 200, body.get("model"), body.get("collection"), body.get("reason", ""))

    def _gpus(self) -> Gpus:
        nodes = [inventory.node(each) for each in self.list("/api/v1/nodes")]
        allocatable = sum(each.allocatable.gpus for each in nodes)
        if not allocatable:
            return Gpus(0, 0)
        taken = inventory.taken(self.list("/api/v1/pods"))
        return Gpus(allocatable, sum((each for each in taken.values()), Resources()).gpus)

    def _in_work(self, service: RayService, pods: Iterable[Pod]) -> int | None:
        """Return the searches in work, summed over the active cluster's pods."""
        if service.active is None:
            return None
        ready = [pod for pod in pods if pod.cluster == service.active.name and pod.ready and pod.token is None]
        values: list[str] = []
        for pod in ready[:MOST_METRICS]:
            answer = self._api.through(f"{self._target.core}/pods/{pod.name}:{METRICS_PORT}/proxy/metrics")
            values += IN_WORK.findall(answer.body.decode("utf-8", "replace"))
        return int(sum(map(float, values))) if values else None

    def _last_import(self) -> Import | None:
        return reading.newest_import(self.list(f"{self._target.ray}/rayjobs", self._target.labels))
