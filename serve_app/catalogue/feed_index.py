"""Events applied to the index: deletes, then upserts, then updates of what is there.

That order and the times that the index holds make the order in which events come not matter: each says of an image
what no newer event said. Only an update that comes before the upsert of its image finds nothing to change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from serve_app.catalogue.events import Change, Delete, Event, Upsert, apply
from serve_app.catalogue.manifest import Entry, Problem
from serve_app.catalogue.report import Outcome, Status
from serve_app.catalogue.stored_image import StoredImage
from serve_app.collection import Row
from serve_app.domain import View

NOT_INDEXED = "not_indexed"

Embed = Callable[[Sequence[Entry]], Iterable[Outcome]]
"""Import entries, each of another image and with a time of its own; give an outcome for each by its `row`."""


class Index(Protocol):
    """What a feed asks of the index."""

    def rows(self, image_ids: Iterable[str]) -> Mapping[str, Mapping[View, Row]]: ...

    def images_of(self, product_ids: Iterable[str]) -> Mapping[str, Iterable[str]]: ...

    def write(self, rows: Sequence[Row]) -> None: ...

    def delete(self, image_ids: Iterable[str]) -> None: ...


class Tombstones(Protocol):
    """What a feed asks of the memory for deletes; times are milliseconds since 1970 UTC."""

    def add(self, times: Mapping[str, int]) -> None: ...

    def noted(self, keys: Iterable[str]) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True)
class _Due:
    """Hold an upsert to be embedded: its place in the batch, the image as it is, the entry as it is to become."""

    place: int
    upsert: Upsert
    entry: Entry
    times: Mapping[str, int]
    """Of columns that newer updates changed."""


@dataclass(slots=True)
class _Course:
    """Collect what becomes of a batch, by places, and the places of the upserts that were applied, by images."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    upserted: dict[str, tuple[int, int]] = field(default_factory=dict)

    def end(self, place: int, event: Event, status: Status, written_rows: int = 0, removed_views: int = 0) -> None:
        if isinstance(event, Upsert):
            image, product_id = event.entry.image, event.entry.product_id
        else:
            image, product_id = event.image_id or "", event.product_id or ""
        self.outcomes[place] = Outcome(event.row, image, product_id, status, written_rows, removed_views)

    def refuse(self, place: int, problem: Problem) -> None:
        self.outcomes[place] = Outcome.of_problem(problem)


