"""Images imported by the stages of a service that runs, which hold the models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from serve_app.catalogue.comparing import Comparer, Due, problem_of
from serve_app.catalogue.embedding import Embedded
from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.plan import EmbeddedView
from serve_app.catalogue.preparing import check_size
from serve_app.catalogue.recording import Recorder, RecordingIndex
from serve_app.catalogue.report import Outcome
from serve_app.config import Config
from serve_app.domain import PATIENT, Crops, Embeddings, Terms
from serve_app.errors import DeadlineExceeded, ShoplensError, StageUnavailable
from serve_app.pipeline import Embedded as EmbeddedCrops
from serve_app.pipeline import ImageViews


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Hold what the models make of an image: its views, an embedding for each, and the embedder's fingerprint."""

    views: ImageViews
    embeddings: Embeddings
    model: str


class Models(Protocol):
    def see(self, images: Sequence[bytes]) -> list[Seen | ShoplensError]:
        """Return what the models make of each image's file, or why they can't."""
        ...


class Stages(Protocol):
    """What seeing images asks of the service's stages."""

    async def views(self, image: bytes, terms: Terms = PATIENT) -> ImageViews: ...

    async def embed(self, crops: Crops, terms: Terms = PATIENT) -> EmbeddedCrops: ...


class StageModels:
    """Ask a service's stages, whose calls belong to the event loop `loop`, from another thread.

    All images of a call are under way at once. They wait for shoppers' searches.
    """

    def __init__(self, stages: Stages, loop: asyncio.AbstractEventLoop, deadline_s: float) -> None:
        self._stages = stages
        self._loop = loop
        self._deadline_s = deadline_s

    def see(self, images: Sequence[bytes]) -> list[Seen | ShoplensError]:
        return asyncio.run_coroutine_threadsafe(self._see_all(images), self._loop).result()

    async def _see_all(self, images: Sequence[bytes]) -> list[Seen | ShoplensError]:
        terms = Terms.within(self._deadline_s, bulk=True)
        return list(await asyncio.gather(*(self._see(image, terms) for image in images)))

    async def _see(self, image: bytes, terms: Terms) -> Seen | ShoplensError:
        try:
            async with asyncio.timeout(terms.left_s()):
                views = await self._stages.views(image, terms)
                embedded = await self._stages.embed(views.crops, terms)
        except TimeoutError:
            return DeadlineExceeded("the models took longer than a write may; send it again")
        except ShoplensError as error:
            return error
        return Seen(views, embedded.embeddings, embedded.model)


class StagedImporter:
    """Import entries as an import does, but for the models: those are the service's."""

    def __init__(
        self, config: Config, comparer: Comparer, index: RecordingIndex, models: Models, fingerprint: str
    ) -> None:
        self._config = config
        self._comparer = comparer
        self._recorder = Recorder(index)
        self._models = models
        self._fingerprint = fingerprint

    def __call__(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Return what became of each entry once Milvus has its rows.

        An image that can't be used, or that a stage does not answer for, is a problem among the outcomes. Raises
        MilvusUnavailable and DeadlineExceeded; the entries may then be imported again.
        """
        outcomes: list[Outcome] = []
        for compared in self._comparer.run(entries):
            outcomes += compared.outcomes
            if compared.images:
                outcomes += self._embed(compared.images)
        return outcomes

    def _embed(self, images: Sequence[Due]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        embedded: list[Embedded] = []
        for due, seen in zip(images, self._models.see([each.data for each in images]), strict=True):
            try:
                embedded.append(self._embedded(due, seen))
            except ShoplensError as error:
                outcomes.append(problem_of(due.planned.entry, error.code, error.message))
        return outcomes + (self._recorder.record(embedded)[0] if embedded else [])

    def _embedded(self, due: Due, seen: Seen | ShoplensError) -> Embedded:
        if isinstance(seen, ShoplensError):
            raise seen
        check_size(seen.views.width, seen.views.height, self._config)
        if seen.model != self._fingerprint:
            raise StageUnavailable(f"the model {seen.model} takes the place of {self._fingerprint}; try again later")
        views = {
            view: EmbeddedView(detection, vector)
            for (view, detection), vector in zip(seen.views.views, seen.embeddings, strict=True)
        }
        return Embedded(replace(due.planned, phash=seen.views.phash), views, due.stored_views)
