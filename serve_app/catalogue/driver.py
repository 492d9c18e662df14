"""The course of an import: compare with the index first, start Ray once an image has to be embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from serve_app.catalogue import removal
from serve_app.catalogue.comparing import Event
from serve_app.catalogue.importer import Step
from serve_app.catalogue.manifest import Entry, Problem, read
from serve_app.catalogue.preparing import Preparer
from serve_app.catalogue.reading import ImageReader
from serve_app.catalogue.recipe import index_properties
from serve_app.collection import alias
from serve_app.config import Config
from serve_app.errors import DeadlineExceeded, MilvusUnavailable, StageUnavailable
from serve_app.milvus import indexing
from serve_app.milvus.client import connect
from serve_app.milvus.tombstones import Tombstones
from serve_app.milvus.writer import MilvusWriter, index_writer
from serve_app.weights.chosen import model_of

RUN_AGAIN = "what was written stays; run the same import again to go on"


@dataclass(frozen=True, slots=True)
class Job:
    """Name what is imported.

    `manifest` is a file or folder of this machine, `base` the folder or URL that its images are relative to, `at` the
    time of what it says, with a time zone, and `feed` the name under which its rows are kept apart from others.
    With `collection`, the rows go to one that is being filled: a backfill from the catalogue's images.
    """

    manifest: Path
    base: str
    at: datetime
    feed: str = ""
    collection: str | None = None

    @property
    def event(self) -> Event:
        return Event(int(self.at.timestamp() * 1000), self.feed)


def _silent() -> None:
    """Tell nobody."""


def run(
    config: Config, job: Job, uri: str, *, address: str | None = None, starting: Callable[[], None] = _silent
) -> Iterator[Step]:
    """Import into the running model's index at `uri`; yields outcomes as they become certain.

    An import without a new image that can be decoded never starts Ray. Once there is one, `starting` is called and a
    Ray of the import's own, or the one at `address`, does all that follows; the environment of
    `serve_app.ray_environment` has to be set by then. Raises MilvusUnavailable, DeadlineExceeded, StageUnavailable,
    BadWeights, BadConfig and BadManifest; every outcome that was yielded before counts.
    """
    try:
        yield from _run(config, job, uri, address, starting)
    except (MilvusUnavailable, DeadlineExceeded, StageUnavailable) as error:
        raise type(error)(f"{error.message}; {RUN_AGAIN}") from error


def _run(config: Config, job: Job, uri: str, address: str | None, starting: Callable[[], None]) -> Iterator[Step]:
    model = model_of(config)
    settled = 0
    rest: list[Entry | Problem] = []
    with closing(connect(config.milvus, uri)) as client:
        if job.collection is None:
            indexing.ensure(client, config.milvus, config.catalogue, model, job.at, index_properties(config))
        writer = index_writer(client, config.milvus, config.catalogue, model, job.collection)
        reader = ImageReader(config, job.base)
        entries = read(job.manifest)
        with closing(Preparer(config, reader, writer, job.event, job.event.at_ms)) as preparer:
            while not rest and (block := list(islice(entries, config.importing.block_rows))):
                settled += len(block)
                done: set[int] = set()
                for prepared in preparer.run(block):
                    done |= {outcome.row for outcome in prepared.outcomes}
                    yield Step(prepared.outcomes, prepared.seconds)
                    # Images that can't be used are due again in every import, and no reason to start Ray.
                    if prepared.images:
                        rest = [entry for entry in block if entry.row not in done]
                        break
    if rest:
        starting()
        from serve_app.catalogue import flow

        work = flow.Work(job.manifest.resolve(), rest, settled)
        target = flow.Target(uri, model, job.event, job.collection)
        yield from flow.embed(config, work, job.base, target, address=address)
        with closing(connect(config.milvus, uri)) as client:
            index_writer(client, config.milvus, config.catalogue, model, job.collection).flush()


def remove_gone(config: Config, job: Job, uri: str, *, yes: bool) -> int:
    """Remove what the index holds of the job's feed and its manifest no longer names; return how many images.

    Raises TooMuchGone, before anything is removed, where that is more than `import.max_removed_share` of the feed, or
    can't be told, unless `yes`.
    """
    model = model_of(config)
    most = 1.0 if yes else config.importing.max_removed_share
    with closing(connect(config.milvus, uri)) as client:
        index = MilvusWriter(client, alias(config.catalogue, model), config.milvus)
        tombstones = Tombstones(client, config.catalogue, config.milvus, config.feed.deletes_kept_s)
        return removal.remove_gone(index, tombstones, job.manifest, job.event, most_share=most, surely=yes)
