"""What the HTTP interface asks of the service, answered over the stages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from serve_app import shadow
from serve_app.api.service import IndexView
from serve_app.backstage import Backstage
from serve_app.browser_detector import read_browser_detector
from serve_app.calibration import Curve
from serve_app.callers import Caller, make_access
from serve_app.changes import Change, Changed
from serve_app.collection import IMAGE_FILE
from serve_app.config import Config
from serve_app.domain import Terms
from serve_app.entrance import Entrance, in_time
from serve_app.errors import UnknownImage
from serve_app.feedback.log import FeedbackLog
from serve_app.feedback.records import Feedback
from serve_app.image_folders import image_folders
from serve_app.index_watch import IndexWatch
from serve_app.inference import Inference
from serve_app.keeping import Store
from serve_app.limiting import Quotas
from serve_app.market import make_markets
from serve_app.paging import Paging
from serve_app.photo_urls import PhotoUrls
from serve_app.photos import Photos
from serve_app.pictures import Picture, Pictures, Width
from serve_app.pipeline import Answer, Embedded, Query, Sighting, Stored
from serve_app.query_flow import QueryFlow, Stages, make_flow
from serve_app.repeats import Begun, Repeats
from serve_app.rules_file import watch_rules
from serve_app.seen_photos import SeenPhotos
from serve_app.sessions import Sessions
from serve_app.side_by_side import SideBySide
from serve_app.similar import Products
from serve_app.starting import milvus_uris
from serve_app.weights.chosen import detector_sha256
from serve_app.why import Explainer
from serve_app.writes import Writes

WATCH_S = 2.0


class Counts(shadow.Counts, Protocol):
    """Count what the front answers."""

    def ended(self, code: str, timings_ms: Mapping[str, float], degraded: Sequence[str]) -> None:
        """Note a search with its outcome, the milliseconds of its stages, and what its answer lacked."""
        ...

    def looked_up(self, known: bool) -> None:
        """Note whether a photo was remembered."""
        ...

    def stands(self, in_work: int, capacity: float) -> None:
        """Note the searches in work, and how many a second are known to be possible."""
        ...


class Front:
    """Be the service behind the API: admit, bound by a deadline, run the pipeline over the stages."""

    def __init__(
        self,
        config: Config,
        fingerprint: str,
        stages: Stages,
        store: Store,
        *,
        signing_key: bytes | None,
        writes: Writes,
        curve: Curve | None,
        watch: IndexWatch,
        counts: Counts,
    ) -> None:
        """Answer with the running model of this fingerprint, and its curve for chances; raises BadConfig.

        It works in one event loop, once `run` does.
        """
        self.fingerprint = fingerprint
        self.detector_sha256 = detector_sha256(config)
        self.max_body_bytes = config.limits.max_body_bytes
        self.markets = make_markets(config)
        self.access = make_access(config)
        self.rules = watch_rules(config.rules_file, config.ranking, aside=True).current
        self.page_settings = config.page
        self.takes_feedback = config.feedback.enabled
        self.tells_matches = curve is not None
        self.browser_detector = read_browser_detector(config)
        self.quotas = Quotas(store, config.store.timeout_s)
        self.watch = watch
        self._stages = stages
        self._writes = writes
        self._counts = counts
        self.entrance = Entrance(
            config.ingress, config.limits.deadline_s, check_index=watch.check, is_patient=self._is_patient
        )
        self._repeats = Repeats(store, config.store.timeout_s)
        self._photo_urls = PhotoUrls(config.fetch, config.limits.max_body_bytes)
        self.rules()
        self._search_with(config, make_flow(config, stages, self.rules, curve, fingerprint, counts), store, signing_key)

    def _search_with(self, config: Config, flow: QueryFlow, store: Store, signing_key: bytes | None) -> None:
        photos, limits = Photos(store, config.store.timeout_s), config.limits
        paging = Paging(flow.pipeline, flow.stages, photos, self.fingerprint)
        self.mirror = flow.mirror
        self._feedback = FeedbackLog(config, photos)
        self._remembered = SeenPhotos(
            config.cache, self.fingerprint, lambda: self.watch.view.collection, self._counts.looked_up
        )
        self._sessions = Sessions(flow.pipeline, photos, paging, signing_key, self._remembered)
        self._products = Products(flow.pipeline, flow.stages, self.fingerprint)
        self._inference = Inference(flow.stages, flow.embedding)
        self._pictures = Pictures(image_folders(config), max_bytes=limits.max_body_bytes, max_pixels=limits.max_pixels)
        self.backstage = Backstage(
            config,
            milvus_uris(config)[0],
            self.fingerprint,
            Explainer(flow.seeing, flow.embedding, flow.stages, flow.pipeline, self.rules, self.fingerprint),
            SideBySide(flow.seeing, flow.stages, flow.pipeline),
            self._pictures,
            self.entrance.admitted,
            self.mirror.state,
        )

    async def run(self) -> None:
        """Look after the index, the metrics and the feedback log until cancelled."""
        noting = asyncio.create_task(self._feedback.run())
        try:
            await self._sessions.connect()
            while True:
                self._counts.stands(self.entrance.in_work, self.entrance.capacity)
                await self.watch.look()
                self._remembered.sweep()
                await asyncio.sleep(WATCH_S)
        finally:
            noting.cancel()

    async def close(self) -> None:
        """Let go of connections, and write what waits to be written."""
        self.mirror.close()
        await self._photo_urls.close()
        await self._feedback.flush()

    def _is_patient(self) -> bool:
        # Where no stage goes to zero, a new replica is there later than any search may wait for it.
        return bool(self._stages.from_zero) and (self.watch.can_grow or self._stages.is_waking())

    async def search(self, owner: str, photo: bytes, query: Query, *, bulk: bool = False) -> Answer:
        return await self.entrance.admitted(lambda terms: self._sessions.search(owner, photo, query, terms), bulk)

    async def search_together(self, owner: str, photos: Sequence[bytes], query: Query, *, bulk: bool = False) -> Answer:
        return await self.entrance.admitted(
            lambda terms: self._sessions.search_together(owner, photos, query, terms), bulk
        )

    async def search_again(self, owner: str, token: str, query: Query, *, bulk: bool = False) -> Answer:
        return await self.entrance.admitted(lambda terms: self._sessions.search_again(owner, token, query, terms), bulk)

    async def search_url(self, owner: str, url: str, query: Query, *, bulk: bool = False) -> Answer:
        # Before it is admitted: a search that waits for another server keeps none of ours busy. How many may wait so is
        # bounded apart, so that slow hosts hold no place of those who send their photo.
        started_s = time.monotonic()
        with self.entrance.meter.call():
            self.watch.check()
            photo = await self._photo_urls.photo(url, Terms.within(self.entrance.deadline_s, bulk=bulk))
        fetched_s = time.monotonic() - started_s
        answer = await self.entrance.admitted(
            lambda terms: self._sessions.search(owner, photo, query, terms), bulk, spent_s=fetched_s
        )
        return answer.after_fetch(fetched_s * 1e3)

    async def page(self, owner: str, cursor: str, top_k: int, query: Query | None, *, bulk: bool = False) -> Answer:
        return await self.entrance.admitted(lambda terms: self._sessions.page(owner, cursor, top_k, query, terms), bulk)

    async def product(self, product_id: str, *, strong: bool) -> Stored:
        # Not a search: answers that cost so little say nothing of how many searches can be taken on.
        with self.entrance.meter.call():
            terms = self._terms()
            return await in_time(self._products.product(product_id, strong, terms), terms)

    async def similar(self, owner: str, product_id: str, query: Query) -> Answer:
        async def work(terms: Terms) -> Answer:
            return await self._sessions.begun(owner, *await self._products.similar(product_id, query, terms))

        return await self.entrance.admitted(work)

    async def similar_page(self, owner: str, product_id: str, cursor: str, top_k: int, query: Query | None) -> Answer:
        return await self.entrance.admitted(
            lambda terms: self._sessions.page(owner, cursor, top_k, query, terms, product_id)
        )

    async def picture(self, image_id: str, width: Width, known: Sequence[str]) -> Picture:
        if not self.page_settings.image_folders:
            raise UnknownImage("pictures are not shown here; page.image_folders says of which folders they may be")
        terms = self._terms()
        hit = await in_time(self._stages.image(self.fingerprint, image_id, terms), terms)
        file = hit.data.get(IMAGE_FILE) if hit is not None else None
        if not file:
            raise UnknownImage("the index has no such image, or none that was imported from a file")
        return await in_time(self._pictures.picture(str(file), width, known), terms)

    async def write(self, changes: Sequence[Change], at_ms: int) -> list[Changed]:
        return await self._writes.write(changes, at_ms)

    async def begin(self, owner: str, key: str, request: bytes, now_ms: int) -> Begun:
        return await self._repeats.begin(owner, key, request, now_ms)

    async def end(self, owner: str, key: str, answer: bytes) -> None:
        await self._repeats.end(owner, key, answer)

    async def see(self, photo: bytes) -> Sighting:
        return await self.entrance.admitted(
            lambda terms: self._inference.see(photo, terms), bulk=True, needs_index=False
        )

    async def embed(self, photos: Sequence[bytes]) -> Embedded:
        return await self.entrance.admitted(
            lambda terms: self._inference.embed(photos, terms), bulk=True, needs_index=False
        )

    def is_there(self, stage: str) -> bool:
        return stage in self.watch.running or stage in self._stages.from_zero

    def show(self, owner: str, request_id: str, answer: Answer, *, further: bool = False, like: str = "") -> None:
        self._feedback.show(owner, request_id, answer, further=further, like=like)

    async def feedback(self, caller: Caller, feedback: Feedback) -> bool:
        return await self._feedback.take(caller.owner, caller.role, feedback)

    def index(self) -> IndexView:
        return self.watch.view

    def ready(self) -> IndexView | None:
        return None if self.watch.was_ready else self.watch.view

    def count(self, code: str, timings_ms: Mapping[str, float], degraded: Sequence[str] = ()) -> None:
        self._counts.ended(code, timings_ms, degraded)

    def _terms(self) -> Terms:
        return Terms.within(self.entrance.deadline_s)
