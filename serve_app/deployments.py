"""The four stages as Ray Serve deployments.

A replica loads its own library only: adapters are imported in constructors.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve._private.common import ReplicaState
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from ray.util.metrics import Counter, Histogram

from serve_app import telemetry
from serve_app.api.service import IndexView
from serve_app.collection import IndexState, alias
from serve_app.config import Config, SearchParams
from serve_app.domain import Crops, Embeddings
from serve_app.errors import (
    BadConfig,
    DeadlineExceeded,
    IndexMissing,
    Overloaded,
    ShoplensError,
    StageUnavailable,
)
from serve_app.filters import Filter
from serve_app.pipeline import Answer, Found, Pipeline, Query, Sighting
from serve_app.stages import load_detector, load_embedder

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

INGRESS = "Ingress"
INDEX_CHECK_S = 2.0
METRICS_TIMEOUT_S = 2.0

Settings = dict[str, Any]
"""The settings as JSON; each replica adds secrets from its own environment."""


def _start(settings: Settings) -> Config:
    config = Config(**settings)
    telemetry.configure_logging(config.log_file)
    if ipaddress.ip_address(config.http.host).is_loopback:
        _listen_on_loopback()
    return config


def _listen_on_loopback() -> None:
    """Keep a laptop's replicas from listening to its network.

    Ray Serve 2.60 binds each replica's gRPC server to every interface and unpickles what arrives
    (ray/serve/_private/replica.py, _on_initialized). To be removed once Serve lets the address be set.
    """
    replica: Any = importlib.import_module("ray.serve._private.replica")
    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))


class _BatchMetrics:
    """Measure batches where the model runs them."""

    def __init__(self, stage: str) -> None:
        self._items = Histogram(telemetry.BATCH_ITEMS, boundaries=list(telemetry.BATCH_BOUNDARIES), tag_keys=("stage",))
        self._wait = Histogram(
            telemetry.BATCH_WAIT_MS, boundaries=list(telemetry.STAGE_MS_BOUNDARIES), tag_keys=("stage",)
        )
        self._tags = {"stage": stage}

    def observe(self, items: int, waits_ms: Sequence[float]) -> None:
        self._items.observe(items, tags=self._tags)
        for wait_ms in waits_ms:
            self._wait.observe(wait_ms, tags=self._tags)


class Detector:
    """Decode photos, find their objects and cut their crops."""

    def __init__(self, settings: Settings) -> None:
        self._stage = load_detector(_start(settings), _BatchMetrics("detect").observe)

    async def detect(self, photo: bytes, objects: int) -> Sighting:
        return await self._stage.detect(photo, objects)

    def check_health(self) -> None:
        self._stage.check_health()

    async def __del__(self) -> None:
        await self._stage.close()


class Embedder:
    """Turn crops into embeddings."""

    def __init__(self, settings: Settings) -> None:
        self._stage = load_embedder(_start(settings), _BatchMetrics("embed").observe)

    async def embed(self, crops: Crops) -> Embeddings:
        return await self._stage.embed(crops)

    def check_health(self) -> None:
        self._stage.check_health()

    async def __del__(self) -> None:
        await self._stage.close()


class Searcher:
    """Search the collection that the model's alias stands for."""

    def __init__(self, settings: Settings, fingerprint: str) -> None:
        from serve_app.milvus.searcher import MilvusSearcher

        config = _start(settings)
        self._index = MilvusSearcher(_milvus_uris(config), config.milvus, alias(config.catalogue, fingerprint))

    def reconfigure(self, params: Settings) -> None:
        """Take other search parameters without a restart: Serve calls this with `user_config`."""
        self._index.params = SearchParams(**params)

    async def search(self, embeddings: Embeddings, k: int, wanted: Filter, strong: bool) -> Found:
        return await self._index.search(embeddings, k, wanted, strong)

    async def __del__(self) -> None:
        await self._index.close()


async def call(method: Any, *arguments: Any) -> Any:
    """Call a stage, once more where its replica died under the call, and return its own kind of errors.

    Stage calls change nothing, so a second one is safe; Serve itself never repeats a call.
    """
    for attempt in (1, 2):
        try:
            return await method.remote(*arguments)
        except ShoplensError:
            raise
        except RayTaskError as error:
            cause = error.cause
            raise (
                cause if isinstance(cause, ShoplensError) else StageUnavailable(f"a stage failed: {cause!r}")
            ) from error
        except BackPressureError as error:
            raise Overloaded("too many searches wait; try again shortly") from error
        except RayActorError as error:
            if attempt == 2:
                raise StageUnavailable("a stage went away twice during this search; try again") from error
            log.warning("stage call repeated", extra={"cause": str(error)[:200]})
    raise AssertionError


