"""The four stages as Ray Serve deployments.

A replica loads its own library only: adapters are imported in constructors.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from ray import serve
from ray.exceptions import RayError
from ray.serve._private.common import ReplicaState
from ray.serve.handle import DeploymentHandle
from ray.util.metrics import Counter, Gauge, Histogram

from serve_app import telemetry
from serve_app.admission import Admission
from serve_app.api.service import IndexView
from serve_app.backstage import Backstage
from serve_app.browser_detector import read_browser_detector
from serve_app.callers import Caller, make_access
from serve_app.catalogue.products import ProductWriter
from serve_app.catalogue.staged import StageModels
from serve_app.changes import Change, Changed
from serve_app.collection import IMAGE_FILE, IndexState, alias
from serve_app.config import Config, SearchParams
from serve_app.coverage import PARTIAL_INDEX
from serve_app.degradation import DetectorOrWhole, EmbedderOrNone
from serve_app.domain import Crops, Hit, Ranked, Terms
from serve_app.errors import (
    BadConfig,
    DeadlineExceeded,
    IndexMissing,
    ShoplensError,
    UnknownImage,
)
from serve_app.feedback.log import FeedbackLog
from serve_app.feedback.records import Feedback
from serve_app.filters import Filter
from serve_app.image_folders import image_folders
from serve_app.inference import Inference
from serve_app.limiting import Quotas
from serve_app.market import make_markets
from serve_app.milvus.importing import import_pymilvus
from serve_app.objects import Focus
from serve_app.paging import Paging
from serve_app.photo_urls import PhotoUrls
from serve_app.photos import Photos
from serve_app.pictures import Picture, Pictures, Width
from serve_app.pipeline import Answer, Embedded, Found, ImageViews, Pipeline, Query, Sighting, Stored
from serve_app.repeats import Begun, Repeats
from serve_app.resilience import RetryBudget
from serve_app.rules_file import watch_rules
from serve_app.scaling import LoopMeter
from serve_app.sessions import Sessions
from serve_app.side_by_side import SideBySide
from serve_app.similar import Products
from serve_app.stage_calls import StageCalls
from serve_app.stages import WholePhoto, load_detector, load_embedder
from serve_app.stores import make_store, signing_key
from serve_app.turn_calls import ActorTurns
from serve_app.weights.chosen import detector_sha256
from serve_app.why import Explainer
from serve_app.writes import Writes

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

INGRESS = "Ingress"
INDEX_CHECK_S = 2.0
METRICS_TIMEOUT_S = 2.0
RETRY_SHARE = 0.1
"""Repeated stage calls, as a part of all."""
PATIENT_PART = 0.5
"""Part of a search's time that it may wait for others, or for replicas that are to come."""
GRACE_S = 0.1
"""Stages end at a search's deadline by themselves, and say more of it."""

T = TypeVar("T")

Settings = dict[str, Any]
"""The settings as JSON; each replica adds secrets from its own environment."""


def start(settings: Settings) -> Config:
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


class BatchMetrics:
    """Measure batches where the model runs them."""

    def __init__(self, stage: str) -> None:
        self._items = Histogram(telemetry.BATCH_ITEMS, boundaries=list(telemetry.BATCH_BOUNDARIES), tag_keys=("stage",))
        self._wait = Histogram(
            telemetry.BATCH_WAIT_MS, boundaries=list(telemetry.STAGE_MS_BOUNDARIES), tag_keys=("stage",)
        )
        self._dropped = Counter(telemetry.DROPPED_ITEMS, tag_keys=("stage", "reason"))
        self._tags = {"stage": stage}

    def sealed(self, items: int, waits_ms: Sequence[float]) -> None:
        self._items.observe(items, tags=self._tags)
        for wait_ms in waits_ms:
            self._wait.observe(wait_ms, tags=self._tags)

    def dropped(self, reason: str, items: int) -> None:
        self._dropped.inc(items, tags=self._tags | {"reason": reason})


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


