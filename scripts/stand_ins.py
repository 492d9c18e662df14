"""The service with models that take a known time: they sleep. Everything else is the service's own.

Ray Serve imports `build_app` from here; it is for benchmarks and drills of what is around the models.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray import serve
from ray.serve import Application, Deployment

from scripts.stand_in_service import FINGERPRINT
from serve_app import deployments
from serve_app.app import deployment_options
from serve_app.config import Config
from serve_app.domain import EMBEDDING_DIM, Box, Crops, Detection, Embeddings, Photo
from serve_app.replica_metrics import BatchMetrics
from serve_app.stages import BatchedDetector, BatchedEmbedder
from serve_app.starting import Settings, start

OBJECTS = (
    Detection(Box(0.1, 0.1, 0.5, 0.5), "chair", 0.9),
    Detection(Box(0.5, 0.5, 0.9, 0.9), "lamp", 0.8),
    Detection(Box(0.1, 0.5, 0.4, 0.9), "vase", 0.7),
)
"""What is found in every photo, so that each is four crops of work."""


class SleepingDetector:
    def __init__(self, photo_s: float) -> None:
        self._photo_s = photo_s

    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]:
        time.sleep(self._photo_s * len(photos))
        return [OBJECTS for _ in photos]


class SleepingEmbedder:
    def __init__(self, crop_s: float, fingerprint: str) -> None:
        self._crop_s = crop_s
        self.fingerprint = fingerprint

    def embed(self, crops: Crops) -> Embeddings:
        time.sleep(self._crop_s * len(crops))
        one = np.zeros((len(crops), EMBEDDING_DIM), np.float32)
        one[:, 0] = 1.0
        return one


class Detector(deployments.Detector):
    def __init__(self, settings: Settings, photo_s: float) -> None:
        config = start(settings)
        self._stage = BatchedDetector(
            SleepingDetector(photo_s),
            config.detector,
            max_pixels=config.limits.max_pixels,
            max_objects=config.limits.max_objects,
            watcher=BatchMetrics("detect"),
        )
        self._ready_s = time.monotonic()


class Embedder(deployments.Embedder):
    def __init__(self, settings: Settings, crop_s: float, model: str) -> None:
        config = start(settings)
        self._stage = BatchedEmbedder(SleepingEmbedder(crop_s, model), config.embedder, watcher=BatchMetrics("embed"))
        self._ready_s = time.monotonic()


def build_app(args: dict[str, Any]) -> Application:
    """Return the service; `args` hold its `settings`, `photo_s` and `crop_s`.

    `max_replicas_per_node`, and `autoscaling` by stage, replace what the settings say; `model` is the fingerprint.
    """
    settings, model = args["settings"], args.get("model", FINGERPRINT)
    config = Config(**settings)
    options = deployment_options(config)
    for name, autoscaling in args.get("autoscaling", {}).items():
        options[name]["autoscaling_config"] = autoscaling
    if "max_replicas_per_node" in args:
        for each in options.values():
            each["max_replicas_per_node"] = args["max_replicas_per_node"]

    def deployment(cls: type) -> Deployment:
        made: Deployment = serve.deployment(**options[cls.__name__])(cls)
        return made

    return deployment(deployments.Ingress).bind(
        settings,
        model,
        None,
        deployment(Detector).bind(settings, args["photo_s"]),
        deployment(Embedder).bind(settings, args["crop_s"], model),
        deployment(deployments.Searcher).bind(settings),
    )
