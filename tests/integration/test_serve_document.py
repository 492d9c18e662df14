"""Ray Serve accepts misspelt options in silence; these tests don't."""

import pytest
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeDeploySchema,
    TracingConfig,
)

from serve_app import deployments
from serve_app.app import build_app, serve_document, stage_configs
from serve_app.config import Config


@pytest.fixture
def config():
    return Config(milvus={"uri": "http://127.0.0.1:19530"})


def placed(config):
    """Return the settings with all that only a cluster sets."""
    ingress = config.ingress.model_copy(update={"label_selector": {"group": "cpu"}, "max_replicas_per_node": 1})
    http = config.http.model_copy(update={"request_timeout_s": 60.0})
    tracing = config.tracing.model_copy(update={"exporter": "shop.tracing:processors", "sampling_ratio": 0.5})
    return config.model_copy(update={"ingress": ingress, "http": http, "tracing": tracing})


def test_document_is_valid_for_ray_serve(config):
    document = ServeDeploySchema.model_validate(serve_document(placed(config)))
    assert document.applications[0].deployments[0].ray_actor_options.label_selector == {"group": "cpu"}
    assert [deployment.name for deployment in document.applications[0].deployments] == list(stage_configs(config))


def test_every_option_is_one_that_ray_serve_knows(config):
    document = serve_document(placed(config))
    (application,) = document["applications"]
    assert set(document["logging_config"]) <= set(LoggingConfig.model_fields)
    assert set(document["tracing_config"]) <= set(TracingConfig.model_fields)
    assert set(document) <= set(ServeDeploySchema.model_fields)
    assert set(document["http_options"]) <= set(HTTPOptionsSchema.model_fields)
    for deployment in application["deployments"]:
        assert set(deployment) <= set(DeploymentSchema.model_fields)
        assert set(deployment["ray_actor_options"]) <= set(RayActorOptionsSchema.model_fields)
        assert set(deployment["autoscaling_config"]) <= set(AutoscalingConfig.model_fields)


def test_each_deployment_of_the_document_is_a_class(config):
    assert all(isinstance(getattr(deployments, name), type) for name in stage_configs(config))


def test_application_is_built_with_the_documents_options(config):
    ingress = build_app(serve_document(config)["applications"][0]["args"])._bound_deployment
    assert ingress.name == "Ingress"
    assert ingress.max_ongoing_requests == config.ingress.max_ongoing_requests
    assert ingress.max_queued_requests == config.ingress.max_queued_requests


def test_search_parameters_stand_where_a_change_restarts_nothing(config):
    params = config.searcher.params.model_copy(update={"ef": 999})
    changed = config.model_copy(update={"searcher": config.searcher.model_copy(update={"params": params})})
    before, after = (serve_document(given)["applications"][0] for given in (config, changed))
    assert before["args"] == after["args"]
    (searcher,) = [deployment for deployment in after["deployments"] if deployment["name"] == "Searcher"]
    assert searcher["user_config"]["ef"] == 999


def test_how_stages_scale_stands_where_a_change_restarts_nothing(config):
    scaling = config.embedder.scaling.model_copy(update={"min_replicas": 0, "max_replicas": 9, "drain_s": 3.0})
    embedder = config.embedder.model_copy(update={"scaling": scaling, "max_ongoing_requests": 7})
    before, after = (
        serve_document(given)["applications"][0] for given in (config, config.model_copy(update={"embedder": embedder}))
    )
    assert before["args"] == after["args"]
    options = {deployment["name"]: deployment for deployment in after["deployments"]}
    assert options["Embedder"]["autoscaling_config"]["max_replicas"] == 9
    assert options["Ingress"]["user_config"]["bounds"]["Embedder"] == {"min_replicas": 0, "max_replicas": 9}


def test_model_that_is_tried_stands_where_a_change_restarts_nothing(config):
    shadow = config.shadow.model_copy(update={"model": "ba9876543210", "share": 0.5})
    before, after = (
        serve_document(given)["applications"][0] for given in (config, config.model_copy(update={"shadow": shadow}))
    )
    assert before["args"] == after["args"]
    shadows = [next(each for each in made["deployments"] if each["name"] == "Shadow") for made in (before, after)]
    assert [each["user_config"]["model"] for each in shadows] == [None, "ba9876543210"]
    scaling = [each["autoscaling_config"] for each in shadows]
    assert [(each["min_replicas"], each["initial_replicas"], each["max_replicas"]) for each in scaling] == [
        (0, 0, 1),
        (1, 1, 1),
    ]
    (embedder,) = [each for each in after["deployments"] if each["name"] == "Embedder"]
    assert shadows[1]["ray_actor_options"] == embedder["ray_actor_options"]
    assert after["deployments"][0]["user_config"]["shadow"] == {
        "model": "ba9876543210", "share": 0.5, "max_at_once": 2,
    }  # fmt: skip


def test_where_stages_run_stands_where_a_change_restarts_nothing(config):
    before, after = (serve_document(given)["applications"][0] for given in (config, placed(config)))
    assert before["args"] == after["args"]
    assert after["deployments"][0]["max_replicas_per_node"] == 1


def test_document_holds_no_secret(monkeypatch):
    for name in ("MILVUS__PASSWORD", "STORE__REDIS_PASSWORD", "STORE__SIGNING_KEY"):
        monkeypatch.setenv(f"SHOPLENS_{name}", "hush")
    assert "hush" not in str(serve_document(Config(milvus={"uri": "http://m:19530", "user": "root"})))


def test_stage_at_zero_starts_with_a_replica(config):
    zero = config.model_copy(
        update={
            "detector": config.detector.model_copy(
                update={"scaling": config.detector.scaling.model_copy(update={"min_replicas": 0})}
            )
        }
    )
    (detector,) = [d for d in serve_document(zero)["applications"][0]["deployments"] if d["name"] == "Detector"]
    assert detector["autoscaling_config"]["min_replicas"] == 0
    assert detector["autoscaling_config"]["initial_replicas"] == 1