class Searcher(_Stage):
    """Search the collections that the models' aliases stand for."""

    def __init__(self, settings: Settings) -> None:
        config = start(settings)
        import_pymilvus()
        from serve_app.milvus.models import ModelSearchers

        self._index = ModelSearchers(_milvus_uris(config), config.milvus, config.catalogue, SearchParams())
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
        config = start(settings)
        import_pymilvus()
        self.fingerprint = fingerprint
        self.detector_sha256 = detector_sha256(config)
        self.max_body_bytes = config.limits.max_body_bytes
        self.markets = make_markets(config)
        self.access = make_access(config)
        self.rules = watch_rules(config.rules_file, config.ranking).current
        self.page_settings = config.page
        self.takes_feedback = config.feedback.enabled
        self.browser_detector = read_browser_detector(config)
        self._config = config
        most = config.ingress.max_in_flight
        handles = {"Detector": detector, "Embedder": embedder, "Searcher": searcher}
        stages = self._stages = StageCalls(handles, RetryBudget(RETRY_SHARE, reserve=most))
        whole = WholePhoto(config.limits.max_pixels)
        seeing = DetectorOrWhole(stages, whole) if config.degradation.no_detector else stages
        embedding = EmbedderOrNone(stages)
        pipeline = Pipeline(
            seeing,
            embedding,
            stages,
            rows_per_product=config.searcher.candidates_per_product,
            price_band=config.ranking.price_band,
            refused=() if config.degradation.partial_index else (PARTIAL_INDEX,),
            rules=self.rules,
        )
        store = make_store(config.store)
        self.quotas = Quotas(store, config.store.timeout_s)
        photos = Photos(store, config.store.timeout_s)
        paging = Paging(pipeline, stages, photos, fingerprint)
        self._feedback = FeedbackLog(config, photos)
        self._sessions = Sessions(pipeline, photos, paging, signing_key(config.store))
        self._photo_urls = PhotoUrls(config.fetch, config.limits.max_body_bytes)
        self._products = Products(pipeline, stages, fingerprint)
        self._inference = Inference(stages, embedding)
        limits = config.limits
        self._pictures = Pictures(image_folders(config), max_bytes=limits.max_body_bytes, max_pixels=limits.max_pixels)
        explainer = Explainer(seeing, embedding, stages, pipeline, self.rules, fingerprint)
        comparer = SideBySide(seeing, stages, pipeline)
        self.backstage = Backstage(
            config, _milvus_uris(config)[0], fingerprint, explainer, comparer, self._pictures, self._admitted
        )
        self._repeats = Repeats(store, config.store.timeout_s)
        deadline_s = limits.write_deadline_s
        self._writes = Writes(_product_writer(config, fingerprint, stages), ActorTurns(deadline_s), deadline_s)
        self._admission = Admission(
            most=most, goal_s=config.ingress.latency_goal_s, last_s=math.inf, now_s=time.monotonic()
        )
        self._index = IndexView(None, "the index has not been looked at yet")
        self._was_ready = False
        self._missing = False
        self._can_grow = False
        self._running: set[str] = set()
        self._deadline_s = limits.deadline_s
        self._most_replicas: dict[str, int] = {}
        self._alias = alias(config.catalogue, fingerprint)
        self._requests = Counter(telemetry.REQUESTS, tag_keys=("code",))
        self._degraded = Counter(telemetry.DEGRADED, tag_keys=("code",))
        self._in_flight = Gauge(telemetry.IN_FLIGHT)
        self._capacity = Gauge(telemetry.CAPACITY)
        self._stage_ms = Histogram(
            telemetry.STAGE_MS, boundaries=list(telemetry.STAGE_MS_BOUNDARIES), tag_keys=("stage",)
        )
        self._meter = LoopMeter(time.monotonic(), time.process_time())
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        self._logging = asyncio.get_running_loop().create_task(self._feedback.run())

    def reconfigure(self, bounds: dict[str, dict[str, int]]) -> None:
        """Take other bounds of the stages' replicas without a restart: Serve calls this with `user_config`."""
        self._most_replicas = {stage: each["max_replicas"] for stage, each in bounds.items()}
        self._stages.from_zero = [stage for stage, each in bounds.items() if each["min_replicas"] == 0]
        limits = self._config.limits
        self._deadline_s = limits.cold_deadline_s if self._stages.from_zero else limits.deadline_s

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._meter.report(time.monotonic(), time.process_time())

    def __serve_build_asgi_app__(self) -> FastAPI:
        from serve_app.api.app import create_app

        return create_app(self)

    async def search(self, owner: str, photo: bytes, query: Query, *, bulk: bool = False) -> Answer:
        return await self._admitted(lambda terms: self._sessions.search(owner, photo, query, terms), bulk)

    async def search_again(self, owner: str, token: str, query: Query, *, bulk: bool = False) -> Answer:
        return await self._admitted(lambda terms: self._sessions.search_again(owner, token, query, terms), bulk)

    async def search_url(self, owner: str, url: str, query: Query, *, bulk: bool = False) -> Answer:
        # Before it is admitted: a search that waits for another server keeps none of ours busy.
        started_s = time.monotonic()
        with self._meter.call():
            self._check_index()
            photo = await self._photo_urls.photo(url, Terms.within(self._deadline_s))
        fetched_s = time.monotonic() - started_s
        answer = await self._admitted(
            lambda terms: self._sessions.search(owner, photo, query, terms), bulk, spent_s=fetched_s
        )
        return answer.after_fetch(fetched_s * 1e3)

    async def page(self, owner: str, cursor: str, top_k: int, query: Query | None, *, bulk: bool = False) -> Answer:
        return await self._admitted(lambda terms: self._sessions.page(owner, cursor, top_k, query, terms), bulk)

    async def product(self, product_id: str, *, strong: bool) -> Stored:
        # Not a search: answers that cost so little say nothing of how many searches can be taken on.
        with self._meter.call():
            terms = Terms.within(self._deadline_s)
            return await self._in_time(self._products.product(product_id, strong, terms), terms)

    async def similar(self, owner: str, product_id: str, query: Query) -> Answer:
        async def work(terms: Terms) -> Answer:
            return await self._sessions.begun(owner, *await self._products.similar(product_id, query, terms))

        return await self._admitted(work)

    async def similar_page(self, owner: str, product_id: str, cursor: str, top_k: int, query: Query | None) -> Answer:
        return await self._admitted(lambda terms: self._sessions.page(owner, cursor, top_k, query, terms, product_id))

    async def picture(self, image_id: str, width: Width, known: Sequence[str]) -> Picture:
        if not self.page_settings.image_folders:
            raise UnknownImage("pictures are not shown here; page.image_folders says of which folders they may be")
        terms = Terms.within(self._deadline_s)
        hit = await self._in_time(self._stages.image(self.fingerprint, image_id, terms), terms)
        file = hit.data.get(IMAGE_FILE) if hit is not None else None
        if not file:
            raise UnknownImage("the index has no such image, or none that was imported from a file")
        return await self._in_time(self._pictures.picture(str(file), width, known), terms)

    async def write(self, changes: Sequence[Change], at_ms: int) -> list[Changed]:
        return await self._writes.write(changes, at_ms)

    async def begin(self, owner: str, key: str, request: bytes, now_ms: int) -> Begun:
        return await self._repeats.begin(owner, key, request, now_ms)

    async def end(self, owner: str, key: str, answer: bytes) -> None:
        await self._repeats.end(owner, key, answer)

    async def see(self, photo: bytes) -> Sighting:
        return await self._admitted(lambda terms: self._inference.see(photo, terms), bulk=True, needs_index=False)

    async def embed(self, photos: Sequence[bytes]) -> Embedded:
        return await self._admitted(lambda terms: self._inference.embed(photos, terms), bulk=True, needs_index=False)

    def is_there(self, stage: str) -> bool:
        return stage in self._running or stage in self._stages.from_zero

    def show(self, owner: str, request_id: str, answer: Answer, *, further: bool = False, like: str = "") -> None:
        self._feedback.show(owner, request_id, answer, further=further, like=like)

    async def feedback(self, caller: Caller, feedback: Feedback) -> bool:
        return await self._feedback.take(caller.owner, caller.role, feedback)

    async def __del__(self) -> None:
        self._logging.cancel()
        await self._photo_urls.close()
        await self._feedback.flush()

    async def _admitted(
        self,
        work: Callable[[Terms], Awaitable[T]],
        bulk: bool = False,
        *,
        needs_index: bool = True,
        spent_s: float = 0.0,
    ) -> T:
        """Work within what is left of a request's time, of which `spent_s` are over."""
        with self._meter.call():
            if needs_index:
                self._check_index()
            return await self._bounded(work, bulk, self._deadline_s - spent_s)

    def _check_index(self) -> None:
        if self._missing:
            raise IndexMissing(self._index.reason)

    async def _bounded(self, work: Callable[[Terms], Awaitable[T]], bulk: bool, seconds: float) -> T:
        # Where no stage goes to zero, a new replica is there later than any search may wait for it.
        patient = bool(self._stages.from_zero) and (self._can_grow or self._stages.is_waking())
        self._admission.last_s = PATIENT_PART * self._deadline_s
        self._admission.goal_s = self._admission.last_s if patient else self._config.ingress.latency_goal_s
        self._admission.admit(time.monotonic(), bulk=bulk)
        answered = False
        try:
            terms = Terms.within(seconds, bulk=bulk, demand=self._admission.demand)
            answer = await self._in_time(work(terms), terms)
            answered = True
            return answer
        finally:
            self._admission.leave(time.monotonic(), answered=answered, bulk=bulk)

    async def _in_time(self, work: Awaitable[T], terms: Terms) -> T:
        try:
            async with asyncio.timeout(terms.left_s() + GRACE_S):
                return await work
        except TimeoutError as error:
            raise DeadlineExceeded("the search took longer than it may; try again") from error

    def index(self) -> IndexView:
        return self._index

    def ready(self) -> IndexView | None:
        return None if self._was_ready else self._index

    def count(self, code: str, timings_ms: dict[str, float], degraded: Sequence[str] = ()) -> None:
        self._requests.inc(1, tags={"code": code})
        for flag in degraded:
            self._degraded.inc(1, tags={"code": flag})
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
        await self._sessions.connect()
        while True:
            self._in_flight.set(self._admission.in_work)
            self._capacity.set(self._admission.capacity)
            try:
                replicas = await asyncio.to_thread(_replicas)
                self._running = {name for name, states in replicas.items() if states.get(ReplicaState.RUNNING)}
                self._can_grow = any(
                    states.get(ReplicaState.RUNNING, 0) < self._most_replicas.get(name, 0)
                    for name, states in replicas.items()
                )
                self._saw(await searcher.index(), None if self._was_ready else _starting_stage(replicas))
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


