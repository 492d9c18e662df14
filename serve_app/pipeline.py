"""The query flow: a photo in, one list of products per object out.

The stages are protocols: in the service they are handles of Ray Serve deployments, in one process the
models themselves, in unit tests fakes.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np

from serve_app.calibration import LEADERS, Chances, Curve, no_curve
from serve_app.domain import PATIENT, Crops, Detection, Embeddings, Hit, StoredView, Terms, View
from serve_app.errors import BadInput, BadParameter, MilvusUnavailable
from serve_app.filters import NO_FILTER, Filter
from serve_app.money import PriceRange
from serve_app.objects import THE_BEST, Focus, ObjectList, focuses, joined_list, query_lists
from serve_app.ranking import Sort, by_similarity, final_part, needs_more, sort
from serve_app.rules import MOST_IN_BAND, NO_RULES, Rules

MAX_RANKED = 1_000
"""Products of a list that can be paged through."""
ON_THE_LOOP_CHECKS = 20_000
"""Hits, times rules, that are put in order on the event loop, some 10 ms; more of them in a thread: a count of all
products, in a shop of many rules, takes seconds."""
MAX_ROWS = 16_384
"""Milvus returns no more rows to one search: https://milvus.io/docs/limitations.md."""

NO_OBJECT = "no_object"
"""`degraded`: nothing was found in the photo, so the whole of it was searched."""
NO_DETECTOR = "no_detector"
"""`degraded`: the detector is away, so the whole photo was searched."""
NO_TOKEN = "no_token"  # noqa: S105
"""`degraded`: the photo could not be kept, so it has to be sent again for further searches."""

FETCH = "fetch"
"""`timings_ms`: what it took to fetch the photo; only where the search names a URL."""
CACHE = "cache"
"""`timings_ms`: what it took to know a photo again, in place of `decode`, `detect` and `embed`."""
COLD_START = "cold_start"
"""`timings_ms`: of the stages' times, what was spent waiting for a replica to start; left out where nothing was."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """Hold what the detector makes of a photo, and what it lacks.

    `detections` are all objects that were found, the best one first; `crops` (n, side, side, 3) are cut for what
    `objects.query_boxes` names.
    """

    width: int
    height: int
    detections: tuple[Detection, ...]
    crops: Crops
    decode_ms: float
    degraded: tuple[str, ...] = ()
    age_s: float = math.inf
    """Seconds that the replica which answered has been there; so in what follows."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Hold one embedding per crop, and the fingerprint of the model that made them."""

    embeddings: Embeddings
    model: str
    age_s: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class ImageViews:
    """Hold the views that a catalogue's image is indexed by, and one crop for each, in their order.

    `phash` is the perceptual hash of the picture.
    """

    width: int
    height: int
    views: tuple[tuple[View, Detection], ...]
    crops: Crops
    phash: str


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Hold what a photo is searched with: what is in it, and an embedding for each of `objects.query_boxes`.

    Of several photos of one thing it holds all that is in them, and the first one's width and height. `timings_ms` are
    those of the stages that it took, `cold_s` the seconds of them that a replica was waited for.
    """

    width: int
    height: int
    detections: tuple[Detection, ...]
    embedded: Embedded
    degraded: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    cold_s: float = 0.0
    crops: Crops | None = None
    """What the embeddings of a single photo were made of, where they were made for this search."""


class DetectorStage(Protocol):
    async def detect(self, photo: bytes, focus: Focus, terms: Terms = PATIENT) -> Sighting:
        """Decode the photo, find all its objects where that is asked for, and cut what is to be searched."""
        ...


class EmbedderStage(Protocol):
    async def embed(self, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        """Return one embedding per crop."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """Hold the hits of each embedding in the collection that was searched, and what the answer lacks.

    Every write that was acknowledged before `watermark_ms`, milliseconds since 1970 UTC, was searched.
    """

    hits: list[list[Hit]]
    watermark_ms: int
    collection: str | None = None
    degraded: tuple[str, ...] = ()
    age_s: float = math.inf


class SearcherStage(Protocol):
    async def search(
        self, embedded: Embedded, k: int, wanted: Filter = NO_FILTER, strong: bool = False, terms: Terms = PATIENT
    ) -> Found:
        """Return the `k` rows nearest to each embedding that pass the filter, best first.

        Only the index of the embeddings' own model is searched. A strong search sees every write that was
        acknowledged before it.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Hold the rows of one product, in the order of their ids; none where the index does not have it."""

    rows: tuple[StoredView, ...]
    watermark_ms: int
    collection: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Say what a shopper asked for."""

    top_k: int = 10
    focus: Focus = THE_BEST
    min_score: float | None = None
    min_match: float | None = None
    wanted: Filter = NO_FILTER
    strong: bool = False
    by_parent: bool = False
    """Products of one parent, such as the colours of one style, are one."""
    sort: Sort = Sort.SIMILARITY
    currency: str | None = None
    """What prices are sorted in."""
    prices: PriceRange | None = None
    """Asked for in the shopper's currency; `wanted` holds what that was, by the rates then, in each stored one."""
    facets: tuple[str, ...] = ()
    """What products are counted by, over the whole ranking."""
    worths: tuple[tuple[str, float], ...] = ()
    """What a minor unit of each currency was worth then; prices of currencies without a rate can't be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """Hold the part of a list's ranking that is known so far, and what it takes to find the rest."""

    hits: tuple[Hit, ...]
    whole: bool
    """Nothing can follow, or nothing is to."""
    embeddings: Embeddings
    chances: Chances | None = None


