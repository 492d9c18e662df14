import pytest

from serve_app.cluster.facts import Snapshot
from serve_app.cluster.observing import Observer
from serve_app.cluster.status import Finding, findings, short
from serve_app.errors import KubernetesUnavailable, NotInstalled, RightMissing
from tests.unit.cluster_fakes import (
    CORE,
    RAY,
    SERVE_CONFIG,
    TARGET,
    FakeApi,
    cluster_status,
    condition,
    dashboard,
    dashboard_path,
    healthy,
    json_answer,
    pod,
    ray_cluster,
    ray_service,
    stage_details,
    waiting,
)

PODS = "ray.io/cluster in (shoplens-a)"
HEALTH = f"{CORE}/services/shoplens-serve-svc:8000/proxy/v2/health/ready"


def look(api: FakeApi) -> Snapshot:
    return Observer(api, TARGET).look()


def wrong(api: FakeApi) -> list[Finding]:
    return [each for each in findings(look(api)) if each.wrong]


def with_pod(document: dict) -> FakeApi:
    api = healthy()
    api.put(f"{CORE}/pods", document, labels=PODS)
    return api


def upgrading(*stages: dict, status: str = "DEPLOYING") -> FakeApi:
    api = healthy()
    upgrade = (condition("Ready", True), condition("UpgradeInProgress", True))
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service(*upgrade, pending=cluster_status("shoplens-b", status))
    api.answers[dashboard_path("shoplens-b")] = json_answer(200, dashboard(*stages, status=status))
    return api


def test_nothing_is_wrong_where_all_is_well():
    seen = look(healthy())
    assert findings(seen) == ()
    assert seen.unread == ()
    assert seen.in_work == 6
    assert (seen.gpus.used, seen.gpus.allocatable) == (1, 2)
    assert seen.health.model == "0123456789ab"


def test_pods_that_a_quota_refuses_are_told_with_its_words():
    api = upgrading()
    refused = ray_cluster("shoplens-b", 'pods "b-1" is forbidden: exceeded quota: room')
    api.put(f"{RAY}/rayclusters", ray_cluster("shoplens-a"), refused)
    (found,) = wrong(api)
    assert (
        found.what == 'Kubernetes makes no further pods for shoplens-b: pods "b-1" is forbidden: exceeded quota: room'
    )
    assert "the active cluster serves on" in found.todo


def test_replicas_come_from_the_dashboard_with_the_token_in_rays_own_header():
    api = healthy()
    stages = look(api).service.active.applications[0].stages
    assert [(each.name, each.ready, each.wanted) for each in stages] == [("Ingress", 2, 2), ("Detector", 0, 0)]
    assert api.headers[dashboard_path()] == {"X-Ray-Authorization": "Bearer t0ken"}


def test_without_the_right_to_the_token_the_services_own_status_is_shown_and_told():
    api = healthy()
    api.denied.add(f"{CORE}/secrets/shoplens-a")
    seen = look(api)
    assert not seen.service.active.from_dashboard
    assert seen.service.active.applications[0].status == "RUNNING"
    assert any("secrets" in each for each in seen.unread)
    assert findings(seen) == ()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nodes",
        "/api/v1/pods",
        f"{RAY}/rayjobs",
        "/api/v1/namespaces/milvus/pods",
        HEALTH,
        f"{CORE}/pods/cpu-1:8080/proxy/metrics",
    ],
)
def test_a_missing_right_that_is_not_needed_is_told_and_is_no_fault(path):
    api = healthy()
    api.denied.add(path)
    seen = look(api)
    assert len(seen.unread) == 1
    assert findings(seen) == ()


def test_without_the_right_to_the_pods_there_is_no_status():
    api = healthy()
    api.denied.add(f"{CORE}/pods")
    with pytest.raises(RightMissing):
        look(api)


def test_missing_release_names_the_command_and_what_is_there():
    api = FakeApi()
    api.put(f"{RAY}/rayservices", ray_service())
    with pytest.raises(NotInstalled, match=r"there is shoplens: name it with --release; `helm install"):
        Observer(api, TARGET).service()


def test_release_of_another_name_is_found_by_its_label():
    api = FakeApi()
    api.put(f"{RAY}/rayservices", ray_service(), labels="app.kubernetes.io/instance=shoplens")
    assert Observer(api, TARGET).service().name == "shoplens"


def test_cluster_without_kuberay_says_so():
    with pytest.raises(NotInstalled, match="does not know RayServices"):
        Observer(FakeApi(), TARGET).service()


def test_unobserved_generation_is_wrong():
    api = healthy()
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service(generation=4)
    assert "generation 4" in wrong(api)[0].what


@pytest.mark.parametrize(("reason", "todo"), [("ValidationFailed", "correct"), ("InitializingTimeout", "delete")])
def test_service_that_is_not_ready_says_why_and_what_to_do(reason, todo):
    api = healthy()
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service(condition("Ready", False, reason, "no such field"))
    assert "no such field" in wrong(api)[0].what
    assert todo in wrong(api)[0].todo