def _product_writer(
    config: Config, model: str, stages: StageCalls
) -> Callable[[], AbstractContextManager[ProductWriter]]:
    """Return what opens a writer of products; its calls to Milvus last no longer than a write may."""
    from serve_app.catalogue.feed_driver import opened_for_products

    deadline_s = config.limits.write_deadline_s
    brief = {"write_deadline_s": min(deadline_s, config.milvus.write_deadline_s)}
    own = config.model_copy(update={"milvus": config.milvus.model_copy(update=brief)})
    models = StageModels(stages, asyncio.get_running_loop(), deadline_s)
    return partial(opened_for_products, own, _milvus_uris(config)[0], model, models)


def _replicas() -> dict[str, dict[ReplicaState, int]]:
    """Return how many replicas of each stage are in which state."""
    application = serve.status().applications.get(serve.get_replica_context().app_name)
    return {name: found.replica_states for name, found in application.deployments.items()} if application else {}


def _starting_stage(replicas: Mapping[str, Mapping[ReplicaState, int]]) -> str | None:
    """Return a stage whose first replica is still starting; one that is at zero is none."""
    for name, states in replicas.items():
        if states.get(ReplicaState.STARTING) and not states.get(ReplicaState.RUNNING) and name != INGRESS:
            return name
    return None


def _milvus_uris(config: Config) -> tuple[str, ...]:
    if config.milvus.uri is None:
        raise BadConfig("milvus.uri is not set; only `shoplens serve` starts a Milvus of its own")
    return config.milvus.uri, *config.milvus.more_uris
