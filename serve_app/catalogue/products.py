"""Whole products written to the index: each change becomes events of a feed."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from serve_app.catalogue.comparing import Reader
from serve_app.catalogue.events import Delete, Event, Message, Upsert, parse, product_key
from serve_app.catalogue.formats import DUPLICATE_IMAGE_ID, REQUIRED
from serve_app.catalogue.manifest import BAD_ROW, OPTIONAL, Problem
from serve_app.catalogue.reading import Bytes, Found, Origin
from serve_app.catalogue.report import Outcome, Status
from serve_app.changes import NO_LANGUAGE, Change, Changed, Put, Refusal, Result

RESERVED = frozenset((*REQUIRED, *OPTIONAL, "event", "at"))
"""Names of a manifest's columns, and an event's, which no attribute can have."""


class Feed(Protocol):
    """What events are applied to."""

    def apply(self, events: Sequence[Event]) -> list[Outcome]: ...


class Images(Protocol):
    """What knows which images a product has in the index."""

    def images_of(self, product_ids: Iterable[str]) -> Mapping[str, Iterable[str]]: ...


class Tombstones(Protocol):
    """What remembers from when on older events say nothing of a product."""

    def add(self, times: Mapping[str, int]) -> None: ...


class GivenImages:
    """Read images that were sent, and all others as `reader` does."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._files: dict[str, bytes] = {}

    @contextmanager
    def holding(self, changes: Iterable[Change]) -> Iterator[None]:
        """Know the files of these changes until the block ends."""
        images = (image for change in changes if isinstance(change, Put) for image in change.images)
        self._files = {image.place: image.data for image in images if not image.url}
        try:
            yield
        finally:
            self._files = {}

    def is_web(self, image: str) -> bool:
        return image not in self._files and self._reader.is_web(image)

    def read(self, images: Sequence[str], known: Mapping[str, Origin]) -> list[Found]:
        others = iter(self._reader.read([image for image in images if image not in self._files], known))
        return [Bytes(self._files[image], None) if image in self._files else next(others) for image in images]

    def close(self) -> None:
        self._reader.close()


@dataclass(slots=True)
class _Course:
    """Collect what is known of one change: the images that it names, and what became of its events."""

    change: Change
    at_ms: int
    events: list[Event] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    refusal: Refusal | None = None
    removed: int = 0

    @property
    def is_stored(self) -> bool:
        """Tell whether a product was put, and nothing newer or wrong kept any of it out."""
        return isinstance(self.change, Put) and self.refusal is None and not self._all(Status.STALE)

    def changed(self) -> Changed:
        return Changed(self.change.product_id, self.at_ms, None if self.refusal else self._result(), self.refusal)

    def _result(self) -> Result:
        if self._all(Status.STALE):
            return Result.STALE
        if self._all(Status.UNCHANGED) and not self.removed:
            return Result.UNCHANGED
        return Result.STORED if isinstance(self.change, Put) else Result.DELETED

    def _all(self, status: Status) -> bool:
        return all(outcome.status is status for outcome in self.outcomes)


class ProductWriter:
    """Apply changes of whole products through a feed's own rules."""

    def __init__(
        self,
        feed: Feed,
        index: Images,
        tombstones: Tombstones,
        images: GivenImages,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 10**6,
    ) -> None:
        self._feed = feed
        self._index = index
        self._tombstones = tombstones
        self._images = images
        self._now_ms = now_ms

    def apply(self, changes: Sequence[Change]) -> list[Changed]:
        """Return what became of each change once Milvus has what it asks for; of one product, the last one wins.

        A change of which an image can't be used is refused; its other images may be stored, and none is removed. Raises
        MilvusUnavailable, DeadlineExceeded and IndexMissing; the changes may then be applied again.
        """
        found: dict[int, Changed] = {}
        with self._images.holding(changes):
            for some in _rounds(changes):
                found |= {place: course.changed() for place, course in self._apply(some).items()}
        return [found[place] for place in range(len(changes))]

    def _apply(self, changes: Mapping[int, Change]) -> dict[int, _Course]:
        now_ms = self._now_ms()
        courses = {place: _course(place, change, now_ms) for place, change in changes.items()}
        events = [(course, event) for course in courses.values() if not course.refusal for event in course.events]
        for (course, event), outcome in zip(events, self._feed.apply([event for _, event in events]), strict=True):
            course.outcomes.append(outcome)
            if outcome.status is Status.PROBLEM and course.refusal is None:
                course.refusal = _refusal(course, event, outcome.code, outcome.reason)
        self._remove_others([course for course in courses.values() if course.is_stored])
        return courses

    def _remove_others(self, courses: Sequence[_Course]) -> None:
        """Remove the images that the products no longer have, and let what is older say nothing of them any more."""
        if not courses:
            return
        self._tombstones.add({product_key(course.change.product_id): course.at_ms for course in courses})
        stored = self._index.images_of(sorted({course.change.product_id for course in courses}))
        deletes = [
            (course, Delete(0, None, image_id, course.at_ms))
            for course in courses
            for image_id in sorted(set(stored.get(course.change.product_id, ())) - _image_ids(course.events))
        ]
        if not deletes:
            return
        for (course, _), outcome in zip(deletes, self._feed.apply([each for _, each in deletes]), strict=True):
            course.removed += outcome.removed_views


