import pytest

from serve_app.cluster.facts import Snapshot
from serve_app.cluster.observing import Observer
from serve_app.cluster.rollout import SURE_S, judge, wait
from serve_app.errors import DeadlineExceeded, KubernetesUnavailable, RolloutFailed
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
    ray_service,
    stage_details,
    waiting,
)

RAY_SERVICE = f"{RAY}/rayservices/shoplens"
STARTING = (condition("Ready", False, "Initializing"), condition("UpgradeInProgress", False))
BROKEN = stage_details("Detector", 1, 0, "UPDATING", "The deployment failed to start 3 times in a row.\nBadWeights: x")


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def look(api: FakeApi) -> Snapshot:
    return Observer(api, TARGET).look()


def waited(looks, timeout_s: float = 100) -> tuple[str, Clock, list[str]]:
    clock, told = Clock(), []
    return wait(looks, timeout_s, clock, clock.sleep, told.append), clock, told


def installing(*stages: dict, status: str = "DEPLOYING") -> FakeApi:
    api = healthy()
    api.objects[RAY_SERVICE] = ray_service(*STARTING, active={}, pending=cluster_status("shoplens-b", status))
    api.answers[dashboard_path("shoplens-b")] = json_answer(200, dashboard(*stages, status=status))
    return api


def test_running_release_is_done_at_once():
    word, clock, told = waited(lambda: look(healthy()))
    assert "shoplens-a" in word
    assert clock.now_s == 0
    assert told == []


@pytest.mark.parametrize(
    "service",
    [
        ray_service(generation=4),
        ray_service(*STARTING),
        ray_service(*STARTING, active={}),
        ray_service(pending=cluster_status("shoplens-b", "RUNNING")),
        ray_service(active={"rayClusterName": "shoplens-a"}),
    ],
    ids=["generation", "not ready", "no cluster", "pending cluster", "no application"],
)
def test_what_is_not_there_yet_is_waited_for(service):
    api = healthy()
    api.objects[RAY_SERVICE] = service
    del api.answers[dashboard_path()]
    assert judge(look(api)).state == "waiting"


@pytest.mark.parametrize(
    "details",
    [
        dashboard(status="DEPLOYING"),
        dashboard(config=SERVE_CONFIG["applications"][0] | {"args": {"a": 2.0}}),
        {"applications": {}},
    ],
    ids=["deploying", "settings from before", "none"],
)
def test_application_of_the_active_cluster_is_waited_for(details):
    api = healthy()
    api.answers[dashboard_path()] = json_answer(200, details)
    assert judge(look(api)).state == "waiting"


def test_release_that_comes_to_run_is_waited_for_and_told_of():
    looks = [installing(), installing(), healthy()]
    word, _, told = waited(lambda: look(looks.pop(0)))
    assert "runs in shoplens-a" in word
    assert set(told) == {"the cluster shoplens-b is starting"}


@pytest.mark.parametrize(
    ("api", "reason"),
    [(installing(BROKEN), "BadWeights: x"), (installing(status="DEPLOY_FAILED"), "does not start")],
    ids=["replicas", "application"],
)
def test_stage_that_does_not_start_ends_the_wait_with_its_error(api, reason):
    with pytest.raises(RolloutFailed, match=reason):
        waited(lambda: look(api), timeout_s=1000)


def test_image_that_cannot_be_had_ends_the_wait():
    api = installing()
    sick = pod("cpu-1", waiting("ImagePullBackOff", "no such image"), cluster="shoplens-b")
    api.put(f"{CORE}/pods", sick, labels="ray.io/cluster in (shoplens-b)")
    with pytest.raises(RolloutFailed, match=r"no such image.*shoplens:2"):
        waited(lambda: look(api), timeout_s=1000)


def test_trouble_that_heals_does_not_end_the_wait():
    looks = [installing(BROKEN)] * int(SURE_S / 2 - 1) + [installing()] + [installing(BROKEN)] * 3 + [healthy()]
    word, clock, _ = waited(lambda: look(looks.pop(0)))
    assert "runs" in word
    assert clock.now_s > SURE_S


def test_trouble_of_the_cluster_that_goes_does_not_count():
    api = healthy()
    sick = pod("cpu-1", waiting("ImagePullBackOff"), cluster="shoplens-old")
    api.put(f"{CORE}/pods", sick, labels="app.kubernetes.io/instance=shoplens")
    assert judge(look(api)).state == "done"


def test_refused_release_ends_the_wait_at_once():
    api = healthy()
    api.objects[RAY_SERVICE] = ray_service(condition("Ready", False, "ValidationFailed", "name too long"), observed=3)
    clock = Clock()
    with pytest.raises(RolloutFailed, match="name too long"):
        wait(lambda: look(api), 100, clock, clock.sleep, lambda _: None)
    assert clock.now_s == 0


def test_end_of_the_time_tells_what_is_wrong():
    api = installing()
    pending = pod("gpu-1", cluster="shoplens-b", phase="Pending", unscheduled="3 Insufficient nvidia.com/gpu")
    api.put(f"{CORE}/pods", pending, labels="ray.io/cluster in (shoplens-b)")
    with pytest.raises(DeadlineExceeded, match=r"Insufficient nvidia\.com/gpu"):
        waited(lambda: look(api))


def test_api_server_that_is_away_for_a_moment_is_waited_for():
    looks = [None, healthy()]

    def one() -> Snapshot:
        api = looks.pop(0)
        if api is None:
            raise KubernetesUnavailable("the API server does not answer")
        return look(api)

    word, _, told = waited(one)
    assert "runs" in word
    assert told == ["the API server does not answer"]
