"""Answers by the real models and rules in this process: an exact search over a gallery in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from serve_app.catalogue import embedding
from serve_app.catalogue.comparing import Event
from serve_app.catalogue.preparing import Preparer
from serve_app.catalogue.reading import ImageReader
from serve_app.catalogue.recording import Recorder
from serve_app.config import Config
from serve_app.domain import Source
from serve_app.errors import BadInput
from serve_app.evaluation.answers import Answered, Listed, Product, Question, Run
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.memory_index import MemoryIndex
from serve_app.evaluation.models import Models
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.questions import QuestionSet, answerable
from serve_app.pipeline import Answer, Pipeline, Query, SearcherStage
from serve_app.stages import BatchedDetector, BatchedEmbedder

AT_ONCE = 8
"""Questions under way, so that models get batches."""
TOP_K = 10

Told = Callable[[int], None]
"""Is told how many more images or photos are done."""

SearcherOf = Callable[[Question], SearcherStage]
"""Gives each question the searcher that leaves out what is to be left out for it."""
Searchers = Callable[[], AbstractAsyncContextManager[SearcherOf]]
"""Opens, in the event loop that they are used in, what searches."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Name a photo or an image that can't be used, with the reason."""

    image: str
    reason: str


def shelve(gallery: Gallery, models: Models, config: Config, told: Told) -> tuple[MemoryIndex, list[Unusable]]:
    """Make the index of a gallery as an import makes it, and tell what could not be used."""
    index = MemoryIndex()
    recorder = Recorder(index)
    unusable: list[Unusable] = []
    detector = models.detector if config.importing.views != "whole" else None
    preparer = Preparer(config, ImageReader(config, gallery.base), index, Event(at_ms=0))
    try:
        step = config.importing.images_at_once
        for start in range(0, len(gallery.entries), step):
            for prepared in preparer.run(gallery.entries[start : start + step]):
                unusable += [Unusable(each.image, each.reason) for each in prepared.outcomes if each.code]
                if prepared.images:
                    embedded, _ = embedding.embed(embedding.Models(detector, models.embedder), prepared.images, config)
                    recorder.record(embedded)
                told(len(prepared.images) + len(prepared.outcomes))
    finally:
        preparer.close()
    return index, unusable


def settle(asked: QuestionSet, index: MemoryIndex, photos: Photos) -> QuestionSet:
    """Return the questions that the index can answer: images that could not be used are no right answers.

    Other files of the photo's bytes and product are left out too: a photo that finds its own copy tells nothing.
    """
    gallery = asked.gallery.without(asked.gallery.images.keys() - index.image_ids)
    questions = [
        replace(each, left_out=each.left_out | index.copies(photos.sha256(each.image, each.base), each.right))
        for each in asked.questions
    ]
    settled = answerable(questions, gallery)
    return replace(settled, unanswerable=settled.unanswerable + asked.unanswerable)


def run(
    questions: Sequence[Question],
    models: Models,
    searchers: Searchers,
    config: Config,
    photos: Photos,
    told: Told,
) -> tuple[Run, list[Unusable]]:
    """Answer questions through the pipeline, each by a searcher of its own; tell which photos could not be used."""
    answers = asyncio.run(_run(questions, models, searchers, config, photos, told))
    answered = tuple(each for each in answers if isinstance(each, Answered))
    return Run(models.name, models.embedder.fingerprint, answered), [
        each for each in answers if isinstance(each, Unusable)
    ]


async def _run(
    questions: Sequence[Question],
    models: Models,
    searchers: Searchers,
    config: Config,
    photos: Photos,
    told: Told,
) -> list[Answered | Unusable]:
    limits = config.limits
    detector = BatchedDetector(
        models.detector, config.detector, max_pixels=limits.max_pixels, max_objects=limits.max_objects
    )
    embedder = BatchedEmbedder(models.embedder, config.embedder)
    turns = asyncio.Semaphore(AT_ONCE)
    rows = config.searcher.candidates_per_product

    async def one(question: Question, searcher_of: SearcherOf) -> Answered | Unusable:
        async with turns:
            try:
                photo = await asyncio.to_thread(photos.photo, question)
                pipeline = Pipeline(detector, embedder, searcher_of(question), rows_per_product=rows)
                return to_answered(question, await pipeline.run(photo, Query(top_k=TOP_K)))
            except BadInput as error:
                return Unusable(question.image, error.message)
            finally:
                told(1)

    try:
        async with searchers() as searcher_of:
            return await asyncio.gather(*(one(question, searcher_of) for question in questions))
    finally:
        await detector.close()
        await embedder.close()


def over(index: MemoryIndex) -> Searchers:
    """Search an index in memory."""

    @asynccontextmanager
    async def searchers() -> AsyncIterator[SearcherOf]:
        yield lambda question: index.without(question.left_out)

    return searchers


def to_answered(question: Question, answer: Answer) -> Answered:
    """Keep what is judged of an answer."""
    lists = []
    for each in answer.lists:
        if each.products is not None:
            products = tuple(Product(hit.product_id, hit.image_id, hit.score) for hit in each.products)
            is_whole = each.object.source is Source.WHOLE
            lists.append(Listed(each.object.detection.box, each.object.main, is_whole, products))
    return Answered(question, tuple(lists), answer.degraded)
