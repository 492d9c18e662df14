"""Which collections take writes besides the one that is searched, as Milvus itself remembers it.

    (none)     nothing is written to a collection that was only created
    filling    a backfill copies to it; writers write to it as well, once before and once after their own
    mirrored   it is complete: writers keep it so, until it is dropped
    stale      it missed a write; only a new backfill makes it whole again

The state is a property of the collection, read anew for every write: a writer needs no restart to see a backfill.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pymilvus import MilvusClient

from serve_app import collection as naming
from serve_app.collection import quote
from serve_app.errors import BadConfig, IndexMissing
from serve_app.milvus.client import translated
from serve_app.milvus.notes import Notes

STATE = "shoplens.writes"
VERIFIED = "shoplens.verified"
PREVIOUS = "shoplens.previous"

CALL_TIMEOUT_S = 30.0


class State(StrEnum):
    FILLING = "filling"
    MIRRORED = "mirrored"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Verified:
    """Hold what `verify` found: the time (RFC 3339), the rows, recall@10, and the share of products that stayed."""

    at: str
    rows: int
    recall: float
    overlap: float | None


@dataclass(frozen=True, slots=True)
class Target:
    """Hold what is remembered of a collection."""

    collection: str
    fingerprint: str
    state: State | None = None
    verified: Verified | None = None
    previous: str | None = None

    @property
    def is_open(self) -> bool:
        return self.state in (State.FILLING, State.MIRRORED)


def read_all(client: MilvusClient, catalogue: str) -> list[Target]:
    """Return all collections of a catalogue, the newest first."""
    with translated():
        names = client.list_collections(timeout=CALL_TIMEOUT_S)
    found = []
    for name in names:
        if naming.parse_collection_name(catalogue, name) is not None:
            try:
                found.append(read(client, catalogue, name))
            except IndexMissing:
                continue  # dropped just now
    return sorted(found, key=lambda target: target.collection[-len("20260101T000000Z") :], reverse=True)


def read(client: MilvusClient, catalogue: str, name: str) -> Target:
    """Return what is remembered of one collection; raises BadConfig for other names, IndexMissing."""
    parsed = naming.parse_collection_name(catalogue, name)
    if parsed is None:
        raise BadConfig(f"{name!r} is no collection of the catalogue {catalogue}; `shoplens index` lists them")
    with translated():
        properties = client.describe_collection(name, timeout=CALL_TIMEOUT_S)["properties"]
    state, verified = properties.get(STATE), properties.get(VERIFIED)
    return Target(
        collection=name,
        fingerprint=parsed[0],
        state=State(state) if state else None,
        verified=Verified(**json.loads(verified)) if verified else None,
        previous=properties.get(PREVIOUS) or None,
    )


def remember(
    client: MilvusClient,
    name: str,
    *,
    state: State | None = None,
    verified: Verified | None = None,
    previous: str | None = None,
) -> None:
    """Change what is remembered of a collection; what is None stays. A new state other than mirrored is unverified."""
    properties: dict[str, Any] = {}
    if state is not None:
        properties[STATE] = state.value
        if state is not State.MIRRORED:
            properties[VERIFIED] = ""
    if verified is not None:
        properties[VERIFIED] = json.dumps(asdict(verified))
    if previous is not None:
        properties[PREVIOUS] = previous
    with translated():
        client.alter_collection_properties(name, properties=properties, timeout=CALL_TIMEOUT_S)


class Marks:
    """Note images that a writer could not write to a collection, for want of its model.

    They are rows of a small collection of their own: `<collection>#<image_id>`, with the time of the event.
    """

    def __init__(self, client: MilvusClient, catalogue: str) -> None:
        self._notes = Notes(client, f"{catalogue}_marks", {"mark": 512, "target": 255}, ("updated_at",))

    def exist(self) -> bool:
        return self._notes.exist()

    def add(self, collection: str, events: Mapping[str, int]) -> None:
        """Note images with the times of their events, in milliseconds."""
        self._notes.put(
            {"mark": f"{collection}#{image_id}", "target": collection, "updated_at": updated_at}
            for image_id, updated_at in events.items()
        )

    def clear(self, collection: str, events: Mapping[str, int]) -> None:
        """Forget images that were written or deleted now by events that are no older than the noted ones."""
        if not events or not self.exist():
            return
        noted = _marks(self._notes.having(f"{collection}#{image_id}" for image_id in events))
        self._notes.remove(mark for mark, at in noted.items() if at <= events[mark.removeprefix(f"{collection}#")])

    def count(self, collection: str) -> int:
        """Return how many images of a collection are noted; notes.MOST_READ stands for that many or more."""
        return len(self._notes.read(f"target == {quote(collection)}")) if self.exist() else 0

    def clear_before(self, collection: str, updated_at: int) -> None:
        """Forget all images of a collection that were noted by events up to that time."""
        self._clear(f"target == {quote(collection)} and updated_at <= {updated_at}")

    def drop(self, collection: str) -> None:
        """Forget all images of a collection."""
        self._clear(f"target == {quote(collection)}")

    def _clear(self, text: str) -> None:
        while self.exist() and (noted := self._notes.read(text)):
            self._notes.remove(_marks(noted))


def _marks(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return {row["mark"]: row["updated_at"] for row in rows}
