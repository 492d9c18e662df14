"""An image as the index holds it, and what updates change of it.

Updates name some columns only, so an image has a time for each: that of its last upsert, and for the columns that
updates changed since, theirs. They stand in `data` under CHANGED; `updated_at` is the newest of them. So an upsert that
comes late takes effect in all that no newer event named, and a late update in what it is the newest for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from serve_app.catalogue.events import Change, apply
from serve_app.catalogue.manifest import Entry, Problem
from serve_app.catalogue.plan import RECIPE, EmbeddedView, Planned
from serve_app.collection import IMAGE_FILE, Row, check
from serve_app.domain import WHOLE_BOX, Detection, View
from serve_app.errors import BadInput

CHANGED = "changed"
"""Key in `data`: `{"since": time of the last upsert, "columns": {column: time}}`, milliseconds since 1970 UTC."""
OF_ENTRY = ("title", "titles", "attributes")
"""What of `data` an update changes; all else stays as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredImage:
    """Hold all rows of one image.

    A writer that was killed may have left the view `object` alone.
    """

    rows: Mapping[View, Row]

    @property
    def is_whole(self) -> bool:
        return View.WHOLE in self.rows

    @property
    def updated_at(self) -> int:
        return self._row.updated_at

    @property
    def since_ms(self) -> int:
        """Return the time of the upsert that made the image, since 1970 UTC."""
        return int(self._row.data.get(CHANGED, {}).get("since", self.updated_at))

    @property
    def times(self) -> dict[str, int]:
        """Return the times of the columns that were changed since."""
        return dict(self._row.data.get(CHANGED, {}).get("columns", {}))

    @property
    def entry(self) -> Entry:
        """Return what the rows say of the product; the image is '' unless it has a URL."""
        row = self._row
        return Entry(
            row=0,
            image=row.data.get("image_url") or "",
            product_id=row.product_id,
            image_id=row.image_id,
            parent_id=row.parent_id,
            title=row.data.get("title"),
            titles=dict(row.data.get("titles") or {}),
            category=row.category,
            price=row.price,
            currency=row.currency,
            in_stock=row.in_stock,
            attributes=dict(row.data.get("attributes") or {}),
            at_ms=row.updated_at,
        )

    @property
    def row_sha256s(self) -> set[str]:
        return {row.row_sha256 for row in self.rows.values()}

    def times_differ(self, other: StoredImage) -> bool:
        """Tell whether another state of the image is of other events, though it may say the same."""
        return (self.updated_at, self.since_ms, self.times) != (other.updated_at, other.since_ms, other.times)

    def newer_than(self, at_ms: int) -> Change:
        """Return the update that makes an upsert of that time what the newest events say."""
        newer = {column for column, time in self.times.items() if time > at_ms}
        columns = self.entry.columns()
        names = newer | ({"currency"} if "price" in newer else set())
        return Change(0, None, self._row.image_id, {name: columns.get(name) for name in sorted(names)}, self.updated_at)

    def changed(self, change: Change) -> StoredImage | Problem | None:
        """Return the image with what a change is the newest event for; None where that is nothing."""
        times = self.times
        due = {
            name: value
            for name, value in change.values.items()
            if change.at_ms >= max(self.since_ms, times.get(_column(name), self.since_ms))
        }
        if not due:
            return None
        entry = apply(replace(change, values=due), self.entry)
        if isinstance(entry, Problem):
            return entry
        times |= {_column(name): change.at_ms for name in due}
        image = self._written(entry, max(self.updated_at, change.at_ms), self.since_ms, times)
        try:
            for row in image.rows.values():
                check(row)
        except BadInput as error:
            return Problem(change.row, entry.image, entry.product_id, error.code, error.message, change.columns())
        return image

    def stamped(self, at_ms: int, times: Mapping[str, int]) -> StoredImage:
        """Return the image as made by an upsert of that time, with the times of columns that were changed since."""
        return self._written(self.entry, max([at_ms, *times.values()]), at_ms, times)

    @property
    def _row(self) -> Row:
        return self.rows[View.WHOLE] if self.is_whole else next(iter(self.rows.values()))

    def _written(self, entry: Entry, updated_at: int, since_ms: int, times: Mapping[str, int]) -> StoredImage:
        rows = {view: _row(row, entry, updated_at, since_ms, times) for view, row in self.rows.items()}
        return StoredImage(rows)


def _row(row: Row, entry: Entry, updated_at: int, since_ms: int, times: Mapping[str, int]) -> Row:
    """Return a row that says of the product what the entry does, with its own vector, box and hash of the image.

    Where a killed writer left views of different bytes, they stay so, for the next import to see.
    """
    planned = Planned(
        entry=entry,
        image_sha256=row.image_sha256,
        recipe=str(row.data.get(RECIPE, "")),
        updated_at=updated_at,
        phash=row.phash,
        feed=row.feed,
        duplicate_of=row.duplicate_of,
        file=str(row.data.get(IMAGE_FILE, "")),
    )
    (new,) = planned.rows({row.view: EmbeddedView(Detection(WHOLE_BOX), row.vector)})
    data: dict[str, Any] = {name: value for name, value in row.data.items() if name != CHANGED}
    data |= {name: new.data[name] for name in OF_ENTRY}
    if times:
        data[CHANGED] = {"since": since_ms, "columns": dict(times)}
    return replace(new, data=data)


def _column(name: str) -> str:
    """Return the column whose time counts: a currency is nothing without its price."""
    return "price" if name == "currency" else name
