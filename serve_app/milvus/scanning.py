"""All rows of a collection, in bounded memory, and what two collections differ in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from pymilvus import MilvusClient

from serve_app.collection import FIELDS, quote
from serve_app.milvus.client import translated

BATCH = 500
VECTORS_A_CALL = 200
TIMEOUT_S = 30.0

SETTLED_S = 6.0
"""After so many seconds, every read of a server finds what was acknowledged, without the half a second that a strong
read waits for it: the default of `common.gracefulTime` is 5 s. Milvus Lite needs no wait."""

DIGEST = ("row_id", "image_id", "image_sha256", "row_sha256", "category_root", "updated_at")
"""What tells whether a row is as another one."""
ALL = tuple(field.name for field in FIELDS)

Values = dict[str, Any]
Digest = tuple[Any, ...]
"""What DIGEST names of one row."""


def scan(
    client: MilvusClient,
    name: str,
    fields: Sequence[str] = DIGEST,
    *,
    batch: int = BATCH,
    after: str | None = None,
    to: str | None = None,
) -> Iterator[list[Values]]:
    """Yield the rows in batches and in the order of their keys, from behind the key `after` up to the key `to`.

    What was acknowledged SETTLED_S before a batch is asked for is in it. pymilvus's own iterator can't be used: it
    puts keys into its filters without escaping them (3.0.2, pymilvus/orm/iterator.py).
    """
    last = after
    while True:
        bounds = [f"row_id > {quote(last)}"] if last is not None else ['row_id >= ""']
        bounds += [f"row_id <= {quote(to)}"] if to is not None else []
        with translated():
            rows: list[Values] = client.query(
                name,
                filter=" and ".join(bounds),
                output_fields=list(fields),
                limit=batch,
                timeout=TIMEOUT_S,
                # As the iterator asks: the rows with the smallest keys of all segments, not any rows.
                iterator="True",
                reduce_stop_for_best="True",
            )
        if not rows:
            return
        rows.sort(key=lambda row: str(row["row_id"]))
        yield rows
        last = str(rows[-1]["row_id"])


def rows_by_key(
    client: MilvusClient, name: str, row_ids: Sequence[str], fields: Sequence[str] = DIGEST
) -> dict[str, Values]:
    """Return the rows with those keys, with what was acknowledged SETTLED_S before."""
    found: dict[str, Values] = {}
    keys = iter(row_ids)
    while chunk := list(islice(keys, VECTORS_A_CALL if "vector" in fields else BATCH)):
        with translated():
            rows = client.query(
                name,
                filter=f"row_id in [{', '.join(map(quote, chunk))}]",
                output_fields=list(fields),
                timeout=TIMEOUT_S,
            )
        found |= {row["row_id"]: row for row in rows}
    return found


def digest(row: Values) -> Digest:
    return tuple(row[name] for name in DIGEST)


MOST_LOOKS = 5
"""Looks at a row that is another each time, before it is left to its writer."""

Look = tuple[Digest | None, Digest | None]
"""A row as two collections hold it; None where it is not there.

Two reads never see one moment, so a difference may be a write that is under way. It is one that stays where a look
SETTLED_S later finds the same; a row that moves is being written to both by its writer.
"""


def look(row_id: str, source: dict[str, Values], target: dict[str, Values]) -> Look:
    def seen(rows: dict[str, Values]) -> Digest | None:
        return digest(rows[row_id]) if row_id in rows else None

    return seen(source), seen(target)


def differing(wanted: dict[str, Values], found: dict[str, Values]) -> tuple[list[str], list[str]]:
    """Return the keys of rows that are to be written, and of those that are to go."""
    write = [key for key, row in wanted.items() if key not in found or digest(found[key]) != digest(row)]
    return write, [key for key in found if key not in wanted]
