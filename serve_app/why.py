"""Why a product is where it is in the lists of a photo, or in none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from serve_app.calibration import Chances
from serve_app.domain import PATIENT, Embeddings, Hit, StoredView, Terms, View
from serve_app.errors import UnknownProduct
from serve_app.filters import matches
from serve_app.objects import ObjectList, query_lists
from serve_app.pipeline import MAX_RANKED, DetectorStage, EmbedderStage, Fixed, Pipeline, Query
from serve_app.rules import Action, Rule, Rules
from serve_app.similar import ProductStage


class Reason(StrEnum):
    """What decides where a product is; of several, the first that holds."""

    SHOWN = "shown"
    FURTHER_DOWN = "further_down"
    HIDDEN = "hidden_by_rule"
    FILTERED = "filtered_out"
    LOW_SCORE = "below_min_score"
    LOW_MATCH = "below_min_match"
    SAME_PICTURE = "same_picture"
    SAME_PARENT = "same_parent"
    BEYOND = "beyond_ranking"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Place:
    """Say where the product is in one list.

    `rank` counts from 1, None where the ranking lacks it. `score` is the best exact cosine of its rows with what is
    searched, `best` the row that has it. `first` are the products of the first page.
    """

    object: ObjectList
    reason: Reason
    rank: int | None
    score: float
    best: Hit
    first: tuple[Hit, ...]
    instead: str | None = None
    """The product that stands for it, where pictures or parents are the same."""
    chances: Chances | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """Hold the answer: the product as the index has it, the rule that holds for it, its place in each list."""

    product: Hit
    views: int
    rule: Rule | None
    places: tuple[Place, ...]
    model: str
    collection: str | None


class Explainer:
    """Search as shoppers do, and look for one product in what is found."""

    def __init__(
        self,
        detector: DetectorStage,
        embedder: EmbedderStage,
        searcher: ProductStage,
        pipeline: Pipeline,
        rules: Callable[[], Rules],
        model: str,
    ) -> None:
        self._detector = detector
        self._embedder = embedder
        self._searcher = searcher
        self._pipeline = pipeline
        self._rules = rules
        self._model = model

    async def why(self, photo: bytes, product_id: str, query: Query, terms: Terms = PATIENT) -> Why:
        """Return where a product is for a photo; raises UnknownProduct, and what the stages raise."""
        stored = await self._searcher.product(self._model, product_id, True, True, terms)
        if not stored.rows:
            raise UnknownProduct(f"the index has no product {product_id[:80]!r}: it was never imported, or is deleted")
        sighting = await self._detector.detect(photo, query.focus, terms)
        embedded = await self._embedder.embed(sighting.crops, terms)
        lists = [entry for entry in query_lists(sighting.detections, query.focus) if entry.crops]
        ranked, found = await self._pipeline.rank(lists, embedded, query, MAX_RANKED, terms)
        rules = self._rules()
        newest = max(stored.rows, key=lambda view: (view.updated_at, view.hit.view is View.WHOLE)).hit
        return Why(
            product=newest,
            views=len(stored.rows),
            rule=rules.rule(newest),
            places=tuple(
                _place(entry, fixed, stored.rows, query, rules)
                for entry, fixed in zip(lists, ranked, strict=True)
                if fixed is not None
            ),
            model=embedded.model,
            collection=found.collection,
        )


def _place(entry: ObjectList, fixed: Fixed, rows: Sequence[StoredView], query: Query, rules: Rules) -> Place:
    best = _best(rows, fixed.embeddings)
    product_id = best.product_id
    rank = next((rank for rank, hit in enumerate(fixed.hits, 1) if hit.product_id == product_id), None)
    reason, instead = _reason(best, rank, fixed, [view.hit for view in rows], query, rules)
    first = fixed.hits[: query.top_k]
    return Place(entry, reason, rank, best.score, best, first, instead, fixed.chances)


def _best(rows: Sequence[StoredView], embeddings: Embeddings) -> Hit:
    """Return the row that is most like one of the embeddings, with their cosine."""
    cosines = np.stack([view.vector for view in rows]) @ embeddings.T
    which = int(np.argmax(cosines.max(axis=1)))
    return replace(rows[which].hit, score=float(cosines[which].max()))


def _reason(
    best: Hit, rank: int | None, fixed: Fixed, rows: Sequence[Hit], query: Query, rules: Rules
) -> tuple[Reason, str | None]:
    if rank is not None:
        return (Reason.SHOWN if rank <= query.top_k else Reason.FURTHER_DOWN), None
    if all((rule := rules.rule(hit)) is not None and rule.action is Action.HIDE for hit in rows):
        return Reason.HIDDEN, None
    if not any(matches(query.wanted, hit) for hit in rows):
        return Reason.FILTERED, None
    if query.min_score is not None and best.score < query.min_score:
        return Reason.LOW_SCORE, None
    if query.min_match is not None and fixed.chances and not fixed.chances.at_least([best], query.min_match):
        return Reason.LOW_MATCH, None
    pictures = {hit.picture for hit in rows}
    twin = next((hit.product_id for hit in fixed.hits if hit.picture in pictures), None)
    if twin is not None:
        return Reason.SAME_PICTURE, twin
    sibling = next((hit.product_id for hit in fixed.hits if hit.parent_id and hit.parent_id == best.parent_id), None)
    if query.by_parent and sibling is not None:
        return Reason.SAME_PARENT, sibling
    return (Reason.NOT_FOUND if fixed.whole and len(fixed.hits) < MAX_RANKED else Reason.BEYOND), None
