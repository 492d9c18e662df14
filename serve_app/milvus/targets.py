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

from pymilvus import CollectionSchema, DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from serve_app import collection as naming
from serve_app.collection import quote
from serve_app.errors import BadConfig, IndexMissing
from serve_app.milvus.client import translated

STATE = "shoplens.writes"
VERIFIED = "shoplens.verified"
PREVIOUS = "shoplens.previous"

CALL_TIMEOUT_S = 30.0
MARKS_A_CALL = 500
MOST_MARKS = 16_384


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
        self._client = client
        self._name = f"{catalogue}_marks"

    def exist(self) -> bool:
        with translated():
            return bool(self._client.has_collection(self._name, timeout=CALL_TIMEOUT_S))

    def add(self, collection: str, events: Mapping[str, int]) -> None:
        """Note images with the times of their events, in milliseconds."""
        if not self.exist():
            self._create()
        rows = [
            {"mark": f"{collection}#{image_id}", "target": collection, "updated_at": updated_at, "dummy": [1.0, 0.0]}
            for image_id, updated_at in events.items()
        ]
        for start in range(0, len(rows), MARKS_A_CALL):
            with translated():
                self._client.upsert(self._name, rows[start : start + MARKS_A_CALL], timeout=CALL_TIMEOUT_S)

    def clear(self, collection: str, events: Mapping[str, int]) -> None:
        """Forget images that were written or deleted now by events that are no older than the noted ones."""
        if not events or not self.exist():
            return
        noted = self._read(f"mark in [{', '.join(quote(f'{collection}#{image_id}') for image_id in events)}]")
        done = [mark for mark, at in noted.items() if at <= events[mark.removeprefix(f"{collection}#")]]
        self._delete(done)

    def count(self, collection: str) -> int:
        """Return how many images of a collection are noted; MOST_MARKS stands for that many or more."""
        return len(self._read(f"target == {quote(collection)}")) if self.exist() else 0

    def clear_before(self, collection: str, updated_at: int) -> None:
        """Forget all images of a collection that were noted by events up to that time."""
        while self.exist():
            noted = self._read(f"target == {quote(collection)} and updated_at <= {updated_at}")
            if not noted:
                return
            self._delete(noted)

    def drop(self, collection: str) -> None:
        """Forget all images of a collection."""
        while self.exist() and (marks := self._read(f"target == {quote(collection)}")):
            self._delete(marks)

    def _read(self, text: str) -> dict[str, int]:
        with translated():
            rows = self._client.query(
                self._name,
                filter=text,
                output_fields=["mark", "updated_at"],
                limit=MOST_MARKS,
                consistency_level="Strong",
                timeout=CALL_TIMEOUT_S,
            )
        return {row["mark"]: row["updated_at"] for row in rows}

    def _delete(self, marks: Iterable[str]) -> None:
        listed = list(marks)
        for start in range(0, len(listed), MARKS_A_CALL):
            keys = ", ".join(map(quote, listed[start : start + MARKS_A_CALL]))
            with translated():
                self._client.delete(self._name, filter=f"mark in [{keys}]", timeout=CALL_TIMEOUT_S)

    def _create(self) -> None:
        schema: CollectionSchema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("mark", DataType.VARCHAR, is_primary=True, max_length=512)
        schema.add_field("target", DataType.VARCHAR, max_length=255)
        schema.add_field("updated_at", DataType.INT64)
        # Milvus has no collections without a vector.
        schema.add_field("dummy", DataType.FLOAT_VECTOR, dim=2)
        index = MilvusClient.prepare_index_params()
        index.add_index("dummy", index_type="FLAT", metric_type="L2")
        try:
            with translated():
                self._client.create_collection(self._name, schema=schema, index_params=index, timeout=CALL_TIMEOUT_S)
                self._client.load_collection(self._name, timeout=CALL_TIMEOUT_S)
        except MilvusException:
            if not self.exist():
                raise
