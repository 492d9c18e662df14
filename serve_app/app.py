"""The wiring: settings in, a Ray Serve application out."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import ray
from ray import serve
from ray.serve import Application, Deployment
from ray.serve._private.constants import SERVE_LOGGER_NAME

from serve_app import deployments
from serve_app.config import Config, StageConfig
from serve_app.local_ray import start
from serve_app.scaling import Aims
from serve_app.stage_calls import SHADOW
from serve_app.weights.chosen import curve_of, model_of

APPLICATION = "shoplens"
LOGICAL_CPUS = 4
"""What a laptop's Ray counts with: shares of it are handed to replicas, however few cores there are."""
OBJECT_STORE_BYTES = 256 * 2**20
"""Photos and crops cross by gRPC; the object store is hardly used."""

AIMS = {field.name for field in dataclasses.fields(Aims)}
"""Settings that the scaling policy is made with."""
METRICS_INTERVAL_S = 1.0
LOOK_BACK_S = 3.0
"""What replicas report is averaged over."""


def stage_configs(config: Config) -> dict[str, StageConfig]:
    """Return the settings of each deployment by its name."""
    return {
        "Ingress": config.ingress,
        "Detector": config.detector,
        "Embedder": config.embedder,
        "Searcher": config.searcher,
        SHADOW: _shadow_stage(config),
    }


def _shadow_stage(config: Config) -> StageConfig:
    """Return the settings of a second embedder, as quick as the first, that has a replica while a model is tried."""
    replicas = {"min_replicas": 0 if config.shadow.model is None else 1, "max_replicas": 1}
    scaling = config.embedder.scaling.model_copy(update=replicas)
    return config.embedder.model_copy(update={"scaling": scaling})


def deployment_options(config: Config) -> dict[str, dict[str, Any]]:
    """Return each deployment's options in the words of Ray Serve's schema."""
    stages = stage_configs(config)
    # What stands in `user_config` is changed without a restart.
    bounds = {
        name: stage.scaling.model_dump(include={"min_replicas", "max_replicas"})
        for name, stage in stages.items()
        if name not in (deployments.INGRESS, SHADOW)
    }
    changeable = {
        deployments.INGRESS: {"bounds": bounds, "shadow": config.shadow.model_dump()},
        "Searcher": config.searcher.params.model_dump(),
        SHADOW: {"model": config.shadow.model},
    }
    # A stage that starts at zero would hide a broken model behind a healthy deployment; the shadow is to hide one.
    first = {name: max(int(name != SHADOW), stage.scaling.min_replicas) for name, stage in stages.items()}
    return {
        name: _options(stage, first[name]) | ({"user_config": changeable[name]} if name in changeable else {})
        for name, stage in stages.items()
    }


def _options(stage: StageConfig, first_replicas: int) -> dict[str, Any]:
    scaling = stage.scaling
    where = {"label_selector": stage.label_selector} if stage.label_selector else {}
    spread = {"max_replicas_per_node": stage.max_replicas_per_node} if stage.max_replicas_per_node else {}
    return spread | {
        "ray_actor_options": {"num_cpus": stage.num_cpus, "num_gpus": stage.num_gpus, **where},
        "max_ongoing_requests": stage.max_ongoing_requests,
        "max_queued_requests": stage.max_queued_requests,
        "health_check_period_s": stage.health_check_period_s,
        "health_check_timeout_s": stage.health_check_timeout_s,
        "graceful_shutdown_timeout_s": stage.graceful_shutdown_timeout_s,
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "initial_replicas": first_replicas,
            "max_replicas": scaling.max_replicas,
            "policy": {
                "policy_function": "serve_app.scaling:StagePolicy",
                "policy_kwargs": scaling.model_dump(include=AIMS),
            },
            "metrics_interval_s": METRICS_INTERVAL_S,
            "look_back_period_s": LOOK_BACK_S,
            # The policy waits by itself: it knows what was needed all the while, and Serve's delays the last value.
            "upscale_delay_s": 0.0,
            "downscale_delay_s": 0.0,
        },
    }


