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

DIGEST = ("row_id", "image_id", "image_sha256", "row_sha256", "category_root", "updated_at")
"""What tells whether a row is as another one."""
ALL = tuple(field.name for field in FIELDS)

Values = dict[str, Any]


def scan(client: MilvusClient, name: str, fields: Sequence[str] = DIGEST, batch: int = BATCH) -> Iterator[list[Values]]:
    """Yield all rows in batches, as of one moment; what is written meanwhile may be missing."""
    with translated():
        iterator = client.query_iterator(
            name, batch_size=batch, output_fields=list(fields), consistency_level="Strong", timeout=TIMEOUT_S
        )
    try:
        while True:
            with translated():
                rows = iterator.next()
            if not rows:
                return
            yield rows
    finally:
        iterator.close()


def rows_by_key(
    client: MilvusClient, name: str, row_ids: Sequence[str], fields: Sequence[str] = DIGEST
) -> dict[str, Values]:
    """Return the rows with those keys, with all that was acknowledged before."""
    found: dict[str, Values] = {}
    keys = iter(row_ids)
    while chunk := list(islice(keys, VECTORS_A_CALL if "vector" in fields else BATCH)):
        with translated():
            rows = client.query(
                name,
                filter=f"row_id in [{', '.join(map(quote, chunk))}]",
                output_fields=list(fields),
                consistency_level="Strong",
                timeout=TIMEOUT_S,
            )
        found |= {row["row_id"]: row for row in rows}
    return found


def digest(row: Values) -> tuple[Any, ...]:
    return tuple(row[name] for name in DIGEST)


def differing(wanted: dict[str, Values], found: dict[str, Values]) -> tuple[list[str], list[str]]:
    """Return the keys of rows that are to be written, and of those that are to go."""
    write = [key for key, row in wanted.items() if key not in found or digest(found[key]) != digest(row)]
    return write, [key for key in found if key not in wanted]
