"""Events of a feed, read into what they ask for.

    {"event": "upsert", "at": TIME, the columns of a manifest}         the image is as the event says
    {"event": "update", "at": TIME, "product_id" | "image_id", …}      what is named changes, the rest stays
    {"event": "delete", "at": TIME, "product_id" | "image_id"}         the images go

TIME is RFC 3339 with a time zone, or milliseconds since 1970 UTC. An event without one is of the time it came at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn

from serve_app.catalogue import manifest
from serve_app.catalogue.manifest import BAD_IN_STOCK, BAD_PRICE, Entry, Problem

BAD_EVENT = "bad_event"
BAD_TIME = "bad_time"

MOST_AHEAD_MS = 3_600_000
"""An event of later than so much after now is refused: a clock that is wrong would hold back all that comes after."""
EARLIEST_MS = 10**11
"""A smaller number, before March 1973, counts seconds."""

TEXT = "text"

_ABOUT = ("event", "at")
_ANY = "-"
"""Stands where a manifest's row needs a text that an event doesn't have."""
_FINEST = "CLF"
"""A currency of four decimals: which ones a price may have is known once its currency is."""


@dataclass(frozen=True, slots=True)
class Message:
    """Hold an event as it came.

    `row` is its line, or its offset in the topic. `at_ms` is when it came or was sent, since 1970 UTC; None for now.
    `fault` says why it can't be read.
    """

    row: int
    data: bytes
    at_ms: int | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Upsert:
    """Ask for an image to be as its entry says; `at_ms` is the entry's too."""

    entry: Entry
    at_ms: int

    @property
    def row(self) -> int:
        return self.entry.row

    @property
    def keys(self) -> tuple[str, str]:
        """Return by which keys a delete may be noted that this image falls under."""
        return image_key(self.entry.image_id), product_key(self.entry.product_id)

    def columns(self) -> dict[str, Any]:
        return {"event": "upsert", "at": self.at_ms} | self.entry.columns()


@dataclass(frozen=True, slots=True)
class Change:
    """Ask for columns of one image, or of all of one product, to change; None removes a value."""

    row: int
    product_id: str | None
    image_id: str | None
    values: Mapping[str, Any]
    at_ms: int

    @property
    def key(self) -> str:
        return _key(self.product_id, self.image_id)

    def columns(self) -> dict[str, Any]:
        return {"event": "update", "at": self.at_ms} | _named(self.product_id, self.image_id) | dict(self.values)


@dataclass(frozen=True, slots=True)
class Delete:
    """Ask for one image, or all of one product, to go."""

    row: int
    product_id: str | None
    image_id: str | None
    at_ms: int

    @property
    def key(self) -> str:
        return _key(self.product_id, self.image_id)

    def columns(self) -> dict[str, Any]:
        return {"event": "delete", "at": self.at_ms} | _named(self.product_id, self.image_id)


Event = Upsert | Change | Delete


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class _Seen:
    """Collect what is known of an event that may be refused."""

    row: int
    columns: dict[str, Any] = dataclass_field(default_factory=dict)

    def problem(self, code: str, reason: str) -> Problem:
        image, product_id = (str(self.columns.get(name) or "")[:200] for name in ("image", "product_id"))
        return Problem(self.row, image, product_id, code, reason, self.columns)


def image_key(image_id: str) -> str:
    return f"image:{image_id}"


def product_key(product_id: str) -> str:
    return f"product:{product_id}"


def parse(message: Message, now_ms: int) -> Event | Problem:
    """Return what a message asks for; `now_ms` is the time since 1970 UTC.

    The columns of a problem are the event itself, with its time, so that it can be sent again; one that can't be read
    stands there as it came, under TEXT.
    """
    seen = _Seen(message.row, {TEXT: message.data.decode(errors="replace")} if message.data else {})
    try:
        values = _object(message, seen)
        at_ms = _at(values.get("at"), now_ms if message.at_ms is None else message.at_ms, now_ms)
        seen.columns["at"] = at_ms
        asked = {name: value for name, value in values.items() if name not in _ABOUT}
        kind = values.get("event") or "upsert"
        if kind == "upsert":
            return _upsert(message.row, asked, at_ms)
        if kind == "update":
            return _change(message.row, asked, at_ms)
        if kind == "delete":
            return Delete(message.row, *_whose(message.row, asked), at_ms)
        raise _Refused(BAD_EVENT, f"the event {str(kind)[:40]!r} is none of upsert, update and delete")
    except _Refused as error:
        return seen.problem(error.code, error.reason)


