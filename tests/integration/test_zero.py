"""Stages that go to zero when nothing is to do, and come back for whoever searches."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from scripts.measuring import replica_pids, wait_until
from tests.integration.service import Service

STAGES = ("Detector", "Embedder", "Searcher")
AT_ONCE = 30
TO_ZERO = {
    f"{stage.upper()}__SCALING__{name}": value
    for stage in STAGES
    for name, value in (("MIN_REPLICAS", "0"), ("DOWNSCALE_TO_ZERO_DELAY_S", "4"), ("DOWNSCALE_DELAY_S", "2"))
}
TRIED = {"SHADOW__MODEL": "ba9876543210", "SHADOW__SHARE": "1"}
"""A model that no registry has."""


@pytest.fixture(scope="module")
def service(tmp_path_factory, weights, radios):
    with Service(tmp_path_factory.mktemp("zero"), weights, **TO_ZERO, **TRIED, INGRESS__MAX_IN_FLIGHT="64") as running:
        running.shoplens("import", str(radios.folder))
        wait_until(lambda: ready(running), timeout_s=180, what="readiness")
        yield running


def ready(service: Service) -> bool:
    return httpx.get(f"{service.url}/v2/health/ready").is_success


def replicas(service: Service) -> int:
    return sum(len(replica_pids(service.process.pid, stage)) for stage in STAGES)


def test_idle_stages_go_to_zero_though_readiness_is_probed(service):
    def probed_and_idle() -> bool:
        assert ready(service)
        return replicas(service) == 0

    wait_until(probed_and_idle, timeout_s=90, what="the last replica's end")
    assert ready(service), "a stage at zero is ready"


def test_everyone_who_searches_at_zero_is_answered(service, radios):
    wait_until(lambda: replicas(service) == 0, timeout_s=90, what="the last replica's end")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: service.search(radios.images[0]), range(AT_ONCE)))
    assert [answer.status_code for answer in answers] == [200] * AT_ONCE
    waited_ms = [answer.json()["timings_ms"]["cold_start"] for answer in answers]
    assert all(0 < each < 90_000 for each in waited_ms)
    assert "cold_start" not in service.search(radios.images[0]).json()["timings_ms"]


def test_stages_that_have_worked_go_to_zero_again(service, radios):
    assert service.search(radios.images[0]).status_code == 200
    wait_until(lambda: replicas(service) == 0, timeout_s=90, what="the last replica's end")


def test_model_that_can_not_be_loaded_fails_in_the_shadow_alone(service, radios):
    def failed() -> list[dict]:
        assert service.search(radios.images[0]).status_code == 200
        return httpx.get(f"{service.url}/admin/shadow").json()["shadow"]["outcomes"]

    outcomes = wait_until(failed, timeout_s=90, what="a search in the shadow")
    assert {each["code"] for each in outcomes} == {"stage_unavailable"}
    assert ready(service)
