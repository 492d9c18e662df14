"""An API server in memory, and the documents that Kubernetes and KubeRay would hold."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from serve_app.cluster.observing import Answer, Target
from serve_app.errors import NotInstalled, RightMissing

TARGET = Target("shop", "shoplens", "milvus", "kuberay-system")
CORE, RAY = "/api/v1/namespaces/shop", "/apis/ray.io/v1/namespaces/shop"
SERVE_CONFIG = {"applications": [{"name": "shoplens", "import_path": "serve_app.app:build_app", "args": {"a": 1.0}}]}

Document = dict[str, Any]


class FakeApi:
    """Answer from `objects` by path, and by path and selector; paths in `denied` are refused."""

    def __init__(self) -> None:
        self.objects: dict[str, Document] = {}
        self.answers: dict[str, Answer] = {}
        self.logs: dict[tuple[str, str], list[str]] = {}
        self.denied: set[str] = set()
        self.headers: dict[str, Mapping[str, str]] = {}

    def put(self, path: str, *items: Document, labels: str = "") -> None:
        self.objects[f"{path}?{labels}" if labels else path] = {"items": list(items)}

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Document:
        self._check(path)
        labels = (query or {}).get("labelSelector")
        found = self.objects.get(f"{path}?{labels}" if labels else path)
        if found is None:
            if labels is not None:
                return {"items": []}
            raise NotInstalled(f"{path} not found")
        return found

    def through(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        self._check(path)
        self.headers[path] = headers or {}
        if path not in self.answers:
            raise NotInstalled(f"{path} not found")
        return self.answers[path]

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[str]:
        self._check(path)
        yield from self.logs.get((path, query["container"]), [])

    def _check(self, path: str) -> None:
        if path in self.denied:
            raise RightMissing(f"{path} is forbidden")


def json_answer(status: int, document: object) -> Answer:
    return Answer(status, json.dumps(document).encode())


def condition(kind: str, holds: bool, reason: str = "", message: str = "") -> Document:
    return {"type": kind, "status": str(holds), "reason": reason, "message": message}


def cluster_status(name: str, status: str = "RUNNING", stages: Mapping[str, str] | None = None) -> Document:
    deployments = {stage: {"status": each} for stage, each in (stages or {}).items()}
    return {
        "rayClusterName": name,
        "rayClusterStatus": {"head": {"serviceName": f"{name}-head-svc"}},
        "applicationStatuses": {"shoplens": {"status": status, "serveDeploymentStatuses": deployments}},
    }


def container(name: str, cpu: str = "1", memory: str = "2Gi", gpus: int = 0, **more: object) -> Document:
    asked = {"cpu": cpu, "memory": memory} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {"name": name, "image": "shoplens:1", "resources": {"requests": asked, "limits": asked}, **more}


def secret_variable(name: str, key: str, variable: str = "SHOPLENS_MILVUS__PASSWORD") -> Document:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def worker_group(name: str, replicas: int, gpus: int = 0, least: int | None = None, **more: object) -> Document:
    spec = {"containers": [container("worker", gpus=gpus, **more)]}
    least = replicas if least is None else least
    return {"groupName": name, "replicas": replicas, "minReplicas": least, "maxReplicas": 4, "template": {"spec": spec}}


def ray_service(*conditions: Document, workers: tuple[Document, ...] = (), **more: Any) -> Document:
    """Return a healthy RayService, but for `generation`, `observed`, `active`, `pending`, `cluster` and `spec`."""
    cluster = {
        "headGroupSpec": {"template": {"spec": {"containers": [container("ray-head")]}}},
        "workerGroupSpecs": list(workers or (worker_group("cpu", 2), worker_group("gpu", 1, gpus=1))),
        **more.get("cluster", {}),
    }
    return {
        "kind": "RayService",
        "metadata": {"name": "shoplens", "generation": more.get("generation", 3)},
        "spec": {"rayClusterConfig": cluster, "serveConfigV2": yaml.safe_dump(SERVE_CONFIG), **more.get("spec", {})},
        "status": {
            "observedGeneration": more.get("observed", 3),
            "conditions": list(conditions) or [condition("Ready", True), condition("UpgradeInProgress", False)],
            "numServeEndpoints": 2,
            "activeServiceStatus": more.get("active", cluster_status("shoplens-a")),
            "pendingServiceStatus": more.get("pending", {}),
        },
    }


def ray_cluster(name: str, refused: str = "") -> Document:
    failure = condition("ReplicaFailure", bool(refused), "FailedCreateWorkerPod", f"FailedCreateWorkerPod\n{refused}")
    return {"metadata": {"name": name}, "status": {"conditions": [condition("HeadPodReady", True), failure]}}


def pod(name: str, *states: Document, cluster: str = "shoplens-a", group: str = "cpu", **more: Any) -> Document:
    """Return a pod that is ready, unless there are `states` of containers, or `unscheduled` with a reason."""
    conditions = [condition("Ready", not states and "unscheduled" not in more)]
    if "unscheduled" in more:
        conditions.append(condition("PodScheduled", False, "Unschedulable", more["unscheduled"]))
    labels = {"ray.io/cluster": cluster, "ray.io/group": group, **more.get("labels", {})}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": more.get("containers", [container("worker")]), "nodeName": more.get("node", "n1")},
        "status": {
            "phase": more.get("phase", "Pending" if states else "Running"),
            "conditions": conditions,
            "containerStatuses": list(states) or [{"name": "worker", "state": {"running": {}}}],
        },
    }


def waiting(reason: str, message: str = "") -> Document:
    return {"name": "worker", "image": "shoplens:2", "state": {"waiting": {"reason": reason, "message": message}}}


def head_pod(cluster: str = "shoplens-a") -> Document:
    token = secret_variable(cluster, "auth_token", "RAY_AUTH_TOKEN")
    head = container("ray-head", env=[token])
    return pod(f"{cluster}-head", cluster=cluster, group="head", labels={"ray.io/node-type": "head"}, containers=[head])


def stage_details(name: str, wanted: int, running: int, status: str = "HEALTHY", message: str = "") -> Document:
    replicas = [{"state": "RUNNING"}] * running + [{"state": "STARTING"}] * (wanted - running)
    return {
        "name": name,
        "status": status,
        "message": message,
        "target_num_replicas": wanted,
        "replicas": replicas,
    }


def dashboard(*stages: Document, status: str = "RUNNING", message: str = "", config: object = None) -> Document:
    application = {
        "status": status,
        "message": message,
        "deployments": {each["name"]: each for each in stages},
        "deployed_app_config": config or SERVE_CONFIG["applications"][0],
    }
    return {"applications": {"shoplens": application}}


def secret(**values: str) -> Document:
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}


def healthy() -> FakeApi:
    """Return a cluster in which all is well."""
    api = FakeApi()
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service()
    api.put(f"{CORE}/pods", head_pod(), pod("cpu-1"), pod("cpu-2"), labels="ray.io/cluster in (shoplens-a)")
    api.put(f"{RAY}/rayclusters", ray_cluster("shoplens-a"))
    api.objects[f"{CORE}/secrets/shoplens-a"] = secret(auth_token="t0ken")
    api.answers[dashboard_path()] = json_answer(
        200, dashboard(stage_details("Ingress", 2, 2), stage_details("Detector", 0, 0))
    )
    api.answers[f"{CORE}/services/shoplens-serve-svc:8000/proxy/v2/health/ready"] = json_answer(
        200, {"status": "ready", "model": "0123456789ab", "collection": "products_0123456789ab_1"}
    )
    for name in ("cpu-1", "cpu-2"):
        metrics = b'# TYPE ray_shoplens_in_flight gauge\nray_shoplens_in_flight{a="b"} 3.0\n'
        api.answers[f"{CORE}/pods/{name}:8080/proxy/metrics"] = Answer(200, metrics)
    api.put("/api/v1/namespaces/milvus/pods", pod("milvus-0", cluster=""), labels="app.kubernetes.io/name=milvus")
    api.put("/api/v1/nodes", node("n1", gpus=2))
    api.put("/api/v1/pods", pod("gpu-1", containers=[container("worker", gpus=1)]))
    return api


def dashboard_path(cluster: str = "shoplens-a") -> str:
    return f"{CORE}/services/{cluster}-head-svc:8265/proxy/api/serve/applications/"


def node(name: str, cpu: str = "8", memory: str = "32Gi", gpus: int = 0, **spec: object) -> Document:
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {
            "conditions": [condition("Ready", True)],
            "allocatable": {"cpu": cpu, "memory": memory, "nvidia.com/gpu": str(gpus)},
        },
    }
