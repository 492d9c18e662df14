"""What an import does without pixels: read images, compare them with the index, keep what is known."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from serve_app.catalogue.manifest import Entry, Problem
from serve_app.catalogue.plan import (
    Action,
    Planned,
    StoredRow,
    decide,
    kept,
    kept_views,
    origin,
    stored_views,
)
from serve_app.catalogue.reading import Bytes, Found, Origin, Unreadable
from serve_app.catalogue.recipe import recipe
from serve_app.catalogue.report import Outcome, Status
from serve_app.collection import KnownImage, Row
from serve_app.config import Config
from serve_app.domain import View
from serve_app.errors import BadInput


class Index(Protocol):
    """What an import asks of the index."""

    def known(self, image_ids: Iterable[str], before_ms: int | None = None) -> Mapping[str, KnownImage]: ...

    def data(self, image_ids: Iterable[str]) -> Mapping[str, Mapping[str, Any]]: ...

    def stored(self, image_ids: Sequence[str]) -> Mapping[str, Mapping[View, StoredRow]]: ...

    def write(self, rows: Sequence[Row]) -> None: ...


class Reader(Protocol):
    """What reads images by their places."""

    def is_web(self, image: str) -> bool: ...

    def read(self, images: Sequence[str], known: Mapping[str, Origin]) -> list[Found]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Event:
    """Say of when and of which feed the rows of an import are; `at_ms` since 1970 UTC."""

    at_ms: int
    feed: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """Hold the file of an image that the models have to see, and the views that are stored of it."""

    planned: Planned
    data: bytes
    stored_views: frozenset[str]


@dataclass(slots=True)
class Compared:
    """Hold what became certain of some entries, and the images of the others.

    `seconds` went into each part of the work.
    """

    outcomes: list[Outcome]
    images: list[Due]
    seconds: dict[str, float]


class Comparer:
    """Do for blocks of entries all that needs no pixels; close it when done."""

    def __init__(
        self, config: Config, reader: Reader, index: Index, event: Event, before_ms: int | None = None
    ) -> None:
        """With `before_ms`, what was written to the index later need not be noticed; writes are checked again."""
        self._reader = reader
        self._index = index
        self._event = event
        self._before_ms = before_ms
        self._recipe = recipe(config).digest
        self._at_once = config.importing.images_at_once

    def close(self) -> None:
        self._reader.close()

    def run(self, block: Sequence[Entry | Problem]) -> Iterator[Compared]:
        """Compare a block, a few images at a time.

        An image that can't be read is a problem among the outcomes. Raises MilvusUnavailable and DeadlineExceeded; the
        block may then be run again.
        """
        problems = [Outcome.of_problem(each) for each in block if isinstance(each, Problem)]
        entries = [each for each in block if isinstance(each, Entry)]
        clock = Clock()
        with clock.counts("compare"):
            known = self._index.known([each.image_id for each in entries], self._before_ms)
            origins = self._origins(entries, known)
        if problems or not entries:
            yield Compared(problems, [], clock.take())
        for start in range(0, len(entries), self._at_once):
            yield self._step(entries[start : start + self._at_once], known, origins, clock)

    def _origins(self, entries: Sequence[Entry], known: Mapping[str, KnownImage]) -> dict[str, Origin]:
        """Return by image where the known ones at URLs were read from."""
        asked = {
            each.image_id: each.image for each in entries if each.image_id in known and self._reader.is_web(each.image)
        }
        stored = self._index.data(asked) if asked else {}
        found = {asked[image_id]: origin(data) for image_id, data in stored.items()}
        return {image: place for image, place in found.items() if place is not None}

    def _step(
        self,
        entries: Sequence[Entry],
        known: Mapping[str, KnownImage],
        origins: Mapping[str, Origin],
        clock: Clock,
    ) -> Compared:
        outcomes: list[Outcome] = []
        with clock.counts("read"):
            files = self._reader.read([entry.image for entry in entries], origins)
        actions: dict[Action, list[Planned]] = defaultdict(list)
        data: dict[str, bytes] = {}
        for entry, found in zip(entries, files, strict=True):
            planned = self._plan(entry, found, known.get(entry.image_id), origins)
            if isinstance(planned, Outcome):
                outcomes.append(planned)
                continue
            actions[decide(planned, known.get(entry.image_id))].append(planned)
            if isinstance(found, Bytes):
                data[entry.image_id] = found.data
        outcomes += [outcome_of(each.entry, Status.UNCHANGED) for each in actions[Action.UNCHANGED]]
        outcomes += [outcome_of(each.entry, Status.STALE) for each in actions[Action.STALE]]
        with clock.counts("update"):
            due = actions[Action.EMBED] + self._keep(actions[Action.METADATA], outcomes)
        with clock.counts("read"):
            lacking = [each for each in due if each.entry.image_id not in data]
            due = [each for each in due if each.entry.image_id in data] + self._read_anew(lacking, data, outcomes)
        due.sort(key=lambda each: each.entry.row)
        images = [Due(each, data[each.entry.image_id], stored_views(known.get(each.entry.image_id))) for each in due]
        return Compared(outcomes, images, clock.take())

    def _plan(
        self, entry: Entry, found: Found, known: KnownImage | None, origins: Mapping[str, Origin]
    ) -> Planned | Outcome:
        if isinstance(found, Unreadable):
            return problem_of(entry, found.code, found.reason)
        if isinstance(found, Bytes):
            sha256, place, file = found.sha256, found.origin, found.file
        else:
            assert known is not None  # only then was its server asked whether it changed
            sha256, place, file = known.image_sha256, origins[entry.image], ""
        at_ms = self._event.at_ms if entry.at_ms is None else entry.at_ms
        planned = Planned(entry, sha256, self._recipe, at_ms, feed=self._event.feed, origin=place, file=file)
        try:
            planned.check()
        except BadInput as error:
            return problem_of(entry, error.code, error.message)
        return planned

    def _keep(self, changed: Sequence[Planned], outcomes: list[Outcome]) -> list[Planned]:
        """Write entries of known images with the stored embeddings; return those that have none to keep."""
        if not changed:
            return []
        stored = self._index.stored([each.entry.image_id for each in changed])
        rows: list[Row] = []
        written, again = [], []
        for each in changed:
            found = stored.get(each.entry.image_id, {})
            views = kept_views(each, found)
            if views is None:
                again.append(each)
                continue
            rows += kept(each, found[View.WHOLE]).rows(views)
            written.append(outcome_of(each.entry, Status.UPDATED, written_rows=len(views)))
        self._index.write(rows)
        outcomes += written
        return again

    def _read_anew(self, lacking: Sequence[Planned], data: dict[str, bytes], outcomes: list[Outcome]) -> list[Planned]:
        """Read images that their servers said to be unchanged and that have to be embedded all the same."""
        due = []
        for each, found in zip(lacking, self._reader.read([p.entry.image for p in lacking], {}), strict=True):
            if isinstance(found, Bytes):
                data[each.entry.image_id] = found.data
                due.append(replace(each, image_sha256=found.sha256, origin=found.origin))
            elif isinstance(found, Unreadable):
                outcomes.append(problem_of(each.entry, found.code, found.reason))
        return due


def outcome_of(entry: Entry, status: Status, *, written_rows: int = 0, removed_views: int = 0) -> Outcome:
    return Outcome(entry.row, entry.image, entry.product_id, status, written_rows, removed_views)


def problem_of(entry: Entry, code: str, reason: str) -> Outcome:
    return Outcome.of_problem(Problem(entry.row, entry.image, entry.product_id, code, reason, entry.columns()))


class Clock:
    """Count the seconds that parts of the work take."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self._seconds: dict[str, float] = defaultdict(float, seconds or {})

    def take(self) -> dict[str, float]:
        seconds = dict(self._seconds)
        self._seconds.clear()
        return seconds

    @contextmanager
    def counts(self, part: str) -> Iterator[None]:
        start_s = time.monotonic()
        try:
            yield
        finally:
            self._seconds[part] += time.monotonic() - start_s
