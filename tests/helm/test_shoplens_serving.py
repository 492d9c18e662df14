"""The chart's Serve configuration is the code's, and its environment too."""

from typing import Any

import pytest
import yaml

from scripts import chart_settings
from serve_app.app import serve_document, stage_configs
from serve_app.config import Config, load_config
from serve_app.ray_environment import CLUSTER
from tests.helm.conftest import Document
from tests.helm.shoplens import SHAPES, of_kind, rayjob, rayservice, render, values_of


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """Return layers of settings, the later over the earlier, as Helm merges values."""
    made: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = made.get(key)
            made[key] = merged(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return made


def config_of(shape: str) -> Config:
    """Return the settings that a shape stands for, made without the chart's templates."""
    files = [chart_settings.CHART / "values.yaml", *values_of(shape)]
    values = merged(*(yaml.safe_load(path.read_text()) for path in files))
    lite, milvus = values["lite"]["enabled"], values["milvus"]
    where: dict[str, Any] = {
        "uri": "http://shop-lite:19530" if lite else milvus["uri"],
        "more_uris": milvus["moreUris"],
    }
    if milvus["existingSecret"]:
        where |= {"user": milvus["user"], "password_file": "/secrets/milvus/password"}
    given = values["auth"]
    auth: dict[str, Any] = {
        "anonymous_search": given["anonymousSearch"],
        "public": given["public"],
        "origins": given["origins"],
        "trusted_proxies": given["trustedProxies"],
    }
    if given["existingSecret"]:
        auth["keys_file"] = "/secrets/auth/keys"
    models = "gpu" if values["gpuWorkers"]["enabled"] else "cpu"
    groups = {"ingress": "cpu", "searcher": "cpu", "detector": models, "embedder": models}
    placed = {stage: {"label_selector": {"shoplens-group": group}} for stage, group in groups.items()}
    return Config(**merged(chart_settings.IN_A_CLUSTER, {"milvus": where, "auth": auth}, placed, values["config"]))


@pytest.mark.parametrize("shape", SHAPES)
def test_serve_config_is_what_the_code_makes_of_the_same_settings(shape: str) -> None:
    assert yaml.safe_load(rayservice(shape)["spec"]["serveConfigV2"]) == serve_document(config_of(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_file_of_settings_that_jobs_read_says_the_same(shape: str, tmp_path: Any) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(of_kind(render(shape), "ConfigMap")["shop-settings"]["data"]["settings.yaml"])
    assert load_config(path) == config_of(shape)


def test_model_that_is_tried_changes_what_restarts_nothing_alone() -> None:
    room = ("gpuWorkers.maxReplicas=2",)
    off, on = (
        yaml.safe_load(rayservice("team", *given)["spec"]["serveConfigV2"])["applications"][0]
        for given in (room, ("config.shadow.model=ba9876543210", *room))
    )
    assert off["args"] == on["args"]
    shadow, without = on["deployments"][-1], off["deployments"][-1]
    assert (shadow["user_config"], shadow["autoscaling_config"]["min_replicas"]) == ({"model": "ba9876543210"}, 1)
    assert (without["user_config"], without["autoscaling_config"]["initial_replicas"]) == ({"model": None}, 0)
    assert [each["name"] for each in on["deployments"]] == list(stage_configs(Config()))


def test_a_setting_that_is_false_zero_or_empty_wins_over_its_default() -> None:
    zero = ("config.degradation.no_detector=false", "config.fetch.max_redirects=0", "config.fetch.allow_hosts=[]")
    document = yaml.safe_load(rayservice("cpu", *zero)["spec"]["serveConfigV2"])
    args = document["applications"][0]["args"]
    assert args["degradation"]["no_detector"] is False
    assert args["fetch"]["max_redirects"] == 0


def test_defaults_and_schema_of_the_settings_are_current() -> None:
    for path, text in chart_settings.wanted().items():
        assert path.read_text() == text, "run: python -m scripts.chart_settings"


def clusters(shape: str) -> list[Document]:
    job = rayjob(shape)
    return [rayservice(shape)["spec"]["rayClusterConfig"]] + ([job["spec"]["rayClusterSpec"]] if job else [])


@pytest.mark.parametrize("shape", SHAPES)
def test_head_and_workers_have_the_environment_of_a_cluster(shape: str) -> None:
    for cluster in clusters(shape):
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            (container,) = group["template"]["spec"]["containers"]
            env = {entry["name"]: entry.get("value") for entry in container["env"]}
            assert {name: env.get(name) for name in CLUSTER} == dict(CLUSTER)
            rayish = {name for name in env if name.startswith("RAY_")}
            assert rayish - set(CLUSTER) == {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_drains_first_ends_first(shape: str) -> None:
    document = yaml.safe_load(rayservice(shape)["spec"]["serveConfigV2"])
    longest = max(each["graceful_shutdown_timeout_s"] for each in document["applications"][0]["deployments"])
    cluster = rayservice(shape)["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
        drain = int(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
        assert longest < drain < pod["terminationGracePeriodSeconds"]


def test_ingress_and_searcher_keep_off_gpus() -> None:
    document = yaml.safe_load(rayservice("team")["spec"]["serveConfigV2"])
    groups = rayservice("team")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert {group["groupName"]: group["labels"] for group in groups} == {
        "cpu": {"shoplens-group": "cpu"},
        "gpu": {"shoplens-group": "gpu"},
    }
    placed = {
        each["name"]: each["ray_actor_options"]["label_selector"]["shoplens-group"]
        for each in document["applications"][0]["deployments"]
    }
    assert placed == {"Ingress": "cpu", "Searcher": "cpu", "Detector": "gpu", "Embedder": "gpu", "Shadow": "gpu"}
