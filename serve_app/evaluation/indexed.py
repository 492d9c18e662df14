"""The approximate index of Milvus against exact search over the same rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from serve_app.catalogue.manifest import Entry
from serve_app.collection import HIT_FIELDS, alias
from serve_app.config import Config
from serve_app.errors import BadInput, IndexMissing
from serve_app.evaluation.answers import Question, Run
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.memory_index import MemoryIndex
from serve_app.evaluation.models import Models
from serve_app.evaluation.offline import SearcherOf, Searchers, Told, over, run
from serve_app.evaluation.photos import Photos
from serve_app.milvus.client import connect
from serve_app.milvus.indexing import index_type_of, resolve
from serve_app.milvus.models import ModelSearchers
from serve_app.milvus.scanning import VECTORS_A_CALL, scan

MOST_ROWS = 200_000
"""Rows that exact search holds in memory: about 1 GiB with what the rows say."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """Name the collection that a model's searches use, and hold its rows."""

    collection: str
    index_type: str
    rows: MemoryIndex

    def gallery(self) -> Gallery:
        """Return what the rows say of products; their images can't be read from it."""
        return Gallery(
            (
                Entry(0, "", row["product_id"], row["image_id"], parent_id=row["parent_id"], category=row["category"])
                for row in self.rows.images()
            ),
            "",
        )


def read_index(config: Config, uri: str, model: str, told: Told) -> Indexed:
    """Read all rows of the collection that the model's searches use.

    Raises IndexMissing where there is none, and BadInput where it is too large for memory.
    """
    client = connect(config.milvus, uri)
    try:
        name = resolve(client, alias(config.catalogue, model))
        if name is None:
            raise IndexMissing("there is no index for this model; `shoplens import MANIFEST` makes it")
        rows = MemoryIndex()
        for batch in scan(client, name, [*HIT_FIELDS, "image_sha256", "vector"], batch=VECTORS_A_CALL):
            if len(rows) + len(batch) > MOST_ROWS:
                raise BadInput(f"{name} has more than {MOST_ROWS:,} rows; `shoplens index verify` compares by samples")
            for values in batch:
                rows.add(values)
            told(len(batch))
        return Indexed(name, index_type_of(client, name) or "no index", rows)
    finally:
        client.close()


def run_both(
    questions: Sequence[Question],
    models: Models,
    indexed: Indexed,
    config: Config,
    uri: str,
    photos: Photos,
    told: Told,
) -> tuple[Run, Run]:
    """Answer questions by exact search, then by the index; raises BadInput where a photo can't be used."""
    # Milvus can't leave images out for one search, so neither does the exact one.
    asked = [replace(question, left_out=frozenset()) for question in questions]
    exact, unusable = run(asked, models, over(indexed.rows), config, photos, told)
    if unusable:
        raise BadInput(f"{unusable[0].image} can't be used: {unusable[0].reason}")
    found, _ = run(asked, models, _milvus(config, uri), config, photos, told)
    return Run("exact", exact.model, exact.answers), Run(indexed.index_type, found.model, found.answers)


def _milvus(config: Config, uri: str) -> Searchers:
    @asynccontextmanager
    async def searchers() -> AsyncIterator[SearcherOf]:
        uris = (uri, *config.milvus.more_uris)
        found = ModelSearchers(uris, config.milvus, config.catalogue, config.searcher.params)
        try:
            yield lambda question: found
        finally:
            await found.close()

    return searchers
