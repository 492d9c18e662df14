"""The stages as Ray Serve deployments.

A replica loads its own library only: adapters are imported in constructors.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
from ray import serve
from ray.exceptions import RayError
from ray.serve._private.common import ReplicaState
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle

from serve_app import telemetry
from serve_app.calibration import Curve
from serve_app.catalogue.products import ProductWriter
from serve_app.catalogue.staged import StageModels
from serve_app.collection import alias
from serve_app.config import Config, SearchParams, ShadowConfig
from serve_app.domain import Crops, Hit, Ranked, Terms
from serve_app.errors import StageUnavailable
from serve_app.filters import Filter
from serve_app.front import Front
from serve_app.index_watch import IndexWatch, Replicas
from serve_app.milvus.importing import import_pymilvus
from serve_app.objects import Focus
from serve_app.pipeline import Embedded, Found, ImageViews, Sighting, Stored
from serve_app.replica_metrics import BatchMetrics, SearchMetrics
from serve_app.resilience import RetryBudget
from serve_app.scaling import LoopMeter
from serve_app.stage_calls import SHADOW, StageCalls
from serve_app.stages import TriedEmbedder, load_detector, load_embedder, load_tried
from serve_app.starting import Settings, milvus_uris, start
from serve_app.stores import make_store, signing_key
from serve_app.turn_calls import ActorTurns
from serve_app.weights.chosen import curve_if_any
from serve_app.writes import Writes

if TYPE_CHECKING:
    from fastapi import FastAPI

INGRESS = "Ingress"
METRICS_TIMEOUT_S = 2.0
RETRY_SHARE = 0.1
"""Repeated stage calls, as a part of all."""


class _Stage:
    """Be one of the stages that may go to zero."""

    _ready_s: float

    async def warm(self) -> None:
        """Answer: a call that waits for this makes Ray Serve start a replica where there is none."""

    def age_s(self) -> float:
        return time.monotonic() - self._ready_s


class Detector(_Stage):
    """Decode photos, find their objects and cut their crops."""

    def __init__(self, settings: Settings) -> None:
        self._stage = load_detector(start(settings), BatchMetrics("detect"))
        self._ready_s = time.monotonic()

    async def detect(self, photo: bytes, focus: Focus, terms: Terms) -> Sighting:
        sighting = await self._stage.detect(photo, focus, terms)
        return replace(sighting, age_s=self.age_s())

    async def views(self, image: bytes, terms: Terms) -> ImageViews:
        return await self._stage.views(image, terms)

    def check_health(self) -> None:
        self._stage.batcher.check_health()

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._stage.batcher.report()

    async def __del__(self) -> None:
        await self._stage.close()


class Embedder(_Stage):
    """Turn crops into embeddings."""

    def __init__(self, settings: Settings) -> None:
        self._stage = load_embedder(start(settings), BatchMetrics("embed"))
        self._ready_s = time.monotonic()

    async def embed(self, crops: Crops, terms: Terms) -> Embedded:
        embedded = await self._stage.embed(crops, terms)
        return replace(embedded, age_s=self.age_s())

    async def embed_as(self, model: str, crops: Crops, terms: Terms) -> Embedded:
        return await self._stage.embed_as(model, crops, terms)

    def check_health(self) -> None:
        self._stage.batcher.check_health()

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._stage.batcher.report()

    async def __del__(self) -> None:
        await self._stage.close()


class Shadow:
    """Turn crops into the embeddings of the model that is tried."""

    def __init__(self, settings: Settings) -> None:
        config = start(settings)
        self._tried = TriedEmbedder(lambda model: load_tried(config, model, BatchMetrics("shadow")))
        self._meter = LoopMeter(time.monotonic(), time.process_time())

    async def reconfigure(self, tried: dict[str, str | None]) -> None:
        """Take another model without a restart: Serve calls this with `user_config`."""
        await self._tried.take(tried["model"])

    async def embed(self, model: str, crops: Crops, terms: Terms) -> Embedded:
        with self._meter.call():
            return await self._tried.embed(model, crops, terms)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._meter.report(time.monotonic(), time.process_time())

    async def __del__(self) -> None:
        await self._tried.take(None)


class Searcher(_Stage):
    """Search the collections that the models' aliases stand for."""

    def __init__(self, settings: Settings) -> None:
        config = start(settings)
        import_pymilvus()
        from serve_app.milvus.models import ModelSearchers

        self._index = ModelSearchers(milvus_uris(config), config.milvus, config.catalogue, SearchParams())
        self._meter = LoopMeter(time.monotonic(), time.process_time())
        self._ready_s = time.monotonic()

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._meter.report(time.monotonic(), time.process_time())

    def reconfigure(self, params: Settings) -> None:
        """Take other search parameters without a restart: Serve calls this with `user_config`."""
        self._index.params = SearchParams(**params)

    async def search(self, embedded: Embedded, k: int, wanted: Filter, strong: bool, terms: Terms) -> Found:
        with self._meter.call():
            found = await self._index.search(embedded, k, wanted, strong, terms)
        return replace(found, age_s=self.age_s())

    async def refresh(self, model: str, ranked: Sequence[Ranked], terms: Terms) -> Found:
        with self._meter.call():
            return await self._index.refresh(model, ranked, terms)

    async def product(self, model: str, product_id: str, vectors: bool, strong: bool, terms: Terms) -> Stored:
        with self._meter.call():
            return await self._index.product(model, product_id, vectors, strong, terms)

    async def image(self, model: str, image_id: str, terms: Terms) -> Hit | None:
        with self._meter.call():
            return await self._index.image(model, image_id, terms)

    async def __del__(self) -> None:
        await self._index.close()


