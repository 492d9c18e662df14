"""What the Milvus chart makes of its values, and which values it refuses."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from scripts import helm_docs
from scripts.check_upstream import helm
from tests.helm.conftest import CHART, SHAPES, Document, Refused

Render = Callable[..., list[Document]]
HERE = Path(__file__).parent
GIB = 2**30
PER_VECTOR = {"dev": 1168 + 200, "team": 1168 + 200, "fleet-30m": 400 + 200}
VECTORS = {"dev": 300_000, "team": 3_000_000, "fleet-30m": 30_000_000}


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_has_one_budget_and_one_policy_per_component(render: Render, shape: str) -> None:
    documents = render(shape)
    budgets, policies = of_kind(documents, "PodDisruptionBudget"), of_kind(documents, "NetworkPolicy")
    assert budgets
    assert budgets.keys() == policies.keys()
    selectors = [json.dumps(budget["spec"]["selector"], sort_keys=True) for budget in budgets.values()]
    assert len(set(selectors)) == len(selectors)
    for selector in selectors:
        assert '"shop"' in selector, "a budget has to select its own release only"


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_passes_helm_lint(chart: Path, shape: str) -> None:
    command = [helm(), "lint", "--strict", chart, "-f", chart / f"ci/{shape}-values.yaml"]
    subprocess.run(command, check=True)


def test_budgets_follow_from_the_replicas(render: Render) -> None:
    def evictable(*values: str) -> dict[str, int]:
        budgets = of_kind(render("team", *values), "PodDisruptionBudget")
        return {
            name.removeprefix("shop-shoplens-milvus-"): budget["spec"]["maxUnavailable"]
            for name, budget in budgets.items()
        }

    assert evictable() == {
        "proxy": 1, "mixcoord": 1, "querynode": 1, "datanode": 1, "streamingnode": 1,
        "woodpecker": 1, "etcd": 1, "minio": 1,
    }  # fmt: skip
    assert evictable("milvus.etcd.replicaCount=5")["etcd"] == 2
    assert evictable("milvus.proxy.replicas=6")["proxy"] == 3
    assert evictable("milvus.queryNode.replicas=12")["querynode"] == 3
    assert evictable("budgets.maxUnavailable.querynode=2")["querynode"] == 2


def test_a_budget_counts_the_pods_of_all_replica_groups(render: Render) -> None:
    budgets = of_kind(render("fleet-30m", "milvus.queryNode.replicas=4"), "PodDisruptionBudget")
    assert budgets["shop-shoplens-milvus-querynode"]["spec"]["maxUnavailable"] == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("budgets.maxUnavailable.querynode=0", "greater than or equal to 1"),
        ("budgets.minAvailable=2", "minAvailable is not allowed"),
        ("milvus.etcd.pdb.create=true", "milvus.etcd.pdb.create"),
        ("milvus.minio.podDisruptionBudget.enabled=true", "milvus.minio.podDisruptionBudget.enabled"),
        ("budgets.maxUnavailable.proxy=2", "make it smaller"),
        ("budgets.maxUnavailable.kafka=1", "no such component"),
        ("networkPolicy.enabled=false", "networkPolicy is not allowed"),
        ("image.tag=latest", "image.tag"),
        ("image.tag=", "name a version"),
        ("image.repository=", "name the image"),
        ("auth.existingSecret=", "kubectl create secret"),
        ("auth.enabled=false", "set both"),
        ("tls.enabled=true", "contradict"),
        ("milvus.kafka.enabled=true", "exactly one write-ahead log"),
        ("milvus.woodpecker.enabled=false", "exactly one write-ahead log"),
        ("milvus.image.all.tag=v2.6.15", "does not know Woodpecker as a service"),
        ("milvus.streaming.woodpecker.embedded=true", "set it to false"),
        ("milvus.mixCoordinator.activeStandby.enabled=false", "activeStandby.enabled=true"),
        ("milvus.mixCoordinator.replicas=1", "nobody stands by"),
        ("milvus.etcd.replicaCount=2", "milvus.etcd.replicaCount"),
        ("milvus.minio.existingSecret=", "kubectl create secret"),
        ("milvus.minio.accessKey=minioadmin", "ConfigMap"),
        ("milvus.externalS3.enabled=true", "turn one off"),
        ("priorityClasses.name=other", "the same name in both"),
        ('milvus.replicaResourceGroups=["rg1"]', "sets the number of replicas itself"),
        ('milvus.extraConfigFiles={"user.yaml":"common: {security: {authorizationEnabled: true}}\\n'
         'queryCoord: {clusterLevelLoadReplicaNumber: 2}"}', "set both or neither"),
    ],
)  # fmt: skip
def test_a_harmful_value_is_refused_with_the_fix(render: Render, value: str, said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        render("team", value)


def test_what_lies_outside_needs_an_egress_rule(render: Render) -> None:
    with pytest.raises(Refused, match="add an egress rule"):
        render("external", "networkPolicies.external=[]")


def test_only_clients_and_the_release_reach_the_proxy(render: Render) -> None:
    policy = of_kind(render("team"), "NetworkPolicy")["shop-shoplens-milvus-proxy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    searches = [rule for rule in policy["ingress"] if {"protocol": "TCP", "port": 19530} in rule.get("ports", [])]
    labels = [peer["podSelector"]["matchLabels"] for rule in searches for peer in rule["from"]]
    assert {"app.kubernetes.io/part-of": "shoplens"} in labels
    assert {"app.kubernetes.io/name": "shoplens-milvus", "app.kubernetes.io/instance": "shop"} in labels


@pytest.mark.parametrize("shape", SHAPES)
def test_jobs_are_locked_down_and_read_secrets_by_reference(render: Render, shape: str) -> None:
    jobs = of_kind(render(shape), "Job")
    assert jobs.keys() == {"shop-shoplens-milvus-users", "shop-shoplens-milvus-search-test"}
    for job in jobs.values():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"]["requests"]
        assert "--secret=/secret" in container["args"]
        secrets = [source["secret"]["name"] for volume in pod["volumes"] if volume["name"] == "secret"
                   for source in volume["projected"]["sources"]]  # fmt: skip
        assert set(secrets) == {"milvus-users"}


def test_jobs_find_milvus_by_its_service_and_tls(render: Render) -> None:
    def uri(shape: str) -> str:
        job = of_kind(render(shape), "Job")["shop-shoplens-milvus-users"]
        return str(job["spec"]["template"]["spec"]["containers"][0]["args"][0])

    assert uri("team") == "--uri=http://shop-milvus:19530"
    assert uri("tls") == "--uri=https://shop-milvus:19530"


def test_jobs_are_given_the_scripts_that_are_tested(render: Render) -> None:
    scripts = of_kind(render("team"), "ConfigMap")["shop-shoplens-milvus-scripts"]["data"]
    assert scripts == {path.name: path.read_text() for path in (CHART / "files").glob("*.py")}


@pytest.mark.parametrize("shape", ["dev", "team", "fleet-30m"])
def test_query_nodes_hold_two_collections_with_a_node_lost(shape: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["milvus"]
    own = yaml.safe_load((CHART / f"ci/{shape}-values.yaml").read_text()).get("milvus", {})
    if shape == "dev":
        copies, memory = 1, own["standalone"]["resources"]["limits"]["memory"]
        left = gib(memory)
    else:
        nodes = values["queryNode"] | own.get("queryNode", {})
        groups = len(own.get("replicaResourceGroups", [])) or 1
        copies = 2
        left = groups * (nodes["replicas"] - 1) * gib(nodes["resources"]["limits"]["memory"])
        assert nodes["resources"]["requests"]["memory"] == nodes["resources"]["limits"]["memory"]
    assert left * GIB >= 2 * copies * VECTORS[shape] * PER_VECTOR[shape] * 1.3


def gib(quantity: str) -> int:
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi"))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_keeps_what_recovery_needs(shape: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    own = yaml.safe_load((CHART / f"ci/{shape}-values.yaml").read_text()).get("milvus", {})
    files = own.get("extraConfigFiles", values["milvus"]["extraConfigFiles"])
    settings = yaml.safe_load(files["user.yaml"])
    assert settings["grpc"]["client"]["maxBackoff"] == 1
    assert settings["common"]["security"]["authorizationEnabled"] is True
    assert settings["queryNode"]["mmap"]["scalarField"] is True
    proxy = values["milvus"]["proxy"] | own.get("proxy", {})
    assert {"name": "GRPC_CLIENT_MAXMAXATTEMPTS", "value": "2"} in proxy["extraEnv"]


def test_the_table_of_values_is_current() -> None:
    readme, source = (CHART / "README.md").read_text(), (CHART / "values.yaml").read_text()
    assert helm_docs.with_table(readme, helm_docs.table(source)) == readme, "run: python -m scripts.helm_docs"


def test_every_value_has_a_sentence() -> None:
    source = (CHART / "values.yaml").read_text()
    told = {path for path, _ in helm_docs.sentences(source)}

    def silent(values: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if path in told:
            return []
        if not isinstance(values, dict):
            return [path]
        return [found for key, value in values.items() for found in silent(value, (*path, key))]

    assert silent(yaml.safe_load(source)) == []


def test_every_object_of_ours_is_closed_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def names(node: Document, path: str = "") -> list[str]:
        here = [] if node.get("additionalProperties") is False or "properties" not in node else [path]
        inside = node.get("properties", {}).items()
        return here + [name for key, value in inside if key != "milvus" for name in names(value, f"{path}.{key}")]

    assert names(schema) == []
    assert set(schema["properties"]) - {"global"} == set(yaml.safe_load((CHART / "values.yaml").read_text()))


def test_no_secret_stands_in_the_values() -> None:
    assert "minioadmin" not in (CHART / "values.yaml").read_text()