class _Stages:
    """Give deployment handles the shape of the pipeline's protocols."""

    def __init__(
        self, detector: DeploymentHandle[Any], embedder: DeploymentHandle[Any], searcher: DeploymentHandle[Any]
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._searcher = searcher

    async def detect(self, photo: bytes, objects: int) -> Sighting:
        sighting: Sighting = await call(self._detector.detect, photo, objects)
        return sighting

    async def embed(self, crops: Crops) -> Embeddings:
        embeddings: Embeddings = await call(self._embedder.embed, crops)
        return embeddings

    async def search(self, embeddings: Embeddings, k: int, wanted: Filter, strong: bool) -> Found:
        found: Found = await call(self._searcher.search, embeddings, k, wanted, strong)
        return found


@serve.ingress()
class Ingress:
    """Answer HTTP: admit, bound by a deadline, run the pipeline over the stages."""

    def __init__(
        self,
        settings: Settings,
        fingerprint: str,
        detector: DeploymentHandle[Any],
        embedder: DeploymentHandle[Any],
        searcher: DeploymentHandle[Any],
    ) -> None:
        config = _start(settings)
        self.fingerprint = fingerprint
        self.max_body_bytes = config.limits.max_body_bytes
        self._config = config
        stages = _Stages(detector, embedder, searcher)
        self._pipeline = Pipeline(stages, stages, stages, rows_per_product=config.searcher.candidates_per_product)
        self._in_flight = 0
        self._index = IndexView(None, "the index has not been looked at yet")
        self._was_ready = False
        self._missing = False
        self._alias = alias(config.catalogue, fingerprint)
        self._requests = Counter(telemetry.REQUESTS, tag_keys=("code",))
        self._stage_ms = Histogram(
            telemetry.STAGE_MS, boundaries=list(telemetry.STAGE_MS_BOUNDARIES), tag_keys=("stage",)
        )
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def __serve_build_asgi_app__(self) -> FastAPI:
        from serve_app.api.app import create_app

        return create_app(self)

    async def search(self, photo: bytes, query: Query) -> Answer:
        if self._in_flight >= self._config.ingress.max_in_flight:
            raise Overloaded("too many searches are in work; try again shortly")
        if self._missing:
            raise IndexMissing(self._index.reason)
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._deadline_s()):
                return await self._pipeline.run(photo, query)
        except TimeoutError as error:
            raise DeadlineExceeded("the search took longer than it may; try again") from error
        finally:
            self._in_flight -= 1

    def _deadline_s(self) -> float:
        stages = (self._config.detector, self._config.embedder, self._config.searcher)
        from_zero = any(stage.scaling.min_replicas == 0 for stage in stages)
        return self._config.limits.cold_deadline_s if from_zero else self._config.limits.deadline_s

    def index(self) -> IndexView:
        return self._index

    def ready(self) -> IndexView | None:
        return None if self._was_ready else self._index

    def count(self, code: str, timings_ms: dict[str, float]) -> None:
        self._requests.inc(1, tags={"code": code})
        for stage, milliseconds in timings_ms.items():
            self._stage_ms.observe(milliseconds, tags={"stage": stage})

    async def metrics(self) -> str:
        async with httpx.AsyncClient(timeout=METRICS_TIMEOUT_S) as client:
            answer = await client.get(f"http://127.0.0.1:{self._config.http.metrics_port}/metrics")
        return telemetry.service_metrics(answer.text)

    async def _watch(self) -> None:
        """Look at the alias from here, not through the searcher: looking must not wake a stage at zero."""
        from serve_app.milvus.searcher import MilvusSearcher

        searcher = MilvusSearcher(_milvus_uris(self._config), self._config.milvus, self._alias)
        while True:
            try:
                starting = None if self._was_ready else await asyncio.to_thread(_starting_stage)
                self._saw(await searcher.index(), starting)
            except (ShoplensError, RayError) as error:
                # Once seen, an index stays the last known one: searches say by themselves that Milvus is away.
                if not self._was_ready:
                    self._index = IndexView(None, str(error))
            await asyncio.sleep(INDEX_CHECK_S)

    def _saw(self, state: IndexState, starting: str | None) -> None:
        if state.collection is None:
            self._index = IndexView(None, f"there is no index {self._alias}; `shoplens import MANIFEST` makes it")
        elif not state.loaded:
            self._index = IndexView(state.collection, f"the index {state.collection} is not loaded yet")
        elif starting is not None:
            self._index = IndexView(state.collection, f"the stage {starting} is starting")
        else:
            self._index = IndexView(state.collection)
            self._was_ready = True
        self._missing = state.collection is None


def _starting_stage() -> str | None:
    """Return a stage whose first replica is still starting; one that is at zero is none."""
    application = serve.status().applications.get(serve.get_replica_context().app_name)
    for name, deployment in (application.deployments if application else {}).items():
        states = deployment.replica_states
        if states.get(ReplicaState.STARTING) and not states.get(ReplicaState.RUNNING) and name != INGRESS:
            return name
    return None


def _milvus_uris(config: Config) -> tuple[str, ...]:
    if config.milvus.uri is None:
        raise BadConfig("milvus.uri is not set; only `shoplens serve` starts a Milvus of its own")
    return config.milvus.uri, *config.milvus.more_uris
