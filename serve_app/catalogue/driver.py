"""The course of an import: compare with the index first, start Ray once an image has to be embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NoReturn

from serve_app.catalogue.importer import Due, Importer, index_properties
from serve_app.catalogue.manifest import base_folder, read
from serve_app.catalogue.report import Outcome
from serve_app.config import Config
from serve_app.errors import DeadlineExceeded, MilvusUnavailable, StageUnavailable
from serve_app.milvus import indexing
from serve_app.milvus.client import connect
from serve_app.milvus.writer import index_writer
from serve_app.weights.loader import embedder_files, fingerprint

RUN_AGAIN = "what was written stays; run the same import again to go on"


def _silent() -> None:
    """Tell nobody."""


def run(
    config: Config,
    manifest: Path,
    uri: str,
    *,
    address: str | None = None,
    starting: Callable[[], None] = _silent,
    collection: str | None = None,
) -> Iterator[list[Outcome]]:
    """Import a manifest into the running model's index at `uri`; yields outcomes as they become certain.

    With `collection`, the rows go there instead: a backfill from the catalogue's images.

    An import without a new image that can be decoded never starts Ray. Once there is one, `starting` is called and a
    Ray of the import's own, or the one at `address`, does all that follows; the environment of
    `serve_app.ray_environment` has to be set by then. Raises MilvusUnavailable, DeadlineExceeded, StageUnavailable,
    BadWeights, BadConfig and BadManifest; every outcome that was yielded before counts.
    """
    try:
        yield from _run(config, manifest, uri, address, starting, collection)
    except (MilvusUnavailable, DeadlineExceeded, StageUnavailable) as error:
        raise type(error)(f"{error.message}; {RUN_AGAIN}") from error


def _run(
    config: Config,
    manifest: Path,
    uri: str,
    address: str | None,
    starting: Callable[[], None],
    collection: str | None,
) -> Iterator[list[Outcome]]:
    now = datetime.now(UTC)
    updated_at = int(now.timestamp() * 1000)
    model = fingerprint(embedder_files(config.embedder.head))
    first: list[Due] = []
    after_row = 0
    with closing(connect(config.milvus, uri)) as client:
        if collection is None:
            indexing.ensure(client, config.milvus, config.catalogue, model, now, index_properties(config))
        writer = index_writer(client, config.milvus, config.catalogue, model, collection)
        importer = Importer(config, base_folder(manifest), writer, _no_models, updated_at=updated_at)
        entries = read(manifest)
        while not first and (block := list(islice(entries, config.importing.block_rows))):
            outcomes, due = importer.settle(block)
            yield outcomes
            # Images that can't be used are due again in every import, and no reason to start Ray.
            broken, first = importer.first_usable(due)
            yield broken
            after_row = block[-1].row
    if first:
        starting()
        from serve_app.catalogue import flow

        work = flow.Work(manifest.resolve(), [due.entry for due in first], after_row)
        yield from flow.embed(config, work, flow.Target(uri, model, updated_at, collection), address=address)
        with closing(connect(config.milvus, uri)) as client:
            index_writer(client, config.milvus, config.catalogue, model, collection).flush()


def _no_models() -> NoReturn:
    raise AssertionError("comparing with the index needs no models")
