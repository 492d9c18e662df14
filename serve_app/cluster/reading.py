"""Kubernetes' and Ray's documents, read into facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from serve_app.cluster.facts import (
    Application,
    Condition,
    Import,
    Pod,
    PodGroup,
    RayCluster,
    RayService,
    SecretRef,
    Stage,
    Trouble,
)
from serve_app.cluster.room import limits, requests

Document = Mapping[str, Any]

TOKEN_VARIABLE = "RAY_AUTH_TOKEN"  # noqa: S105
AUTOSCALER = {"cpu": "500m", "memory": "512Mi"}
WAIT_FOR_HEAD = {"cpu": "200m", "memory": "256Mi"}
"""What KubeRay's injected containers ask for (ray-operator/controllers/ray/common/pod.go, v1.7.0)."""

RUNNING_REPLICA = "RUNNING"
REPLICA_FAILURE = "ReplicaFailure"
WAITS = {"ContainerCreating", "PodInitializing", ""}


def ray_service(document: Document) -> RayService:
    """Read a RayService, installed or about to be."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    cluster = spec["rayClusterConfig"]
    fault_tolerance = cluster.get("gcsFaultToleranceOptions")
    named = ((spec.get("serveService") or {}).get("metadata") or {}).get("name")
    return RayService(
        name=metadata["name"],
        generation=metadata.get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        conditions=tuple(_condition(each) for each in status.get("conditions") or []),
        endpoints=status.get("numServeEndpoints", 0),
        active=_ray_cluster(status.get("activeServiceStatus") or {}),
        pending=_ray_cluster(status.get("pendingServiceStatus") or {}),
        groups=_groups(cluster),
        secrets=tuple(dict.fromkeys(_secrets(cluster))),
        upgrade=(spec.get("upgradeStrategy") or {}).get("type") or "NewCluster",
        head_state="none" if fault_tolerance is None else fault_tolerance.get("backend", "redis"),
        serve_service=named or f"{metadata['name']}-serve-svc",
        wanted=yaml.safe_load(spec.get("serveConfigV2") or "{}"),
    )


def _condition(document: Document) -> Condition:
    return Condition(
        document["type"], document["status"] == "True", document.get("reason", ""), document.get("message", "")
    )


def _ray_cluster(status: Document) -> RayCluster | None:
    name = status.get("rayClusterName")
    if not name:
        return None
    head = (status.get("rayClusterStatus") or {}).get("head") or {}
    applications = tuple(
        Application(
            name=application,
            status=found.get("status", ""),
            message=found.get("message", ""),
            stages=tuple(
                Stage(stage, each.get("status", ""), each.get("message", ""))
                for stage, each in (found.get("serveDeploymentStatuses") or {}).items()
            ),
        )
        for application, found in (status.get("applicationStatuses") or {}).items()
    )
    return RayCluster(name, head.get("serviceName") or f"{name}-head-svc", applications)


def refusals(clusters: Iterable[Document]) -> dict[str, str]:
    """Read of RayClusters, by name, why Kubernetes refuses their pods."""
    found: dict[str, str] = {}
    for cluster in clusters:
        for each in map(_condition, (cluster.get("status") or {}).get("conditions") or []):
            if each.type == REPLICA_FAILURE and each.holds:
                # The first line says again that it failed.
                found[cluster["metadata"]["name"]] = each.message.removeprefix(each.reason).strip()
    return found


def applications(details: Document, wanted: Mapping[str, Any]) -> tuple[Application, ...]:
    """Read what Ray's dashboard tells of Serve; `wanted` is the Serve config that is to run."""
    configs = {each.get("name", "default"): each for each in wanted.get("applications") or []}
    return tuple(
        Application(
            name=name,
            status=found["status"],
            message=found["message"],
            stages=tuple(_stage(stage) for stage in found["deployments"].values()),
            settled=name not in configs or _holds(found.get("deployed_app_config") or {}, configs[name]),
        )
        for name, found in (details.get("applications") or {}).items()
    )


def _stage(details: Document) -> Stage:
    running = sum(replica["state"] == RUNNING_REPLICA for replica in details["replicas"])
    return Stage(details["name"], details["status"], details["message"], details["target_num_replicas"], running)


def _holds(deployed: Any, wanted: Any) -> bool:
    """Tell whether all that is wanted stands in what was deployed; runtime environments may be hidden there."""
    if isinstance(wanted, Mapping) and isinstance(deployed, Mapping):
        return all(
            name == "runtime_env" or (name in deployed and _holds(deployed[name], value))
            for name, value in wanted.items()
        )
    if isinstance(wanted, list) and isinstance(deployed, list):
        return len(wanted) == len(deployed) and all(map(_holds, deployed, wanted))
    return bool(deployed == wanted)


