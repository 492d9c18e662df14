"""The work on one block of entries: read, compare with the index, embed what is new, write.

The index is the import's only memory: what it holds is left alone, so a run that was killed at any moment
is repeated without harm and goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from serve_app.catalogue.manifest import Entry, Problem
from serve_app.catalogue.plan import Action, EmbeddedView, Planned, Recipe, StoredRow, decide, kept_views, stored_views
from serve_app.catalogue.report import Outcome, Status
from serve_app.collection import KnownImage, Row
from serve_app.config import Config
from serve_app.domain import Crops, Detection, Embeddings, Photo, Pixels, View
from serve_app.errors import BadInput, BadWeights, EmptyBody, PhotoTooLarge
from serve_app.images import cut_all, decode
from serve_app.objects import import_views
from serve_app.weights.loader import DETECTOR_SHA256

log = logging.getLogger(__name__)

MISSING_FILE = "missing_file"
UNREADABLE_FILE = "unreadable_file"
INTERNAL = "internal"

WRITE_EVERY_S = 2.0
"""Slow machines write before a block is done, so that a kill costs little and progress is seen."""


class Index(Protocol):
    """What an import asks of the index."""

    def known(self, image_ids: Iterable[str]) -> dict[str, KnownImage]: ...

    def stored(self, image_ids: Sequence[str]) -> Mapping[str, Mapping[View, StoredRow]]: ...

    def write(self, rows: Sequence[Row]) -> None: ...


class DetectorModel(Protocol):
    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]: ...


class EmbedderModel(Protocol):
    def embed(self, crops: Crops) -> Embeddings: ...


@dataclass(frozen=True, slots=True)
class Models:
    """Hold the loaded models; without a detector, only whole images are indexed."""

    detector: DetectorModel | None
    embedder: EmbedderModel


@dataclass(frozen=True, slots=True)
class Due:
    """Name an image that the models have to see, and the views that are stored of it."""

    planned: Planned
    stored_views: frozenset[str]

    @property
    def entry(self) -> Entry:
        return self.planned.entry


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """Hold an image's views and their crops, in the same order."""

    due: Due
    views: dict[View, Detection]
    crops: Crops


def recipe(config: Config) -> Recipe:
    """Return the recipe that the settings describe."""
    return Recipe(
        detector_sha256=DETECTOR_SHA256,
        side_px=config.detector.side_px,
        detector_min_confidence=config.detector.min_confidence,
        views=config.importing.views,
        min_confidence=config.importing.min_confidence,
    )


def index_properties(config: Config) -> dict[str, str]:
    """Return what an index is to remember of how its rows were made."""
    return {"shoplens.detector": DETECTOR_SHA256, "shoplens.views": json.dumps(asdict(recipe(config)))}


def load_models(config: Config, fingerprint: str) -> Models:
    """Load the models; raises BadWeights, BadConfig."""
    from serve_app.detector import YoloDetector
    from serve_app.embedder import ResNetEmbedder

    options = config.importing
    detector = None
    if options.views != "whole":
        detector = YoloDetector(
            config.detector_weights,
            device=options.device,
            threads=options.threads,
            side_px=config.detector.side_px,
            min_confidence=config.detector.min_confidence,
        )
    embedder = ResNetEmbedder(device=options.device, threads=options.threads, head=config.embedder.head)
    if embedder.fingerprint != fingerprint:
        raise BadWeights(f"this worker has the model {embedder.fingerprint}, the import is for {fingerprint}")
    return Models(detector, embedder)