def test_upgrade_under_way_is_a_note_only():
    found = findings(look(upgrading(stage_details("Detector", 1, 0, "UPDATING"))))
    assert found
    assert not any(each.wrong for each in found)


def test_new_cluster_whose_detector_cannot_start_is_wrong_and_names_the_error():
    broken = stage_details(
        "Detector", 1, 0, "UPDATING", "The deployment failed to start 3 times in a row.\nBadWeights: x"
    )
    found = wrong(upgrading(broken))
    assert len(found) == 1
    assert "BadWeights: x" in found[0].what
    assert "serves on meanwhile" in found[0].todo


def test_stage_without_any_replica_is_wrong_and_one_with_some_is_a_note():
    api = healthy()
    stages = stage_details("Ingress", 2, 1), stage_details("Detector", 1, 0)
    api.answers[dashboard_path()] = json_answer(200, dashboard(*stages))
    found = findings(look(api))
    assert [("Detector" in each.what, each.wrong) for each in found] == [(True, True), (False, False)]


def test_settings_that_are_not_handed_over_yet_are_told():
    api = healthy()
    old = SERVE_CONFIG["applications"][0] | {"args": {"a": 2.0}}
    api.answers[dashboard_path()] = json_answer(200, dashboard(config=old))
    assert "settings" in findings(look(api))[0].what


@pytest.mark.parametrize(
    ("reason", "todo"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "GPU"),
        ("0/3 nodes are available: 3 Insufficient memory.", "enlarge"),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {gpu: }.", "tolerations"),
        ("pod has unbound immediate PersistentVolumeClaims", "pvc"),
        ("something new", "describe"),
    ],
)
def test_pending_pod_tells_the_schedulers_reason_and_what_to_do(reason, todo):
    found = wrong(with_pod(pod("gpu-1", phase="Pending", unscheduled=reason)))
    assert reason in found[0].what
    assert todo in found[0].todo


@pytest.mark.parametrize(
    ("reason", "todo"),
    [
        ("ImagePullBackOff", "shoplens:2"),
        ("CreateContainerConfigError", "Secret"),
        ("CrashLoopBackOff", "kubectl logs"),
    ],
)
def test_container_that_does_not_run_tells_why(reason, todo):
    found = wrong(with_pod(pod("cpu-1", waiting(reason, "because"))))
    assert f"{reason}: because" in found[0].what
    assert todo in found[0].todo


def test_starting_container_is_no_fault():
    assert wrong(with_pod(pod("cpu-1", waiting("PodInitializing")))) == []


def test_pod_that_ended_for_its_memory_names_the_limit():
    state = {"name": "worker", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    found = wrong(with_pod(pod("cpu-1", state, phase="Failed")))
    assert ["memory limit of cpu" in each.todo for each in found] == [True]


def test_pod_that_is_going_is_no_fault():
    document = pod("cpu-1", waiting("CrashLoopBackOff"))
    document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert wrong(with_pod(document)) == []


def test_missing_index_names_the_import():
    api = healthy()
    reason = "there is no index products_0123456789ab; `shoplens import MANIFEST` makes it"
    api.answers[HEALTH] = json_answer(503, {"status": "not ready", "reason": reason})
    assert "there is no index" in wrong(api)[0].what
    assert "import" in wrong(api)[0].todo


@pytest.mark.parametrize(
    ("message", "ready"),
    [("no endpoints available for service", False), ("error trying to reach service: i/o timeout", None)],
)
def test_service_that_the_proxy_cannot_reach_is_unknown_unless_no_pod_is_ready(message, ready):
    class Refusing(FakeApi):
        def through(self, path, headers=None):
            raise KubernetesUnavailable(message)

    api = Refusing()
    api.objects = healthy().objects
    seen = look(api)
    assert seen.health.ready is ready
    assert len(wrong(api)) == (ready is False)


def test_milvus_pod_that_is_not_ready_is_wrong():
    api = healthy()
    sick = pod("milvus-0", waiting("PodInitializing"), cluster="")
    api.put("/api/v1/namespaces/milvus/pods", sick, labels="app.kubernetes.io/name=milvus")
    assert "milvus-0" in wrong(api)[0].what


def test_only_the_newest_import_counts():
    jobs = [
        {"metadata": {"name": f"import-{day}", "creationTimestamp": f"2026-01-0{day}"}, "status": {"jobStatus": status}}
        for day, status in ((1, "FAILED"), (3, "FAILED"), (2, "SUCCEEDED"))
    ]
    api = healthy()
    api.put(f"{RAY}/rayjobs", *jobs[:1], jobs[2], labels="app.kubernetes.io/instance=shoplens")
    assert wrong(api) == []
    api.put(f"{RAY}/rayjobs", *jobs, labels="app.kubernetes.io/instance=shoplens")
    assert "import-3" in wrong(api)[0].what


def test_traceback_is_shortened_to_what_and_why():
    assert short("failed to start\n  File x\n    line\nValueError: no") == "failed to start … ValueError: no"
    assert len(short("x" * 1000)) == 400
