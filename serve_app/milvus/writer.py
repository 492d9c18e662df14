"""Writes to one model's index, and to all that take its place."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import MilvusClient

from serve_app import collection as naming
from serve_app.collection import KnownImage, Row
from serve_app.config import MilvusConfig
from serve_app.domain import View
from serve_app.errors import IndexMissing
from serve_app.milvus import indexing
from serve_app.milvus.collection_writer import CollectionWriter, newest
from serve_app.milvus.scanning import scan
from serve_app.milvus.targets import Marks, State, Target, read_all, remember

log = logging.getLogger(__name__)

TARGET_MISSING_S = 10.0
"""How long a write waits for a target that isn't loaded, as after a restart, before it goes on without."""


class MilvusWriter:
    """Write to the collection that `alias` stands for, and to all that take its writes besides (`targets`).

    The searched collection is an import's checkpoint, so it is written last; a target whose backfill is under way is
    written once more after it, because the backfill may have copied the old row in between. Where a target is of
    another model, its rows are marked. Errors and guarantees are those of CollectionWriter.
    """

    def __init__(self, client: MilvusClient, alias: str, config: MilvusConfig) -> None:
        self._client = client
        self._alias = alias
        self._config = config
        self._catalogue, _, self._fingerprint = alias.rpartition("_")
        self._source = CollectionWriter(client, alias, config)
        self._marks = Marks(client, self._catalogue)

    def known(self, image_ids: Iterable[str], before_ms: int | None = None) -> dict[str, KnownImage]:
        """Return what is stored of those images, as CollectionWriter does."""
        return self._source.known(image_ids, before_ms)

    def data(self, image_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the `data` of those images' rows of the view `whole`."""
        return self._source.data(image_ids)

    def nearest(self, vectors: Sequence[npt.NDArray[np.float32]], k: int) -> list[list[dict[str, Any]]]:
        """Return PICTURE_FIELDS and `score` of the rows that are most like each vector, the best first."""
        return self._source.nearest(vectors, k)

    def stored(self, image_ids: Iterable[str]) -> dict[str, dict[View, dict[str, Any]]]:
        """Return KEPT_FIELDS of all rows of those images, by image and view, so that they can be written again."""
        return self._source.stored(image_ids)

    def rows(self, image_ids: Iterable[str]) -> dict[str, dict[View, Row]]:
        """Return all that is stored of those images, by image and view, as CollectionWriter does."""
        return self._source.rows(image_ids)

    def images_of(self, product_ids: Iterable[str]) -> dict[str, set[str]]:
        """Return the ids of the products' images, as CollectionWriter does."""
        return self._source.images_of(product_ids)

    def scan(self, fields: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield all rows in the order of their keys; of the last seconds' writes, some may be missing."""
        return scan(self._client, self._alias, fields)

    def write(self, rows: Sequence[Row]) -> None:
        """Store all rows of some images, as CollectionWriter does, wherever they belong."""
        rows = list(chain.from_iterable(newest(rows).values()))
        if not rows:
            return
        events = {row.image_id: row.updated_at for row in rows}
        name, before = self._look()
        for target in before:
            self._write_to(target, rows, events)
        self._source.write(rows)
        self._source.repeat(lambda: self._marks.clear(name, events))
        for target in self._late(before):
            self._write_to(target, rows, events)

    def delete(self, image_ids: Iterable[str]) -> None:
        """Remove all rows of those images, wherever they are; unknown ones are none of its business."""
        ids = list(image_ids)
        _, before = self._look()
        for target in before:
            self._writer(target).delete(ids)
        self._source.delete(ids)
        for target in self._late(before):
            self._writer(target).delete(ids)

    def flush(self) -> None:
        """Let Milvus seal what it holds in memory, so that it is indexed."""
        self._source.flush()

    def count(self) -> int:
        """Return the number of rows in the searched collection."""
        return self._source.count()

    def _look(self) -> tuple[str, list[Target]]:
        """Return the searched collection and the others that take writes now."""
        return self._source.repeat(self._look_once)

    def _look_once(self) -> tuple[str, list[Target]]:
        name = indexing.resolve(self._client, self._alias) or self._alias
        found = read_all(self._client, self._catalogue)
        return name, [target for target in found if target.is_open and target.collection != name]

    def _late(self, before: Sequence[Target]) -> list[Target]:
        """Return targets that a backfill fills, or that took no writes before, as after a switch."""
        names = {target.collection for target in before}
        return [target for target in self._look()[1] if target.state is State.FILLING or target.collection not in names]

    def _write_to(self, target: Target, rows: Sequence[Row], events: Mapping[str, int]) -> None:
        if target.fingerprint != self._fingerprint:
            self._source.repeat(lambda: self._marks.add(target.collection, events))
            return
        try:
            self._writer(target).write(rows)
        except IndexMissing:
            # Released or dropped meanwhile: the searched collection must not wait for it.
            log.warning("a collection missed a write", extra={"collection": target.collection})
            with suppress(IndexMissing):
                remember(self._client, target.collection, state=State.STALE)

    def _writer(self, target: Target) -> CollectionWriter:
        return CollectionWriter(self._client, target.collection, self._config, TARGET_MISSING_S)


class TargetWriter:
    """Write to a collection that is being filled, and forget what was marked of the images that it takes."""

    def __init__(self, client: MilvusClient, catalogue: str, name: str, config: MilvusConfig) -> None:
        self._writer = CollectionWriter(client, name, config)
        self._marks = Marks(client, catalogue)
        self._name = name

    def known(self, image_ids: Iterable[str], before_ms: int | None = None) -> dict[str, KnownImage]:
        """Return what is stored of those images there, as CollectionWriter does."""
        return self._writer.known(image_ids, before_ms)

    def data(self, image_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the `data` of those images' rows of the view `whole`."""
        return self._writer.data(image_ids)

    def nearest(self, vectors: Sequence[npt.NDArray[np.float32]], k: int) -> list[list[dict[str, Any]]]:
        """Return PICTURE_FIELDS and `score` of the rows that are most like each vector, the best first."""
        return self._writer.nearest(vectors, k)

    def stored(self, image_ids: Iterable[str]) -> dict[str, dict[View, dict[str, Any]]]:
        """Return KEPT_FIELDS of all rows of those images, by image and view."""
        return self._writer.stored(image_ids)

    def write(self, rows: Sequence[Row]) -> None:
        """Store all rows of some images, as CollectionWriter does."""
        self._writer.write(rows)
        events = {row.image_id: row.updated_at for row in rows}
        self._writer.repeat(lambda: self._marks.clear(self._name, events))

    def flush(self) -> None:
        """Let Milvus seal what it holds in memory, so that it is indexed."""
        self._writer.flush()


def index_writer(
    client: MilvusClient, config: MilvusConfig, catalogue: str, fingerprint: str, collection: str | None
) -> MilvusWriter | TargetWriter:
    """Return a writer to the collection that a model's searches use, or to one that is being filled."""
    if collection is None:
        return MilvusWriter(client, naming.alias(catalogue, fingerprint), config)
    return TargetWriter(client, catalogue, collection, config)