class FeedIndex:
    """Apply events to an index; `embed` does what needs images."""

    def __init__(self, index: Index, tombstones: Tombstones, embed: Embed) -> None:
        self._index = index
        self._tombstones = tombstones
        self._embed = embed

    def apply(self, events: Sequence[Event]) -> list[Outcome]:
        """Return what became of each event once Milvus has what it asks for.

        A delete counts as updated where it removed rows. Raises MilvusUnavailable, DeadlineExceeded, IndexMissing and
        what `embed` raises; the events may then be applied again.
        """
        course = _Course()
        deletes = _of(Delete, events)
        self._delete(deletes, course)
        self._upsert(_of(Upsert, events), deletes, course)
        self._change(_of(Change, events), course)
        return [course.outcomes[place] for place in range(len(events))]

    def _delete(self, deletes: Mapping[int, Delete], course: _Course) -> None:
        if not deletes:
            return
        times: dict[str, int] = {}
        for delete in deletes.values():
            times[delete.key] = max(delete.at_ms, times.get(delete.key, delete.at_ms))
        # Noted before anything goes: a run that is killed in between is repeated.
        self._tombstones.add(times)
        images = self._images(deletes)
        stored = self._stored(image_id for found in images.values() for image_id in found)
        gone: dict[str, None] = {}
        for place, delete in deletes.items():
            found = {image_id: stored[image_id] for image_id in images[place] if image_id in stored}
            removed = [image_id for image_id, image in found.items() if image.since_ms <= delete.at_ms]
            rows = sum(len(stored[image_id].rows) for image_id in removed if image_id not in gone)
            gone |= dict.fromkeys(removed)
            status = Status.UPDATED if rows else Status.STALE if len(found) > len(removed) else Status.UNCHANGED
            course.end(place, delete, status, removed_views=rows)
        if gone:
            self._index.delete(gone)

    def _upsert(self, upserts: Mapping[int, Upsert], deletes: Mapping[int, Delete], course: _Course) -> None:
        """Embed the newest upsert of each image; where that is refused, the one before it, as had it not come."""
        deleted = self._deleted(upserts, deletes)
        waiting: dict[str, list[tuple[int, Upsert]]] = defaultdict(list)
        for place, upsert in _by_time(upserts):
            if place in deleted:
                course.end(place, upsert, Status.STALE)
            else:
                waiting[upsert.entry.image_id].append((place, upsert))
        stored = self._stored(waiting)
        while waiting:
            due = self._due([some.pop() for some in waiting.values()], stored, course)
            for image_id in self._embed_all(due, course):
                for place, upsert in waiting.pop(image_id):
                    course.end(place, upsert, Status.STALE)
            waiting = {image_id: some for image_id, some in waiting.items() if some}

    def _deleted(self, upserts: Mapping[int, Upsert], deletes: Mapping[int, Delete]) -> set[int]:
        """Return the places of upserts that deletes make void, of this batch or noted before."""
        noted = self._tombstones.noted({key for upsert in upserts.values() for key in upsert.keys}) if upserts else {}
        # The same time says nothing of which came later, unless both are here.
        here = {(delete.key, delete.at_ms): place for place, delete in deletes.items()}
        return {
            place
            for place, upsert in upserts.items()
            for key in upsert.keys
            if noted.get(key, upsert.at_ms) > upsert.at_ms or here.get((key, upsert.at_ms), -1) > place
        }

    def _due(
        self, upserts: Sequence[tuple[int, Upsert]], stored: Mapping[str, StoredImage], course: _Course
    ) -> list[_Due]:
        """Return what is to be embedded, with what newer updates say of it."""
        due = []
        for place, upsert in upserts:
            image = stored.get(upsert.entry.image_id)
            if image is None or image.updated_at <= upsert.at_ms:
                due.append(_Due(place, upsert, upsert.entry, {}))
            elif image.since_ms > upsert.at_ms:
                course.end(place, upsert, Status.STALE)
            else:
                entry = apply(image.newer_than(upsert.at_ms), upsert.entry)
                if isinstance(entry, Problem):
                    course.refuse(place, replace(entry, row=upsert.row, columns=upsert.columns()))
                    continue
                times = {column: at for column, at in image.times.items() if at > upsert.at_ms}
                due.append(_Due(place, upsert, replace(entry, at_ms=image.updated_at), times))
        return due

    def _embed_all(self, due: Sequence[_Due], course: _Course) -> list[str]:
        """Embed, and return the images of which that was done or is none of an event's business any more."""
        if not due:
            return []
        by_place = {each.place: each for each in due}
        # Offsets come twice where a topic has partitions, places don't.
        found = self._embed([replace(each.entry, row=each.place) for each in due])
        outcomes = {outcome.row: outcome for outcome in found}
        for place, outcome in outcomes.items():
            upsert = by_place[place].upsert
            outcome = replace(outcome, row=upsert.row)
            if outcome.status is Status.PROBLEM:
                outcome = replace(outcome, columns=upsert.columns())
            else:
                course.upserted[upsert.entry.image_id] = (upsert.at_ms, place)
            course.outcomes[place] = outcome
        # An importer leaves what is the same alone, and knows nothing of the times of columns.
        self._stamp([each for each in due if outcomes[each.place].status is Status.UNCHANGED or each.times])
        return [each.upsert.entry.image_id for each in due if outcomes[each.place].status is not Status.PROBLEM]

    def _stamp(self, due: Iterable[_Due]) -> None:
        """Let images be of the time of their upserts, so that no older event changes them."""
        wanted = {each.upsert.entry.image_id: each for each in due}
        rows: list[Row] = []
        for image_id, image in self._stored(wanted).items():
            each = wanted[image_id]
            new = image.stamped(each.upsert.at_ms, each.times)
            if image.is_whole and image.updated_at <= new.updated_at and image.times_differ(new):
                rows += new.rows.values()
        if rows:
            self._index.write(rows)

    def _change(self, changes: Mapping[int, Change], course: _Course) -> None:
        if not changes:
            return
        images = self._images(changes)
        stored = self._stored(image_id for found in images.values() for image_id in found)
        before = {image_id: image for image_id, image in stored.items() if image.is_whole}
        now = dict(before)
        nowhere = {place: change for place, change in changes.items() if not any(i in now for i in images[place])}
        noted = self._tombstones.noted({change.key for change in nowhere.values()}) if nowhere else {}
        for place, change in _by_time(changes):
            if place not in nowhere:
                self._change_all(place, change, [i for i in images[place] if i in now], now, course)
            elif change.key in noted:
                course.end(place, change, Status.STALE)
            else:
                reason = "there is no such image or product in the index; send it as an upsert first"
                problem = Problem(change.row, change.image_id or "", change.product_id or "", NOT_INDEXED, reason)
                course.refuse(place, replace(problem, columns=change.columns()))
        rows = [row for key, image in now.items() if image is not before[key] for row in image.rows.values()]
        if rows:
            self._index.write(rows)

    def _change_all(
        self, place: int, change: Change, image_ids: Iterable[str], now: dict[str, StoredImage], course: _Course
    ) -> None:
        """Change images in `now`; where one can't be changed so, the others are all the same."""
        problem: Problem | None = None
        written, status = 0, Status.STALE
        for image_id in image_ids:
            if course.upserted.get(image_id, (0, 0)) > (change.at_ms, place):
                continue
            image = now[image_id].changed(change)
            if isinstance(image, Problem):
                problem = problem or image
            elif image is not None:
                is_same = image.row_sha256s == now[image_id].row_sha256s
                status = Status.UNCHANGED if is_same and status is not Status.UPDATED else Status.UPDATED
                if not is_same or image.times_differ(now[image_id]):
                    written += len(image.rows)
                    now[image_id] = image
        if problem is not None:
            course.refuse(place, problem)
        else:
            course.end(place, change, status, written_rows=written)

    def _images(self, events: Mapping[int, Delete] | Mapping[int, Change]) -> dict[int, list[str]]:
        """Return the images that events are about, by places, whether or not the index has them."""
        products = {event.product_id for event in events.values() if event.product_id is not None}
        found = self._index.images_of(sorted(products)) if products else {}
        return {
            place: [event.image_id] if event.image_id is not None else sorted(found.get(event.product_id or "", ()))
            for place, event in events.items()
        }

    def _stored(self, image_ids: Iterable[str]) -> dict[str, StoredImage]:
        asked = list(dict.fromkeys(image_ids))
        found = self._index.rows(asked) if asked else {}
        return {image_id: StoredImage(rows) for image_id, rows in found.items() if rows}


_Kind = TypeVar("_Kind", Upsert, Change, Delete)


def _of(kind: type[_Kind], events: Sequence[Event]) -> dict[int, _Kind]:
    """Return the events of one kind by their places in the batch."""
    return {place: event for place, event in enumerate(events) if isinstance(event, kind)}


def _by_time(events: Mapping[int, _Kind]) -> list[tuple[int, _Kind]]:
    """Return events with their places, the oldest first, and of those at one time the first that came."""
    return sorted(events.items(), key=lambda item: (item[1].at_ms, item[0]))