@dataclass(frozen=True, slots=True)
class ProductList:
    """Hold one object with its products, best first; None where the object was not searched.

    `chances` tell how likely each is the right one; None where that can't be told.
    """

    object: ObjectList
    products: tuple[Hit, ...] | None
    object_id: str = ""
    fixed: Fixed | None = None
    next: str | None = None
    """A cursor to the products after these."""
    chances: Chances | None = None

    @classmethod
    def first_page(cls, entry: ObjectList, fixed: Fixed | None, top_k: int, object_id: str = "") -> ProductList:
        """Return the first products of a list that was ranked, or none where it was not searched."""
        if fixed is None:
            return cls(entry, None, object_id)
        return cls(entry, fixed.hits[:top_k], object_id, fixed, chances=fixed.chances)


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a search found, with which model and where, and the milliseconds that each stage took."""

    width: int
    height: int
    model: str
    collection: str | None
    lists: tuple[ProductList, ...]
    degraded: tuple[str, ...]
    watermark_ms: int
    timings_ms: dict[str, float] = field(default_factory=dict)
    token: str | None = None

    def after_fetch(self, fetched_ms: float) -> Answer:
        """Return this answer with the time that its photo took to come."""
        total = self.timings_ms["total"] + fetched_ms
        return replace(self, timings_ms={FETCH: fetched_ms, **self.timings_ms, "total": total})


class Onlooker(Protocol):
    def answered(self, seen: Seen, query: Query, answer: Answer) -> None:
        """Take note of a search that is about to be answered; it may not wait."""
        ...


class Pipeline:
    """Join the three stages; an answer with a flag of `refused` is none."""

    def __init__(
        self,
        detector: DetectorStage,
        embedder: EmbedderStage,
        searcher: SearcherStage,
        *,
        rows_per_product: int = 4,
        price_band: float = 0.1,
        refused: Collection[str] = (),
        rules: Callable[[], Rules] = lambda: NO_RULES,
        curve: Curve | None = None,
        onlooker: Onlooker | None = None,
    ) -> None:
        """`rules` returns those that are in force now. `curve` makes chances of its own model's scores alone.

        `onlooker` is told of shoppers' searches that the models were asked for.
        """
        self._detector = detector
        self._embedder = embedder
        self._searcher = searcher
        self._rows_per_product = rows_per_product
        self._price_band = price_band
        self._refused = refused
        self._rules = rules
        self._curve = curve
        self._onlooker = onlooker

    async def run(
        self, photo: bytes, query: Query, terms: Terms = PATIENT, sighted: Callable[[], None] | None = None
    ) -> Answer:
        """Search with a compressed photo; raises what the stages raise. `sighted` is called as `see` calls it."""
        return await self.find(await self.see(photo, query.focus, terms, sighted), query, terms)

    async def see(
        self, photo: bytes, focus: Focus, terms: Terms = PATIENT, sighted: Callable[[], None] | None = None
    ) -> Seen:
        """Return what a compressed photo is searched with; raises what detector and embedder raise.

        `sighted` is called as soon as it is known that the photo is one.
        """
        seen, _ = await self._seen([photo], [focus], terms, sighted)
        return seen

    async def run_together(
        self,
        photos: Sequence[bytes],
        query: Query,
        terms: Terms = PATIENT,
        sighted: Callable[[], None] | None = None,
    ) -> Answer:
        """Search for one thing that several photos show; the answer is the first one's, with one list.

        A product counts by the photo that it is most like. Raises what the stages raise, with the photo's number.
        """
        each = focuses(query.focus, len(photos))
        seen, found = await self._seen(photos, each, terms, sighted)
        together = joined_list(zip(found, each, strict=True))
        return await self.find(seen, query, terms, (together,))

    async def _seen(
        self, photos: Sequence[bytes], each: Sequence[Focus], terms: Terms, sighted: Callable[[], None] | None
    ) -> tuple[Seen, list[tuple[Detection, ...]]]:
        """Return what all photos are searched with, and what is in each."""
        started = time.perf_counter()
        sightings = await self._sightings(photos, each, terms)
        if sighted is not None:
            sighted()
        detected = time.perf_counter()
        crops = [sighting.crops for sighting in sightings]
        # One call, so that one model embeds them all.
        embedded = await self._embedder.embed(crops[0] if len(crops) == 1 else np.concatenate(crops), terms)
        ready = time.perf_counter()
        decode_ms = max(sighting.decode_ms for sighting in sightings)
        # A replica that is younger than its call has lasted was waited for.
        waited_s = max(detected - started - sighting.age_s for sighting in sightings)
        found = [sighting.detections for sighting in sightings]
        seen = Seen(
            width=sightings[0].width,
            height=sightings[0].height,
            detections=tuple(itertools.chain(*found)),
            embedded=embedded,
            degraded=tuple(dict.fromkeys(flag for sighting in sightings for flag in sighting.degraded)),
            timings_ms={
                "decode": decode_ms,
                "detect": (detected - started) * 1e3 - decode_ms,
                "embed": (ready - detected) * 1e3,
            },
            cold_s=max(0.0, waited_s) + max(0.0, ready - detected - embedded.age_s),
            crops=crops[0] if len(crops) == 1 else None,
        )
        return seen, found

    async def _sightings(self, photos: Sequence[bytes], each: Sequence[Focus], terms: Terms) -> list[Sighting]:
        if len(photos) == 1:
            return [await self._detector.detect(photos[0], each[0], terms)]
        try:
            async with asyncio.TaskGroup() as tasks:
                seeing = [
                    tasks.create_task(self._sighting_of(number, photo, focus, terms))
                    for number, (photo, focus) in enumerate(zip(photos, each, strict=True))
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in seeing]

    async def _sighting_of(self, number: int, photo: bytes, focus: Focus, terms: Terms) -> Sighting:
        try:
            return await self._detector.detect(photo, focus, terms)
        except BadInput as error:
            raise type(error)(f"images.{number}: {error.message}") from error

    async def find(
        self, seen: Seen, query: Query, terms: Terms = PATIENT, lists: Sequence[ObjectList] | None = None
    ) -> Answer:
        """Search with what was seen for these lists, else for this query's focus; raises what the searcher raises."""
        started = time.perf_counter()
        wanted = query_lists(seen.detections, query.focus) if lists is None else lists
        fixed, found = await self.rank(wanted, seen.embedded, query, query.top_k, terms)
        took_s = time.perf_counter() - started
        cold_s = seen.cold_s + max(0.0, took_s - found.age_s)
        unseen = () if seen.detections or seen.degraded or not query.focus.detects else (NO_OBJECT,)
        answer = Answer(
            width=seen.width,
            height=seen.height,
            model=seen.embedded.model,
            collection=found.collection,
            lists=tuple(
                ProductList.first_page(entry, ranked, query.top_k, f"o{number}")
                for number, (entry, ranked) in enumerate(zip(wanted, fixed, strict=True))
            ),
            degraded=(*seen.degraded, *unseen, *found.degraded),
            watermark_ms=found.watermark_ms,
            timings_ms={
                **seen.timings_ms,
                "search": took_s * 1e3,
                "total": sum(seen.timings_ms.values()) + took_s * 1e3,
                **({COLD_START: cold_s * 1e3} if cold_s else {}),
            },
        )
        if self._onlooker is not None and seen.crops is not None and not terms.bulk:
            self._onlooker.answered(seen, query, answer)
        return answer

    async def rank(
        self,
        lists: Sequence[ObjectList],
        embedded: Embedded,
        query: Query,
        depth: int,
        terms: Terms = PATIENT,
    ) -> tuple[list[Fixed | None], Found]:
        """Search all lists in one call, and again with more rows while the first `depth` products could still change.

        A list names the embeddings that it is searched by; where it names none, it is not searched. The last call fixes
        the rankings, so what it says of the index is true of them. Any order but that by similarity takes them all, and
        so does counting them. Raises BadParameter where chances are asked for that can't be told.
        """
        rules, by_price = self._rules(), query.sort is not Sort.SIMILARITY
        curve = self._curve_for(embedded.model, query)
        if by_price or query.facets:
            depth = MAX_RANKED
        # Whatever may be lifted has to be known to the end of the band that the last product is in.
        beyond = MOST_IN_BAND if rules.lifts and not by_price else 0
        k = min((max(depth, LEADERS if curve else 0) + beyond) * self._rows_per_product, MAX_ROWS)
        while True:
            found = await self._searcher.search(embedded, k, query.wanted, query.strong, terms)
            lacking = [flag for flag in found.degraded if flag in self._refused]
            if lacking:
                raise MilvusUnavailable(f"a part of the index is away ({lacking[0]}); try again shortly")
            work = partial(self._fixed, lists, embedded, found, query, depth, k, rules, curve)
            large = sum(map(len, found.hits)) * (1 + len(rules.rules)) > ON_THE_LOOP_CHECKS
            fixed, more = await asyncio.to_thread(work) if large else work()
            if not more or k == MAX_ROWS:
                return fixed, found
            k = min(k * 4, MAX_ROWS)

    def _fixed(
        self,
        lists: Sequence[ObjectList],
        embedded: Embedded,
        found: Found,
        query: Query,
        depth: int,
        k: int,
        rules: Rules,
        curve: Curve | None,
    ) -> tuple[list[Fixed | None], bool]:
        """Return what the hits fix of each list's ranking, and whether its first `depth` products could still change.

        `k` rows were asked for with each embedding.
        """
        by_price = query.sort is not Sort.SIMILARITY
        more = False
        fixed: list[Fixed | None] = []
        for entry in lists:
            own = [found.hits[i] for i in entry.crops]
            ranked = by_similarity(
                own,
                asked=k,
                shows=rules.shows,
                min_score=query.min_score,
                by_parent=query.by_parent,
                curve=curve,
                area=entry.detection.box.area,
                min_match=query.min_match,
            )
            more |= ranked.is_led_by_unseen or needs_more(ranked.page, ranked.unseen, depth)
            final = final_part(ranked.page, ranked.unseen, depth)[:MAX_RANKED]
            whole = ranked.unseen is None or len(final) == MAX_RANKED or k == MAX_ROWS
            if by_price:
                final = sort(
                    final,
                    query.sort,
                    band=self._price_band,
                    currency=query.currency,
                    worths=dict(query.worths),
                    place=rules.place,
                )
            elif rules.arranges:
                final = rules.arranged(final, whole=whole)
                more |= not whole and len(final) < depth
            searched_by = embedded.embeddings[list(entry.crops)]
            fixed.append(Fixed(tuple(final), whole, searched_by, ranked.chances) if entry.crops else None)
        return fixed, more

    def _curve_for(self, model: str, query: Query) -> Curve | None:
        """Return what makes chances of a model's scores; raises BadParameter where it lacks and is needed."""
        # Of what is like a product that is left out, none is the right one.
        curve = None if query.wanted.but_product else self._curve
        if curve is not None and curve.model == model:
            return curve
        if query.min_match is not None:
            raise BadParameter(no_curve(model))
        return None
