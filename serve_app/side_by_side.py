"""What several models find for one photo, each in its own index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from serve_app.collection import IndexInfo
from serve_app.domain import PATIENT, Crops, Terms
from serve_app.objects import query_lists
from serve_app.pipeline import DetectorStage, Embedded, Pipeline, ProductList, Query

UNNAMED = "not registered"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Name a model that can be compared: one whose head can be had, and whose index is searched."""

    fingerprint: str
    name: str
    collection: str
    running: bool


def candidates(indexes: Sequence[IndexInfo], registered: Mapping[str, str], running: str) -> list[Candidate]:
    """Return the models that can be compared, the running one first; `registered` are names by fingerprint."""
    names = {running: UNNAMED} | dict(registered)
    found = [
        Candidate(each.fingerprint, names[each.fingerprint], each.collection, each.fingerprint == running)
        for each in indexes
        if each.alias is not None and each.fingerprint in names
    ]
    return sorted(found, key=lambda each: not each.running)


@dataclass(frozen=True, slots=True)
class Side:
    """Hold what one model found: the first page of each list."""

    model: str
    collection: str | None
    lists: tuple[ProductList, ...]


class AnyEmbedder(Protocol):
    async def embed_as(self, model: str, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        """Return one embedding per crop, made by the model of this fingerprint; raises UnknownModel."""
        ...


class SideBySide:
    """Search with several models as shoppers do with one; the photo is looked at once."""

    def __init__(self, detector: DetectorStage, embedder: AnyEmbedder, pipeline: Pipeline) -> None:
        self._detector = detector
        self._embedder = embedder
        self._pipeline = pipeline

    async def compare(
        self, photo: bytes, models: Sequence[str], query: Query, terms: Terms = PATIENT
    ) -> tuple[Side, ...]:
        """Return a side for each model, in their order; raises UnknownModel, and what the stages raise."""
        sighting = await self._detector.detect(photo, query.focus, terms)
        lists = [entry for entry in query_lists(sighting.detections, query.focus) if entry.crops]
        sides = []
        for model in models:
            embedded = await self._embedder.embed_as(model, sighting.crops, terms)
            ranked, found = await self._pipeline.rank(lists, embedded, query, query.top_k, terms)
            shown = tuple(
                ProductList.first_page(entry, fixed, query.top_k) for entry, fixed in zip(lists, ranked, strict=True)
            )
            sides.append(Side(embedded.model, found.collection, shown))
        return tuple(sides)
