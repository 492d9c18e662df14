"""Which traffic the Shoplens chart's policies let through; nothing enforces them here."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.helm.conftest import Document
from tests.helm.shoplens import NAMESPACE, RELEASE, of_kind, pods, render

RELEASE_LABELS = {"app.kubernetes.io/name": "shoplens", "app.kubernetes.io/instance": RELEASE}


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str]


def ours(component: str, instance: str = RELEASE) -> Pod:
    labels = RELEASE_LABELS | {"app.kubernetes.io/component": component, "app.kubernetes.io/instance": instance}
    return Pod(NAMESPACE, labels)


PODS = {
    "other release": ours("cpu-worker", "other"),
    "milvus": Pod("milvus", {"app.kubernetes.io/name": "milvus"}),
    "redis": Pod(NAMESPACE, {"app.kubernetes.io/name": "redis"}),
    "ingress": Pod("ingress-nginx", {}),
    "operator": Pod("kuberay-system", {}),
    "prometheus": Pod("monitoring", {}),
    "dns": Pod("kube-system", {"k8s-app": "kube-dns"}),
    "stranger": Pod("default", {}),
    "internet": Pod("outside the cluster", {}),
    **{name: ours(name) for name in ("head", "cpu-worker", "gpu-worker", "import", "index", "bounds", "ready",
                                     "search-test", "import-start", "lite", "load")},
}  # fmt: skip

NEEDED = [
    ("head", "cpu-worker", 30001), ("cpu-worker", "head", 6379), ("gpu-worker", "head", 6379),
    ("cpu-worker", "gpu-worker", 40123), ("gpu-worker", "cpu-worker", 40123), ("head", "gpu-worker", 10002),
    ("ingress", "cpu-worker", 8000), ("ingress", "gpu-worker", 8000), ("search-test", "cpu-worker", 8000),
    ("operator", "head", 8265), ("operator", "import", 8265),
    ("prometheus", "head", 8080), ("prometheus", "head", 44217), ("prometheus", "head", 44227),
    ("prometheus", "cpu-worker", 8080), ("prometheus", "gpu-worker", 8080), ("prometheus", "import", 8080),
    ("cpu-worker", "milvus", 19530), ("import", "milvus", 19530), ("index", "milvus", 19530),
    ("search-test", "milvus", 19530), ("head", "redis", 6379), ("import", "import", 6379), ("import", "import", 8265),
    ("import", "internet", 443), ("head", "internet", 6443), ("bounds", "internet", 443), ("ready", "internet", 6443),
    ("import-start", "internet", 443),
    ("load", "cpu-worker", 8000), ("load", "gpu-worker", 8000), ("load", "load", 5557), ("load", "dns", 53),
    *((name, "dns", 53) for name in ("head", "cpu-worker", "gpu-worker", "import", "index", "ready", "search-test")),
]  # fmt: skip
"""Source, target and TCP port of what Shoplens can't do without. The API server is outside: no peer can name it."""

REFUSED = [
    ("ingress", "head", 8265), ("ingress", "head", 8000), ("ingress", "cpu-worker", 8080), ("ingress", "import", 8265),
    ("stranger", "cpu-worker", 8000), ("stranger", "head", 6379), ("stranger", "head", 10001),
    ("other release", "head", 6379), ("cpu-worker", "other release", 6379), ("operator", "cpu-worker", 8000),
    ("prometheus", "head", 8265), ("search-test", "head", 8265), ("import", "head", 6379), ("head", "import", 8265),
    ("cpu-worker", "internet", 443), ("gpu-worker", "internet", 443), ("gpu-worker", "redis", 6379),
    ("load", "milvus", 19530), ("load", "internet", 443), ("load", "head", 8265), ("load", "cpu-worker", 8080),
    ("stranger", "load", 5557), ("cpu-worker", "load", 5557),
    ("cpu-worker", "stranger", 80), ("stranger", "ready", 80),
]  # fmt: skip