def _rounds(changes: Sequence[Change]) -> Iterator[dict[int, Change]]:
    """Yield changes by their places, those of one product one after the other."""
    rounds: dict[int, dict[int, Change]] = defaultdict(dict)
    seen: dict[str, int] = defaultdict(int)
    for place, change in enumerate(changes):
        rounds[seen[change.product_id]][place] = change
        seen[change.product_id] += 1
    yield from rounds.values()


def _course(place: int, change: Change, now_ms: int) -> _Course:
    """Return the events that a change stands for, or why they can't be made."""
    course = _Course(change, now_ms if change.at_ms is None else change.at_ms)
    for columns in _columns(change):
        event = _event(place, {**columns, "at": course.at_ms}, now_ms)
        if isinstance(event, Problem):
            course.refusal = Refusal.of_code(event.code, event.reason)
            return course
        course.events.append(event)
    ids = [event.entry.image_id for event in course.events if isinstance(event, Upsert)]
    twice = next((image_id for image_id in ids if ids.count(image_id) > 1), None)
    wrong = [] if not isinstance(change, Put) else [name for name in change.attributes if _is_reserved(name)]
    if not course.events:
        course.refusal = Refusal.of_code(BAD_ROW, "the product has no image; a product is found by its images")
    elif twice is not None:
        course.refusal = Refusal.of_code(DUPLICATE_IMAGE_ID, f"two images have the image_id {twice!r}; send each once")
    elif wrong:
        course.refusal = Refusal.of_code(BAD_ROW, f"an attribute can't be named {wrong[0]!r}; it is a column's name")
    return course


def _columns(change: Change) -> Iterator[dict[str, Any]]:
    """Yield the events of a change as a feed has them, one for each image."""
    if not isinstance(change, Put):
        yield {"event": "delete", "product_id": change.product_id}
        return
    titles = {
        "title" if language == NO_LANGUAGE else f"title_{language}": text for language, text in change.titles.items()
    }
    amount, currency = change.price or (None, None)
    for image in change.images:
        yield {
            **change.attributes,
            **titles,
            "event": "upsert",
            "image": image.place,
            "product_id": change.product_id,
            "image_id": image.image_id,
            "parent_id": change.parent_id,
            "category": change.category,
            "price": amount,
            "currency": currency,
            "in_stock": change.in_stock,
        }


def _event(place: int, columns: Mapping[str, Any], now_ms: int) -> Event | Problem:
    return parse(Message(place, json.dumps(columns).encode()), now_ms)


def _is_reserved(name: str) -> bool:
    return name in RESERVED or name.startswith("title_")


def _image_ids(events: Iterable[Event]) -> set[str]:
    return {event.entry.image_id for event in events if isinstance(event, Upsert)}


def _refusal(course: _Course, event: Event, code: str, reason: str) -> Refusal:
    """Return why a change is refused, with the number of the image that it is refused for, where it has several."""
    if len(course.events) > 1:
        reason = f"image {course.events.index(event) + 1} of {len(course.events)}: {reason}"
    return Refusal.of_code(code, reason)
