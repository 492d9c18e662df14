from __future__ import annotations

import pytest

from serve_app.cluster.check import Check
from serve_app.cluster.doctor import checks
from serve_app.cluster.facts import SecretRef
from serve_app.cluster.surveying import Surveyor
from tests.unit.cluster_fakes import (
    CORE,
    RAY,
    TARGET,
    FakeApi,
    container,
    node,
    ray_service,
    secret,
    secret_variable,
    worker_group,
)

DEPLOYMENTS = "/apis/apps/v1/namespaces/kuberay-system/deployments"


def operator(tag: str = "v1.7.0", ready: int = 1, args: tuple[str, ...] = ()) -> dict:
    image = {"name": "kuberay-operator", "image": f"quay.io/kuberay/operator:{tag}", "args": list(args)}
    spec = {"template": {"spec": {"containers": [image]}}}
    return {"metadata": {"name": "kuberay-operator"}, "spec": spec, "status": {"readyReplicas": ready}}


def good() -> FakeApi:
    api = FakeApi()
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service()
    api.objects["/apis/ray.io"] = {"versions": [{"version": "v1"}]}
    api.objects["/apis/ray.io/v1"] = {"resources": [{"kind": f"Ray{each}"} for each in ("Cluster", "Job", "Service")]}
    api.objects["/apis/gateway.networking.k8s.io"] = {"versions": [{"version": "v1"}]}
    api.put(DEPLOYMENTS, operator())
    api.put("/api/v1/nodes", node("n1", cpu="32", memory="64Gi", gpus=4))
    api.put("/api/v1/pods")
    standard = {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    api.put("/apis/storage.k8s.io/v1/storageclasses", {"metadata": standard})
    api.put(f"{CORE}/resourcequotas")
    api.objects[CORE] = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    return api


def made(api: FakeApi, planned: dict | None = None, *secrets: SecretRef, before: bool = False) -> tuple[Check, ...]:
    return checks(Surveyor(api, TARGET).survey(planned, secrets, before=before), before=before)


def not_ok(api: FakeApi, planned: dict | None = None, before: bool = False) -> dict[str, tuple[str, str]]:
    return {each.name: (each.level, each.text) for each in made(api, planned, before=before) if each.level != "ok"}


def quota(hard: dict[str, str], used: dict[str, str]) -> dict:
    return {"metadata": {"name": "shop"}, "status": {"hard": hard, "used": used}}


def test_cluster_that_has_all_passes_every_check():
    assert not_ok(good()) == {}


def test_bare_cluster_fails_and_every_failure_says_what_to_do():
    api = good()
    for path in ("/apis/ray.io", "/apis/ray.io/v1"):
        del api.objects[path]
    api.put(DEPLOYMENTS)
    found = not_ok(api, before=True)
    assert found["KubeRay's CRDs"][0] == found["KubeRay's operator"][0] == "failed"
    assert "install" in found["KubeRay's CRDs"][1]
    assert "--operator-namespace" in found["KubeRay's operator"][1]


@pytest.mark.parametrize(
    ("deployment", "level"),
    [
        (operator("v1.6.2"), "failed"),
        (operator(ready=0), "failed"),
        (operator("nightly"), "warning"),
        (operator("v1.10.0"), None),
    ],
)
def test_operator_has_to_be_ready_and_new_enough(deployment, level):
    api = good()
    api.put(DEPLOYMENTS, deployment)
    assert not_ok(api).get("KubeRay's operator", (None,))[0] == level


@pytest.mark.parametrize(
    ("args", "level"),
    [
        ((), "failed"),
        (("--feature-gates=A=false,GCSFaultToleranceEmbeddedStorage=true",), None),
        (("--feature-gates", "GCSFaultToleranceEmbeddedStorage=true"), None),
        (("--config=/etc/kuberay/config.yaml",), "warning"),
    ],
)
def test_head_state_on_disk_needs_the_operators_gate(args, level):
    api = good()
    state = {"gcsFaultToleranceOptions": {"backend": "rocksdb"}}
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service(cluster=state)
    api.put(DEPLOYMENTS, operator(args=args))
    assert not_ok(api).get("feature gates", (None,))[0] == level


def test_incremental_upgrade_needs_the_gateway_api():
    api = good()
    del api.objects["/apis/gateway.networking.k8s.io"]
    assert not_ok(api) == {}
    incremental = ray_service(spec={"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}})
    assert not_ok(api, incremental, before=True)["Gateway API"][0] == "failed"


@pytest.mark.parametrize(
    ("groups", "level"),
    [
        ((worker_group("cpu", 2),), None),
        ((worker_group("gpu", 0, gpus=1),), "warning"),
        ((worker_group("gpu", 1, gpus=1),), "failed"),
    ],
)
def test_gpus_have_to_be_there_where_they_are_needed_at_once(groups, level):
    api = good()
    api.put("/api/v1/nodes", node("n1", cpu="32", memory="64Gi"))
    assert not_ok(api, ray_service(workers=groups)).get("GPUs", (None,))[0] == level


def test_secrets_that_pods_refer_to_have_to_be_there_with_their_keys():
    api = good()
    variables = [secret_variable("milvus", "password"), secret_variable("milvus", "user"), secret_variable("keys", "a")]
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service(workers=(worker_group("cpu", 1, env=variables),))
    api.objects[f"{CORE}/secrets/milvus"] = secret(password="x", user="")
    found = not_ok(api)
    assert set(found) == {"Secret milvus, key user", "Secret keys, key a"}
    assert "kubectl create secret generic keys" in found["Secret keys, key a"][1]


def test_optional_secret_that_is_missing_is_a_warning_only():
    optional = {"name": "tls", "secret": {"secretName": "ca", "optional": True, "items": [{"key": "ca.crt"}]}}
    head = {"containers": [container("ray-head")], "volumes": [optional]}
    planned = ray_service(cluster={"headGroupSpec": {"template": {"spec": head}}})
    assert not_ok(good(), planned)["Secret ca, key ca.crt"][0] == "warning"


def test_secret_named_on_the_command_line_is_looked_for():
    found = {each.name: each.level for each in made(good(), None, SecretRef("milvus", "password"), before=True)}
    assert found["Secret milvus, key password"] == "failed"


def test_what_may_not_be_read_is_a_warning_with_the_missing_right():
    api = good()
    api.denied |= {"/api/v1/nodes", "/api/v1/pods", DEPLOYMENTS, CORE, f"{CORE}/resourcequotas"}
    api.denied |= {"/apis/storage.k8s.io/v1/storageclasses"}
    found = not_ok(api)
    assert set(found) == {"GPUs", "room", "KubeRay's operator", "pod security", "quota", "storage class"}
    assert all(level == "warning" and "forbidden" in text for level, text in found.values())


@pytest.mark.parametrize(
    ("level", "labels"), [("warning", {}), (None, {"pod-security.kubernetes.io/enforce": "restricted"})]
)
def test_namespace_ought_to_enforce_restricted(level, labels):
    api = good()
    api.objects[CORE] = {"metadata": {"labels": labels}}
    assert not_ok(api).get("pod security", (None,))[0] == level


# A cluster of the fakes is a head and three workers of 1 CPU and 2 GiB, one with a GPU: 4 CPU, 8 GiB, 4 pods.
@pytest.mark.parametrize(
    ("hard", "used", "lacking"),
    [
        ({"requests.cpu": "8", "pods": "8"}, {"requests.cpu": "4", "pods": "4"}, None),
        ({"requests.cpu": "7900m"}, {"requests.cpu": "4"}, "requests.cpu needs 4 and has 3.9 left"),
        ({"limits.memory": "15Gi"}, {"limits.memory": "8Gi"}, "limits.memory needs 8 GiB and has 7 GiB left"),
        ({"requests.nvidia.com/gpu": "1"}, {"requests.nvidia.com/gpu": "1"}, "nvidia.com/gpu needs 1"),
        ({"pods": "7"}, {"pods": "4"}, "pods needs 4 and has 3 left"),
    ],
)
def test_quota_needs_room_for_the_second_cluster_of_an_upgrade(hard, used, lacking):
    api = good()
    api.put(f"{CORE}/resourcequotas", quota(hard, used))
    level, text = not_ok(api).get("quota shop", (None, ""))
    assert (level, (lacking or "") in text) == ("failed" if lacking else None, True)


def test_before_an_install_the_quota_needs_room_for_two():
    api = good()
    api.put(f"{CORE}/resourcequotas", quota({"requests.cpu": "7"}, {}))
    assert not_ok(api) == {}
    assert "needs 8 and has 7 left" in not_ok(api, ray_service(), before=True)["quota shop"][1]


def test_room_is_what_other_pods_leave_on_usable_nodes():
    api = good()
    api.put("/api/v1/nodes", node("n1", cpu="5", gpus=1), node("n2", cpu="32", gpus=1, unschedulable=True))
    assert not_ok(api) == {}
    other = {
        "spec": {"nodeName": "n1", "containers": [container("other", cpu="1500m")]},
        "status": {"phase": "Running"},
    }
    api.put("/api/v1/pods", other)
    level, text = not_ok(api)["room for an upgrade"]
    assert level == "warning"
    assert text.startswith("1 of 4 pods find no node")


def test_group_that_may_be_zero_needs_room_for_its_first_pod():
    api = good()
    api.put("/api/v1/nodes", node("n1", cpu="3200m", gpus=0), node("n2", gpus=0))
    planned = ray_service(workers=(worker_group("gpu", 0, gpus=1),))
    assert "1 of 2 pods" in not_ok(api, planned, before=True)["room for a cluster"][1]


def test_room_before_an_install_is_judged_for_one_cluster_and_for_two():
    api = good()
    api.put("/api/v1/nodes", node("n1", cpu="5", gpus=1))
    assert set(not_ok(api, ray_service(), before=True)) == {"room for an upgrade"}
