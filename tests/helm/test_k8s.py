"""What k8s/ makes, rendered with kubectl's own kustomize."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.kubectl_binary import kubectl
from tests.helm.conftest import CHART, Document

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in K8S.glob("components/*/kustomization.yaml"))
NAMESPACES = ["milvus", "shoplens"]
BUILT_IN = {"v1", "networking.k8s.io/v1", "scheduling.k8s.io/v1"}


def built(folder: Path) -> list[Document]:
    assert kubectl().is_file(), "kubectl is missing: run the tests by ./scripts/test, which fetches it"
    done = subprocess.run([kubectl(), "kustomize", folder], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=["base", *(f"overlays/{name}" for name in OVERLAYS)])
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return built(K8S / request.param)


def find(documents: list[Document], kind: str, namespace: str | None = None) -> dict[str, Document]:
    return {
        document["metadata"]["name"]: document
        for document in documents
        if document["kind"] == kind and document["metadata"].get("namespace") == namespace
    }


def test_the_base_needs_nothing_that_a_bare_cluster_lacks() -> None:
    assert {document["apiVersion"] for document in built(K8S / "base")} <= BUILT_IN


def test_each_component_is_in_some_overlay_and_none_elsewhere() -> None:
    used = [yaml.safe_load((K8S / f"overlays/{name}/kustomization.yaml").read_text()) for name in OVERLAYS]
    assert {Path(path).name for overlay in used for path in overlay.get("components", [])} == set(COMPONENTS)
    assert "components" not in yaml.safe_load((K8S / "base/kustomization.yaml").read_text())


def test_every_file_is_part_of_an_overlay() -> None:
    rendered = {(d["kind"], d["metadata"]["name"]) for name in OVERLAYS for d in built(K8S / f"overlays/{name}")}
    for path in K8S.rglob("*.yaml"):
        if path.name != "kustomization.yaml" and path.parent.name != "operators":
            for document in yaml.safe_load_all(path.read_text()):
                assert (document["kind"], document["metadata"]["name"]) in rendered, path


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_pods_are_restricted_and_nothing_flows_that_no_policy_allows(documents: list[Document], namespace: str) -> None:
    labels = find(documents, "Namespace")[namespace]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    policies = find(documents, "NetworkPolicy", namespace)
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["dns"]["spec"]["podSelector"] == {}
    (rule,) = policies["dns"]["spec"]["egress"]
    assert {port["port"] for port in rule["ports"]} == {53}
    assert all("ingress" not in policy["spec"] for policy in policies.values())


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_pod_that_says_nothing_still_meets_the_quota(documents: list[Document], namespace: str) -> None:
    (quota,) = find(documents, "ResourceQuota", namespace).values()
    (limits,) = find(documents, "LimitRange", namespace).values()
    (container,) = limits["spec"]["limits"]
    hard = quota["spec"]["hard"]
    for kind, given in (("requests", "defaultRequest"), ("limits", "default")):
        asked = {name.partition(".")[2] for name in hard if name.startswith(kind + ".")}
        assert asked & {"cpu", "memory"} <= set(container[given])
    assert hard["services.loadbalancers"] == hard["services.nodeports"] == "0"


def test_classes_stand_in_order_and_leave_the_chart_its_own(documents: list[Document]) -> None:
    state = yaml.safe_load((CHART / "values.yaml").read_text())["priorityClasses"]
    classes = {name: document["value"] for name, document in find(documents, "PriorityClass").items()}
    assert state["name"] not in classes
    assert state["value"] > classes["shoplens-serving"] > 0 > classes["shoplens-import"] >= -10


def test_gpu_nodes_are_kept_for_pods_that_tolerate_them_and_cover_the_quota() -> None:
    documents = built(K8S / "overlays/production")
    pool = find(documents, "NodePool")["shoplens-gpu"]["spec"]
    quota = find(documents, "ResourceQuota", "shoplens")["room"]["spec"]["hard"]
    assert [(taint["key"], taint["effect"]) for taint in pool["template"]["spec"]["taints"]] == [
        ("nvidia.com/gpu", "NoSchedule")
    ]
    assert pool["limits"]["nvidia.com/gpu"] == quota["requests.nvidia.com/gpu"]


def test_only_the_services_namespace_may_attach_to_the_gateway_and_only_by_tls() -> None:
    documents = built(K8S / "overlays/production")
    (gateway,) = find(documents, "Gateway", "shoplens-gateway").values()
    for listener in gateway["spec"]["listeners"]:
        assert listener["protocol"] == "HTTPS"
        assert "shoplens" in json.dumps(listener["allowedRoutes"]["namespaces"]["selector"])


@pytest.mark.parametrize("name", ["kuberay-operator", "gpu-operator"])
def test_operators_are_pinned_and_installed_as_their_files_say(name: str) -> None:
    text = (K8S / f"operators/{name}-values.yaml").read_text()
    readme = (K8S / "README.md").read_text()
    version = text.split(f"chart {name} ")[1].split()[0]
    assert f"--version {version}" in text
    assert f"`{name}` {version}" in readme
    values = yaml.safe_load(text)
    if name == "kuberay-operator":
        assert values["image"]["tag"] == f"v{version}"
        gates = {gate["name"]: gate["enabled"] for gate in values["featureGates"]}
        assert gates["GCSFaultToleranceEmbeddedStorage"]
        assert values["watchNamespace"] == ["shoplens"]


def test_the_readme_tells_of_every_overlay_and_component() -> None:
    readme = (K8S / "README.md").read_text()
    for name in [*(f"overlays/{name}" for name in OVERLAYS), *(f"components/{name}" for name in COMPONENTS)]:
        assert f"`{name}`" in readme
