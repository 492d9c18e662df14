"""What a feed, and a service that takes products, apply events with: the index, the memory for deletes, the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from serve_app.catalogue.comparing import Comparer, Event
from serve_app.catalogue.embedding import load_models
from serve_app.catalogue.feed_index import FeedIndex
from serve_app.catalogue.importer import Importer
from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.preparing import Preparer
from serve_app.catalogue.products import GivenImages, ProductWriter
from serve_app.catalogue.reading import ImageReader
from serve_app.catalogue.recipe import index_properties
from serve_app.catalogue.report import Outcome
from serve_app.catalogue.staged import Models, StagedImporter
from serve_app.collection import alias
from serve_app.config import Config
from serve_app.milvus import indexing
from serve_app.milvus.client import connect
from serve_app.milvus.tombstones import Tombstones
from serve_app.milvus.writer import MilvusWriter
from serve_app.weights.chosen import model_of

FEED = "api"
"""The feed that products are noted to be of which came over HTTP: a full feed of another name does not remove them."""


@contextmanager
def opened(config: Config, uri: str, base: str, name: str, now: datetime) -> Iterator[FeedIndex]:
    """Yield what applies events to the running model's index at `uri`, in this process and without Ray.

    `base` is the folder or URL that images are relative to, `name` the feed that rows are noted to be of. Raises
    MilvusUnavailable, DeadlineExceeded and BadWeights.
    """
    model = model_of(config)
    with ExitStack() as stack:
        there = stack.enter_context(_index(config, uri, model, now))
        preparer = Preparer(config, ImageReader(config, base), there.writer, _event(name, now))
        stack.enter_context(closing(preparer))
        importer = Importer(config, preparer, there.writer, lambda: load_models(config, model))

        def embed(entries: Sequence[Entry]) -> list[Outcome]:
            return [outcome for step in importer.run(entries) for outcome in step.outcomes]

        yield FeedIndex(there.writer, there.tombstones, embed)


@contextmanager
def opened_for_products(config: Config, uri: str, model: str, models: Models) -> Iterator[ProductWriter]:
    """Yield what writes whole products to a model's index at `uri`; `models` are the service's.

    Raises MilvusUnavailable and DeadlineExceeded.
    """
    now = datetime.now(UTC)
    with ExitStack() as stack:
        there = stack.enter_context(_index(config, uri, model, now))
        images = GivenImages(ImageReader(config, ""))
        comparer = Comparer(config, images, there.writer, _event(FEED, now))
        stack.enter_context(closing(comparer))
        importer = StagedImporter(config, comparer, there.writer, models, model)
        feed = FeedIndex(there.writer, there.tombstones, importer)
        yield ProductWriter(feed, there.writer, there.tombstones, images)


@dataclass(frozen=True, slots=True)
class _Index:
    writer: MilvusWriter
    tombstones: Tombstones


@contextmanager
def _index(config: Config, uri: str, model: str, now: datetime) -> Iterator[_Index]:
    """Yield a model's index, which is made where there is none, and its memory for deletes."""
    with closing(connect(config.milvus, uri)) as client:
        indexing.ensure(client, config.milvus, config.catalogue, model, now, index_properties(config))
        writer = MilvusWriter(client, alias(config.catalogue, model), config.milvus)
        yield _Index(writer, Tombstones(client, config.catalogue, config.milvus, config.feed.deletes_kept_s))


def _event(feed: str, now: datetime) -> Event:
    """Return what is said of rows: events bring times of their own, and each is compared with all written before."""
    return Event(int(now.timestamp() * 1000), feed)