def selects(selector: Document, labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for term in selector.get("matchExpressions", []):
        assert term["operator"] == "In"
        if labels.get(term["key"]) not in term["values"]:
            return False
    return True


def is_peer(peer: Document, pod: Pod, own: str) -> bool:
    where = peer.get("namespaceSelector")
    inside = pod.namespace == own if where is None else selects(where, {"kubernetes.io/metadata.name": pod.namespace})
    return inside and selects(peer.get("podSelector", {}), pod.labels)


def lets(policies: list[Document], way: str, pod: Pod, other: Pod, port: int) -> bool:
    """Tell whether the policies of `pod` let `other` in, or `pod` out to it; where there are none, all goes."""
    specs = [each["spec"] for each in policies if selects(each["spec"]["podSelector"], pod.labels)]
    if pod.namespace != NAMESPACE or not specs:
        return True
    side: Any = {"Ingress": "from", "Egress": "to"}[way]
    assert all(way in spec["policyTypes"] for spec in specs)
    return any(
        (side not in rule or any(is_peer(peer, other, NAMESPACE) for peer in rule[side]))
        and ("ports" not in rule or port in [each["port"] for each in rule["ports"] if each["protocol"] == "TCP"])
        for spec in specs
        for rule in spec[way.lower()]
    )


def passes(shape: str, source: str, target: str, port: int) -> bool:
    policies = list(of_kind(render(shape), "NetworkPolicy").values())
    return lets(policies, "Egress", PODS[source], PODS[target], port) and lets(
        policies, "Ingress", PODS[target], PODS[source], port
    )


@pytest.mark.parametrize(("source", "target", "port"), NEEDED)
def test_what_is_needed_passes(source: str, target: str, port: int) -> None:
    assert passes("fleet", source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), REFUSED)
def test_what_nobody_needs_does_not(source: str, target: str, port: int) -> None:
    assert not passes("fleet", source, target, port)


@pytest.mark.parametrize("shape", ["fleet", "gateway", "team"])
def test_every_pod_of_the_release_is_under_a_policy(shape: str) -> None:
    policies = of_kind(render(shape), "NetworkPolicy").values()
    for where, template in pods(shape):
        labels = template["metadata"]["labels"]
        assert sum(selects(each["spec"]["podSelector"], labels) for each in policies) == 1, where


def test_where_there_is_no_load_test_nobody_is_let_in_for_it() -> None:
    (workers,) = [each for name, each in of_kind(render("team"), "NetworkPolicy").items() if name == "shop-worker"]
    assert lets([workers], "Ingress", PODS["cpu-worker"], PODS["search-test"], 8000)
    assert not lets([workers], "Ingress", PODS["cpu-worker"], PODS["load"], 8000)


def test_milvus_lite_is_reached_by_who_searches_and_writes() -> None:
    shape = ("laptop", "networkPolicies.enabled=true")
    policies = list(of_kind(render(*shape), "NetworkPolicy").values())
    lite = PODS["lite"]
    for name in ("cpu-worker", "index", "search-test", "import"):
        assert lets(policies, "Ingress", lite, PODS[name], 19530), name
    for name in ("cpu-worker", "index", "search-test"):
        assert lets(policies, "Egress", PODS[name], lite, 19530), name
    assert not lets(policies, "Ingress", lite, PODS["stranger"], 19530)
    assert not lets(policies, "Egress", lite, PODS["internet"], 443)


def test_a_port_of_milvus_other_than_the_usual_is_let_through() -> None:
    policies = list(of_kind(render("cpu", "milvus.uri=https://milvus.example:443/"), "NetworkPolicy").values())
    assert lets(policies, "Egress", PODS["cpu-worker"], PODS["milvus"], 443)
    assert not lets(policies, "Egress", PODS["cpu-worker"], PODS["milvus"], 19530)
