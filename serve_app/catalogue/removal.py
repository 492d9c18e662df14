"""What a full feed no longer names, taken out of the index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from serve_app.catalogue.comparing import Event
from serve_app.catalogue.events import image_key
from serve_app.catalogue.feed_index import Tombstones
from serve_app.catalogue.formats import raw_rows
from serve_app.catalogue.manifest import image_ids
from serve_app.catalogue.seen import Seen
from serve_app.domain import View
from serve_app.errors import TooMuchGone

FIELDS = ("row_id", "image_id", "view", "feed", "updated_at")


class Index(Protocol):
    """What a removal asks of the index."""

    def scan(self, fields: Sequence[str]) -> Iterator[Sequence[Mapping[str, Any]]]: ...

    def delete(self, image_ids: Iterable[str]) -> None: ...


def remove_gone(
    index: Index, tombstones: Tombstones, manifest: Path, event: Event, *, most_share: float, surely: bool
) -> int:
    """Remove the images of the event's feed that the manifest does not name; return how many.

    What a newer event wrote stays, and an older one that comes later brings nothing back. Raises TooMuchGone, before
    anything is removed, where more than `most_share` of the feed's images are gone, or, unless `surely`, where a row
    can't be read and so may name any of them.
    """
    named, unreadable = _named(manifest)
    if unreadable and not surely:
        raise TooMuchGone(
            f"{unreadable:,} rows can't be read, so what is gone from the feed can't be told and nothing was removed; "
            "mend them, or remove all that is not named with --yes"
        )
    held = gone = 0
    for rows, is_gone in _look(index, named, event):
        wholes = [row["view"] == View.WHOLE for row in rows]
        held += sum(wholes)
        gone += sum(whole and each for whole, each in zip(wholes, is_gone, strict=True))
    if gone > most_share * held:
        raise TooMuchGone(
            f"{gone:,} of the feed's {held:,} images are not in the manifest, which is more than "
            f"{most_share:.0%} (import.max_removed_share), so nothing was removed; if they are to go, add --yes"
        )
    for rows, is_gone in _look(index, named, event):
        images = {row["image_id"]: None for row, each in zip(rows, is_gone, strict=True) if each}
        # Noted before anything goes: a run that is killed in between is repeated.
        tombstones.add({image_key(image_id): event.at_ms for image_id in images})
        index.delete(images)
    return gone


def _named(manifest: Path) -> tuple[Seen, int]:
    """Return the ids that a manifest names, also in rows that can't be imported, and how many rows name none."""
    named, unreadable = Seen(), 0
    for ids in image_ids(raw_rows(manifest)):
        known = [each for each in ids if each]
        unreadable += len(ids) - len(known)
        named.add(known)
    return named, unreadable


def _look(index: Index, named: Seen, event: Event) -> Iterator[tuple[list[Mapping[str, Any]], list[bool]]]:
    """Yield the rows of a feed up to the time of an event, and for each whether its image is no longer named."""
    for rows in index.scan(FIELDS):
        old = [row for row in rows if row["feed"] == event.feed and row["updated_at"] <= event.at_ms]
        known = named.contains([row["image_id"] for row in old])
        yield old, [not each for each in known]