@serve.ingress()
class Ingress(Front):
    """Answer HTTP."""

    def __init__(
        self,
        settings: Settings,
        fingerprint: str,
        curve: Curve | None,
        detector: DeploymentHandle[Any],
        embedder: DeploymentHandle[Any],
        searcher: DeploymentHandle[Any],
        shadow: DeploymentHandle[Any] | None = None,
    ) -> None:
        """Without a `shadow`, no model is tried."""
        config = self._config = start(settings)
        import_pymilvus()
        handles = {"Detector": detector, "Embedder": embedder, "Searcher": searcher}
        self._has_shadow = shadow is not None
        if shadow is not None:
            handles[SHADOW] = shadow
        stages = self._calls = StageCalls(handles, RetryBudget(RETRY_SHARE, reserve=config.ingress.max_in_flight))
        deadline_s = config.limits.write_deadline_s
        super().__init__(
            config,
            fingerprint,
            stages,
            make_store(config.store),
            signing_key=signing_key(config.store),
            writes=Writes(_product_writer(config, fingerprint, stages), ActorTurns(deadline_s), deadline_s),
            curve=curve,
            watch=_index_watch(config, fingerprint),
            counts=SearchMetrics(),
        )
        self._running = asyncio.get_running_loop().create_task(self.run())

    async def reconfigure(self, changed: dict[str, Any]) -> None:
        """Take other bounds of the stages' replicas, and another model to try: Serve calls this with `user_config`."""
        bounds: dict[str, dict[str, int]] = changed["bounds"]
        self.watch.most_replicas = {stage: each["max_replicas"] for stage, each in bounds.items()}
        self._calls.from_zero = [stage for stage, each in bounds.items() if each["min_replicas"] == 0]
        limits = self._config.limits
        self.entrance.deadline_s = limits.cold_deadline_s if self._calls.from_zero else limits.deadline_s
        tried = ShadowConfig(**changed["shadow"])
        model = tried.model if self._has_shadow else None
        curve = None if model is None else await asyncio.to_thread(curve_if_any, self._config, model)
        self.mirror.follow(model, share=tried.share, most=tried.max_at_once, curve=curve)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self.entrance.report()

    def __serve_build_asgi_app__(self) -> FastAPI:
        from serve_app.api.app import create_app

        return create_app(self)

    async def metrics(self) -> str:
        async with httpx.AsyncClient(timeout=METRICS_TIMEOUT_S) as client:
            answer = await client.get(f"http://127.0.0.1:{self._config.http.metrics_port}/metrics")
        return telemetry.service_metrics(answer.text)

    async def __del__(self) -> None:
        self._running.cancel()
        await self.close()


def _index_watch(config: Config, fingerprint: str) -> IndexWatch:
    """Look at the alias from the ingress, not through the searcher: looking must not wake a stage at zero."""
    from serve_app.milvus.searcher import MilvusSearcher

    name = alias(config.catalogue, fingerprint)
    searcher = MilvusSearcher(milvus_uris(config), config.milvus, name)
    return IndexWatch(name, searcher.index, _replicas, ingress=INGRESS)


def _product_writer(
    config: Config, model: str, stages: StageCalls
) -> Callable[[], AbstractContextManager[ProductWriter]]:
    """Return what opens a writer of products; its calls to Milvus last no longer than a write may."""
    from serve_app.catalogue.feed_driver import opened_for_products

    deadline_s = config.limits.write_deadline_s
    brief = {"write_deadline_s": min(deadline_s, config.milvus.write_deadline_s)}
    own = config.model_copy(update={"milvus": config.milvus.model_copy(update=brief)})
    models = StageModels(stages, asyncio.get_running_loop(), deadline_s)
    return partial(opened_for_products, own, milvus_uris(config)[0], model, models)


def _replicas() -> dict[str, Replicas]:
    """Return the replicas of each stage; raises StageUnavailable where Ray Serve does not tell."""
    # What `serve.status` is made of: its models pickle classes each time, which took an ingress 4 % of all samples of
    # a profile, once a second, in the way of its searches.
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        return {}
    try:
        details = client.get_serve_details()
    except RayError as error:
        raise StageUnavailable(str(error)) from error
    application = details["applications"].get(serve.get_replica_context().app_name)
    if application is None:
        return {}
    states = {
        name: Counter(replica["state"] for replica in found["replicas"])
        for name, found in application["deployments"].items()
    }
    return {name: Replicas(each[ReplicaState.RUNNING], each[ReplicaState.STARTING]) for name, each in states.items()}