def serve_document(config: Config) -> dict[str, Any]:
    """Return the whole Ray Serve configuration, as `serve deploy` and KubeRay's serveConfigV2 take it."""
    return {
        "proxy_location": "EveryNode",
        "http_options": http_options(config),
        # Of each search the ingress logs one line by itself.
        "logging_config": {"encoding": "JSON", "enable_access_log": False},
        **tracing(config),
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": "serve_app.app:build_app",
                "args": arguments(config),
                "deployments": [{"name": name, **options} for name, options in deployment_options(config).items()],
            }
        ],
    }


def http_options(config: Config) -> dict[str, Any]:
    """Return where Ray Serve listens, and for how long it waits."""
    http = config.http
    timeout = {} if http.request_timeout_s is None else {"request_timeout_s": http.request_timeout_s}
    return {"host": http.host, "port": http.port, **timeout}


def tracing(config: Config) -> dict[str, Any]:
    """Return Ray Serve's tracing as the document names it; nothing where there are no traces."""
    if not config.tracing.exporter:
        return {}
    return {
        "tracing_config": {
            "enabled": True,
            "exporter_import_path": config.tracing.exporter,
            "sampling_ratio": config.tracing.sampling_ratio,
        }
    }


def arguments(config: Config) -> dict[str, Any]:
    """Return the settings as JSON, without secrets: each replica reads those from its own environment.

    What Ray Serve is told as options of the deployments is left out too: replicas start anew when an argument changes.
    """
    options = set(StageConfig.model_fields)
    exclude: dict[str, Any] = {
        "auth": {"keys"},
        "milvus": {"password"},
        "feed": {"kafka_password"},
        "store": {"redis_password", "signing_key"},
        "http": {"request_timeout_s"},
        "tracing": True,
    }
    exclude |= {name.lower(): options for name in stage_configs(config)}
    exclude["searcher"] = options | {"params"}
    exclude["shadow"] = True
    values: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude=exclude)
    return values


def build_app(args: dict[str, Any]) -> Application:
    """Return the deployments, composed; `args` are the settings as in the YAML file."""
    return _composed(Config(**args), args)


def _composed(config: Config, args: dict[str, Any]) -> Application:
    options = deployment_options(config)

    def deployment(cls: type) -> Deployment:
        made: Deployment = serve.deployment(**options[cls.__name__])(cls)
        return made

    model = model_of(config)
    return deployment(deployments.Ingress).bind(
        args,
        model,
        curve_of(config, model),
        deployment(deployments.Detector).bind(args),
        deployment(deployments.Embedder).bind(args),
        deployment(deployments.Searcher).bind(args),
        deployment(deployments.Shadow).bind(args),
    )


@contextmanager
def local_ray(config: Config) -> Iterator[None]:
    """Run a Ray of this machine's own until the block ends.

    The environment of `serve_app.ray_environment` has to be set before this module is imported. Ray takes the
    process's signal handlers while it starts. Raises StageUnavailable where it does not start.
    """
    start(
        num_cpus=LOGICAL_CPUS,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _metrics_export_port=config.http.metrics_port,
    )
    try:
        yield
    finally:
        with _unheard():
            ray.shutdown()


@contextmanager
def serving(config: Config) -> Iterator[None]:
    """Serve the application on the Ray that runs, until the block ends."""
    logging.getLogger(SERVE_LOGGER_NAME).setLevel(logging.WARNING)
    try:
        serve.start(proxy_location="HeadOnly", http_options=http_options(config), **tracing(config))
        serve.run(_composed(config, arguments(config)), name=APPLICATION, route_prefix="/", blocking=False)
        yield
    finally:
        with _unheard():
            serve.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep Ray from telling people that its controller, which was asked to end, has ended."""
    with redirect_stdout(io.StringIO()):
        yield