def _groups(cluster: Document) -> tuple[PodGroup, ...]:
    head = cluster["headGroupSpec"]["template"]["spec"]
    if cluster.get("enableInTreeAutoscaling"):
        asked = (cluster.get("autoscalerOptions") or {}).get("resources") or {"requests": AUTOSCALER}
        head = {**head, "containers": [*head["containers"], {"resources": asked}]}
    return PodGroup("head", 1, 1, 1, requests(head), limits(head)), *map(
        _worker_group, cluster.get("workerGroupSpecs") or []
    )


def _worker_group(group: Document) -> PodGroup:
    spec = group["template"]["spec"]
    waiting = {"resources": {"requests": WAIT_FOR_HEAD, "limits": WAIT_FOR_HEAD}}
    spec = {**spec, "initContainers": [*(spec.get("initContainers") or []), waiting]}
    hosts = group.get("numOfHosts", 1)
    least, most = group.get("minReplicas", 0), group.get("maxReplicas", 0)
    # Each stage starts with a replica, so a group that may be zero has a pod at first.
    first = max(least, group.get("replicas") or 0, min(1, most))
    return PodGroup(group["groupName"], least * hosts, most * hosts, first * hosts, requests(spec), limits(spec))


def _secrets(cluster: Document) -> Iterable[SecretRef]:
    """Find the Secrets that pods get variables, files or images by."""
    templates = [cluster["headGroupSpec"], *(cluster.get("workerGroupSpecs") or [])]
    for spec in (each["template"]["spec"] for each in templates):
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            for variable in container.get("env") or []:
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
                if reference:
                    yield SecretRef(reference["name"], reference["key"], reference.get("optional", False))
        for volume in spec.get("volumes") or []:
            yield from _mounted(volume)


def _mounted(volume: Document) -> Iterable[SecretRef]:
    sources = [source.get("secret") for source in (volume.get("projected") or {}).get("sources") or []]
    for secret in [volume.get("secret"), *sources]:
        if secret:
            name, optional = secret.get("secretName") or secret.get("name"), secret.get("optional", False)
            for item in secret.get("items") or [{"key": ""}]:
                yield SecretRef(name, item["key"], optional)


def pod(document: Document) -> Pod:
    """Read one pod."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    placing = conditions.get("PodScheduled") or {}
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return Pod(
        name=metadata["name"],
        group=labels.get("ray.io/group") or labels.get("component") or labels.get("app.kubernetes.io/component", ""),
        cluster=labels.get("ray.io/cluster", ""),
        phase="Terminating" if metadata.get("deletionTimestamp") else status.get("phase", ""),
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        unscheduled=placing.get("message", "not looked at yet") if placing.get("status") == "False" else "",
        restarts=sum(each.get("restartCount", 0) for each in states),
        out_of_memory=any(
            _ended(each, "state") == "OOMKilled" or _ended(each, "lastState") == "OOMKilled" for each in states
        ),
        troubles=tuple(trouble for each in states for trouble in _troubles(each)),
        containers=tuple(each["name"] for each in states if {"running", "terminated"} & set(each.get("state") or {})),
        gpus=requests(spec).gpus,
        token=_token(spec) if labels.get("ray.io/node-type") == "head" else None,
    )


def _ended(state: Document, which: str) -> str:
    return str(((state.get(which) or {}).get("terminated") or {}).get("reason", ""))


def _troubles(state: Document) -> Iterable[Trouble]:
    now = state.get("state") or {}
    waiting, ended = now.get("waiting") or {}, now.get("terminated") or {}
    if waiting.get("reason", "") not in WAITS:
        before = (state.get("lastState") or {}).get("terminated") or {}
        message = waiting.get("message") or before.get("message", "")
        yield Trouble(state["name"], waiting["reason"], message, state.get("image", ""))
    elif ended.get("exitCode", 0) != 0:
        message = f"ended with code {ended['exitCode']}"
        yield Trouble(
            state["name"], ended.get("reason", "Error"), ended.get("message") or message, state.get("image", "")
        )


def _token(spec: Document) -> SecretRef | None:
    for container in spec["containers"]:
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if variable["name"] == TOKEN_VARIABLE and reference:
                return SecretRef(reference["name"], reference["key"])
    return None


def newest_import(jobs: Iterable[Document]) -> Import | None:
    """Return the RayJob that was made last."""
    newest = max(jobs, key=lambda each: each["metadata"].get("creationTimestamp", ""), default=None)
    if newest is None:
        return None
    status = newest.get("status") or {}
    return Import(
        name=newest["metadata"]["name"],
        status=status.get("jobStatus") or status.get("jobDeploymentStatus") or "waiting",
        started=status.get("startTime") or newest["metadata"].get("creationTimestamp", ""),
        ended=status.get("endTime") or "",
        message=status.get("message") or status.get("reason") or "",
    )


def with_applications(cluster: RayCluster, found: tuple[Application, ...]) -> RayCluster:
    """Return the cluster with what its dashboard told."""
    return replace(cluster, applications=found, from_dashboard=True)
