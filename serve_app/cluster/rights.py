"""The rights in a Kubernetes cluster that `shoplens cluster` asks for.

All are to read; none is to change anything. The chart renders them as Roles, and a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["release", "milvus", "operator", "cluster"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow `verbs` on `resources`, in the namespace of the release, Milvus or the operator, or in all of them."""

    scope: Scope
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    needed: bool = True
    """Without it, no command works; without one that isn't needed, a part of what is shown is left out."""


RULES: tuple[Rule, ...] = (
    Rule("release", "ray.io", ("rayservices",), ("get", "list"), "conditions, clusters and stages of the service"),
    Rule("release", "", ("pods",), ("list",), "pods that are pending, restarting or without their image"),
    Rule("release", "", ("pods/log",), ("get",), "lines of a request", needed=False),
    Rule("release", "ray.io", ("rayclusters",), ("list",), "why pods are refused", needed=False),
    Rule("release", "ray.io", ("rayjobs",), ("list",), "the last import", needed=False),
    Rule(
        "release",
        "",
        ("services/proxy",),
        ("get",),
        "replicas from Ray's dashboard, index from the service",
        needed=False,
    ),
    Rule("release", "", ("pods/proxy",), ("get",), "searches in work from the pods' metrics", needed=False),
    Rule(
        "release",
        "",
        ("secrets",),
        ("get",),
        "the token of Ray's dashboard, and whether Secrets that pods refer to have their keys",
        needed=False,
    ),
    Rule("release", "", ("namespaces",), ("get",), "pod security level of the namespace", needed=False),
    Rule("release", "", ("resourcequotas",), ("list",), "room for a second cluster in the quota", needed=False),
    Rule("milvus", "", ("pods",), ("list",), "Milvus's pods", needed=False),
    Rule(
        "operator", "apps", ("deployments",), ("list",), "version and feature gates of KubeRay's operator", needed=False
    ),
    Rule("cluster", "", ("nodes",), ("list",), "GPUs and room of the nodes", needed=False),
    Rule("cluster", "", ("pods",), ("list",), "what of the nodes is taken", needed=False),
    Rule("cluster", "storage.k8s.io", ("storageclasses",), ("list",), "the default storage class", needed=False),
)
