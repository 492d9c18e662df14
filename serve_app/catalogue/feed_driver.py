"""What a feed is applied with: the index, the memory for deletes, and the models once an event needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime

from serve_app.catalogue.embedding import load_models
from serve_app.catalogue.feed_index import FeedIndex
from serve_app.catalogue.importer import Importer
from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.preparing import Event, Preparer
from serve_app.catalogue.reading import ImageReader
from serve_app.catalogue.recipe import index_properties
from serve_app.catalogue.report import Outcome
from serve_app.collection import alias
from serve_app.config import Config
from serve_app.milvus import indexing
from serve_app.milvus.client import connect
from serve_app.milvus.tombstones import Tombstones
from serve_app.milvus.writer import MilvusWriter
from serve_app.weights.loader import embedder_files, fingerprint


@contextmanager
def opened(config: Config, uri: str, base: str, name: str, now: datetime) -> Iterator[FeedIndex]:
    """Yield what applies events to the running model's index at `uri`, in this process and without Ray.

    `base` is the folder or URL that images are relative to, `name` the feed that rows are noted to be of. Raises
    MilvusUnavailable, DeadlineExceeded and BadWeights.
    """
    model = fingerprint(embedder_files(config.embedder.head))
    with closing(connect(config.milvus, uri)) as client:
        indexing.ensure(client, config.milvus, config.catalogue, model, now, index_properties(config))
        index = MilvusWriter(client, alias(config.catalogue, model), config.milvus)
        tombstones = Tombstones(client, config.catalogue, config.milvus, config.feed.deletes_kept_s)
        # Events bring times of their own; without `before_ms` each is compared with all that was written before.
        event = Event(int(now.timestamp() * 1000), name)
        with closing(Preparer(config, ImageReader(config, base), index, event)) as preparer:
            importer = Importer(config, preparer, index, lambda: load_models(config, model))

            def embed(entries: Sequence[Entry]) -> list[Outcome]:
                return [outcome for step in importer.run(entries) for outcome in step.outcomes]

            yield FeedIndex(index, tombstones, embed)
