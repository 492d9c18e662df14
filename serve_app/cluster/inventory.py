"""What a cluster has, read from Kubernetes' documents: nodes, quotas, KubeRay's operator."""

from __future__ import annotations

from collections.abc import Iterable

from serve_app.cluster.facts import Node, Operator, Quota
from serve_app.cluster.reading import Document
from serve_app.cluster.room import Resources, requests, resources


def node(document: Document) -> Node:
    """Read one node."""
    status = document.get("status") or {}
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or [])
    usable = is_ready and not (document.get("spec") or {}).get("unschedulable", False)
    return Node(document["metadata"]["name"], usable, resources(status.get("allocatable") or {}))


def taken(pods: Iterable[Document]) -> dict[str, Resources]:
    """Return what the pods on each node ask for; pods that have ended hold nothing."""
    sums: dict[str, Resources] = {}
    for each in pods:
        place = each["spec"].get("nodeName")
        if place and (each.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            sums[place] = sums.get(place, Resources()) + requests(each["spec"])
    return sums


def operator(deployment: Document) -> Operator | None:
    """Read KubeRay's operator; None is another deployment."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    container = next((each for each in containers if "kuberay" in each["image"] + each["name"]), None)
    if container is None:
        return None
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    return Operator(
        name=deployment["metadata"]["name"],
        version=container["image"].partition("@")[0].rpartition(":")[2].removeprefix("v"),
        gates=_gates(words),
        ready=bool((deployment.get("status") or {}).get("readyReplicas")),
        hidden=any(word.startswith("--config") for word in words),
    )


def _gates(words: list[str]) -> dict[str, bool]:
    gates: dict[str, bool] = {}
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.lstrip("-") == "feature-gates":
            given = value if equals else "".join(words[index + 1 : index + 2])
            gates |= {gate: on.lower() == "true" for gate, _, on in (each.partition("=") for each in given.split(","))}
    return gates


def quota(document: Document) -> Quota:
    """Read one ResourceQuota."""
    status = document.get("status") or {}
    hard = status.get("hard") or (document.get("spec") or {}).get("hard") or {}
    return Quota(document["metadata"]["name"], hard, status.get("used") or {})