def apply(change: Change, entry: Entry) -> Entry | Problem:
    """Return an entry with what a change names, read as a manifest's row is.

    A title that was taken from those by language follows them, unless the change names it.
    """
    columns = entry.columns()
    if entry.title == next(iter(entry.titles.values()), None):
        columns.pop("title", None)
    columns = {name: value for name, value in (columns | dict(change.values)).items() if value is not None}
    # An image of this machine can't be told from its row, and need not be known.
    found = manifest.entry(change.row, columns | {"image": entry.image or _ANY})
    if isinstance(found, Problem):
        return replace(found, image=entry.image, columns=change.columns())
    return replace(found, row=entry.row, image=entry.image, at_ms=entry.at_ms)


def _object(message: Message, seen: _Seen) -> dict[str, Any]:
    if message.fault:
        raise _Refused(BAD_EVENT, message.fault)
    try:
        text = message.data.decode()
        values = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _Refused(BAD_EVENT, f"the event is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise _Refused(BAD_EVENT, "the event is no JSON object")
    seen.columns = json.loads(text)
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")


def _at(value: Any, otherwise_ms: int, now_ms: int) -> int:
    at_ms = otherwise_ms if value is None else _milliseconds(value)
    if at_ms > now_ms + MOST_AHEAD_MS:
        raise _Refused(BAD_TIME, "the event is of more than an hour from now; whose clock is wrong?")
    return at_ms


def _milliseconds(value: Any) -> int:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        if value != int(value) or value < EARLIEST_MS:
            raise _Refused(BAD_TIME, f"at is {value}; as a number it counts milliseconds since 1970")
        return int(value)
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise _Refused(BAD_TIME, f"at is {str(value)[:40]!r}; write it like 2026-11-24T10:00:00Z") from error
    if time.tzinfo is None:
        raise _Refused(BAD_TIME, f"at is {value!r}, which lacks a time zone; write it like 2026-11-24T10:00:00Z")
    return int(time.timestamp() * 1000)


def _upsert(row: int, values: Mapping[str, Any], at_ms: int) -> Upsert:
    return Upsert(replace(_read(row, values), at_ms=at_ms), at_ms)


def _whose(row: int, values: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return product_id and image_id, of which one is None."""
    named = [name for name in ("product_id", "image_id") if values.get(name) not in (None, "")]
    if len(named) != 1:
        raise _Refused(BAD_EVENT, "name what the event is about: either product_id or image_id")
    found = _read(row, {"image": _ANY, "product_id": _ANY, named[0]: values[named[0]]})
    return (found.product_id, None) if named == ["product_id"] else (None, found.image_id)


def _change(row: int, values: Mapping[str, Any], at_ms: int) -> Change:
    whose = _whose(row, values)
    named = {name: value for name, value in values.items() if name and name not in ("product_id", "image_id")}
    if "image" in named:
        raise _Refused(BAD_EVENT, "an update can't change the image; send all of it as an upsert")
    if not named:
        raise _Refused(BAD_EVENT, "the update names nothing to change")
    if "in_stock" in named and named["in_stock"] in (None, ""):
        raise _Refused(BAD_IN_STOCK, "in_stock can't be removed; write true or false")
    if "currency" in named and "price" not in named:
        raise _Refused(BAD_PRICE, "a currency changes with its price only; name both")
    return Change(row, *whose, _canonical(row, named), at_ms)


def _canonical(row: int, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as a manifest's row gives them, by the columns that it has for them; None for what is to go."""
    there = {name: value for name, value in named.items() if value not in (None, "")}
    assumed = {"currency": _FINEST} if "price" in there and "currency" not in named else {}
    # What is to go has a value here, so that its column is found.
    gone = {name: _ANY for name in named if name not in there and name not in ("price", "currency")}
    columns = _read(row, gone | there | assumed | {"image": _ANY, "product_id": _ANY}).columns()
    values: dict[str, Any] = {}
    for name in named:
        language = name.replace("title_", "", 1).replace("_", "-")
        column = f"title_{language}" if name not in columns and f"title_{language}" in columns else name
        values[column] = columns.get(column) if name in there else None
    if assumed:
        values["price"] = str(there["price"]).strip()
    return values


def _read(row: int, values: Mapping[str, Any]) -> Entry:
    found = manifest.entry(row, values)
    if isinstance(found, Problem):
        raise _Refused(found.code, found.reason)
    return found


def _named(product_id: str | None, image_id: str | None) -> dict[str, str]:
    return {"image_id": image_id} if image_id is not None else {"product_id": product_id or ""}


def _key(product_id: str | None, image_id: str | None) -> str:
    return image_key(image_id) if image_id is not None else product_key(product_id or "")