class Importer:
    """Import blocks of entries whose images lie below `base`; the models are loaded once one is needed."""

    def __init__(
        self, config: Config, base: Path, index: Index, load: Callable[[], Models], *, updated_at: int
    ) -> None:
        self._config = config
        self._base = base
        self._index = index
        self._load = load
        self._updated_at = updated_at
        self._recipe = recipe(config).digest
        self._models: Models | None = None
        self._threads = ThreadPoolExecutor(config.importing.threads, thread_name_prefix="read")

    def run(self, block: Sequence[Entry | Problem]) -> Iterator[list[Outcome]]:
        """Import a block; yields outcomes as they are certain, those of written rows after Milvus has them.

        An image that can't be used is a problem among the outcomes. Raises MilvusUnavailable, DeadlineExceeded,
        BadWeights, BadConfig; the block may then be run again.
        """
        settled, rest = self.settle(block)
        yield settled
        yield from self._embed(rest)

    def settle(self, block: Sequence[Entry | Problem]) -> tuple[list[Outcome], list[Due]]:
        """Do all for a block that needs no model; returns what became of it, and the images that need one."""
        read = list(self._threads.map(self._plan, block))
        settled = [found for found in read if isinstance(found, Outcome)]
        planned = [found for found in read if isinstance(found, Planned)]
        known = self._index.known([p.entry.image_id for p in planned])
        actions: dict[Action, list[Planned]] = {action: [] for action in Action}
        for p in planned:
            actions[decide(p, known.get(p.entry.image_id))].append(p)
        settled += [_outcome(p.entry, Status.UNCHANGED) for p in actions[Action.UNCHANGED]]
        settled += [_outcome(p.entry, Status.STALE) for p in actions[Action.STALE]]
        rest = actions[Action.EMBED] + self._keep(actions[Action.METADATA], settled)
        due = [Due(p, stored_views(known.get(p.entry.image_id))) for p in rest]
        return settled, sorted(due, key=lambda d: d.entry.row)

    def first_usable(self, due: Sequence[Due]) -> tuple[list[Outcome], list[Due]]:
        """Return the images from the first one on that can be decoded, and what became of those before it."""
        problems: list[Outcome] = []
        for i, image in enumerate(due):
            decoded = self._decode(image)
            if not isinstance(decoded, Outcome):
                return problems, list(due[i:])
            problems.append(decoded)
        return problems, []

    def _plan(self, entry: Entry | Problem) -> Planned | Outcome:
        if isinstance(entry, Problem):
            return Outcome.of_problem(entry)
        try:
            image_sha256 = hashlib.sha256(self._read(entry)).hexdigest()
            planned = Planned(entry, image_sha256, self._recipe, self._updated_at)
            planned.check()
        except BadInput as error:
            return _problem(entry, error.code, error.message)
        except _CantRead as error:
            return _problem(entry, error.code, error.reason)
        return planned

    def _read(self, entry: Entry) -> bytes:
        path = self._base / entry.image
        limit = self._config.limits.max_body_bytes
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise _CantRead(MISSING_FILE, f"there is no file {path}") from error
        except (OSError, ValueError) as error:
            raise _CantRead(UNREADABLE_FILE, f"{path} can't be read: {error}") from error
        if not data:
            raise EmptyBody("the file is empty")
        if len(data) > limit:
            raise PhotoTooLarge(f"the file has more than {limit:,} bytes, limits.max_body_bytes; make it smaller")
        return data

    def _keep(self, changed: Sequence[Planned], settled: list[Outcome]) -> list[Planned]:
        """Write entries of known images with the stored embeddings; return those that have none to keep."""
        if not changed:
            return []
        stored = self._index.stored([p.entry.image_id for p in changed])
        rows: list[Row] = []
        written, again = [], []
        for p in changed:
            views = kept_views(p, stored.get(p.entry.image_id, {}))
            if views is None:
                again.append(p)
                continue
            rows += p.rows(views)
            written.append(_outcome(p.entry, Status.UPDATED, written_rows=len(views)))
        self._index.write(rows)
        settled += written
        return again

    def _embed(self, due: Sequence[Due]) -> Iterator[list[Outcome]]:
        rows: list[Row] = []
        outcomes: list[Outcome] = []
        last = time.monotonic()
        step = self._config.detector.max_batch
        for start in range(0, len(due), step):
            self._embed_step(due[start : start + step], rows, outcomes)
            if time.monotonic() - last > WRITE_EVERY_S or start + step >= len(due):
                self._index.write(rows)
                yield outcomes
                rows, outcomes, last = [], [], time.monotonic()

    def _embed_step(self, due: Sequence[Due], rows: list[Row], outcomes: list[Outcome]) -> None:
        """Add the rows and outcomes of a few images."""
        models = self._models = self._models or self._load()
        decoded = list(self._threads.map(self._decode, due))
        outcomes += [found for found in decoded if isinstance(found, Outcome)]
        seen = self._see(models, [found for found in decoded if not isinstance(found, Outcome)])
        vectors = self._vectors(models, [crop for image in seen for crop in image.crops])
        for image in seen:
            views = {view: EmbeddedView(detection, next(vectors)) for view, detection in image.views.items()}
            rows += image.due.planned.rows(views)
            removed = len(image.due.stored_views - set(views))
            outcomes.append(_outcome(image.due.entry, Status.EMBEDDED, written_rows=len(views), removed_views=removed))

    def _decode(self, due: Due) -> tuple[Due, Photo] | Outcome:
        try:
            data = self._read(due.entry)
            photo = decode(data, max_pixels=self._config.limits.max_pixels)
        except BadInput as error:
            return _problem(due.entry, error.code, error.message)
        except _CantRead as error:
            return _problem(due.entry, error.code, error.reason)
        except Exception as error:
            log.warning("image can't be decoded", exc_info=True, extra={"image": due.entry.image})
            return _problem(due.entry, INTERNAL, f"the decoder failed: {type(error).__name__}: {error}")
        # Hashed again: the file may have been replaced since it was compared.
        planned = replace(due.planned, image_sha256=hashlib.sha256(data).hexdigest())
        return replace(due, planned=planned), photo

    def _see(self, models: Models, photos: Sequence[tuple[Due, Photo]]) -> list[_Seen]:
        found: list[tuple[Detection, ...]] = [()] * len(photos)
        if models.detector is not None and photos:
            found = models.detector.find([photo for _, photo in photos])
        seen = []
        for (due, photo), detections in zip(photos, found, strict=True):
            views = import_views(detections, min_confidence=self._config.importing.min_confidence)
            seen.append(_Seen(due, views, cut_all(photo, [view.box for view in views.values()])))
        return seen

    def _vectors(self, models: Models, crops: Sequence[Pixels]) -> Iterator[Embeddings]:
        """Yield (256,) of each crop."""
        step = self._config.embedder.max_batch
        for start in range(0, len(crops), step):
            yield from models.embedder.embed(np.stack(crops[start : start + step]))


class _CantRead(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def _outcome(entry: Entry, status: Status, *, written_rows: int = 0, removed_views: int = 0) -> Outcome:
    return Outcome(entry.row, entry.image, entry.product_id, status, written_rows, removed_views)


def _problem(entry: Entry, code: str, reason: str) -> Outcome:
    return Outcome.of_problem(Problem(entry.row, entry.image, entry.product_id, code, reason))
