"""Small rows without embeddings, in a collection of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from pymilvus import CollectionSchema, DataType, MilvusClient

from serve_app.collection import quote
from serve_app.errors import ShoplensError
from serve_app.milvus.client import translated

CALL_TIMEOUT_S = 30.0
ROWS_A_CALL = 500
MOST_READ = 16_384
"""The most rows that Milvus gives for one query with a limit."""


class Notes:
    """Keep rows of texts and whole numbers; the collection is made by the first that are put into it.

    `texts` maps the fields that are texts to their largest size in bytes, the key being the first of them. All calls
    raise what `translated` does.
    """

    def __init__(self, client: MilvusClient, name: str, texts: Mapping[str, int], numbers: Sequence[str]) -> None:
        self._client = client
        self._name = name
        self._texts = texts
        self._numbers = numbers
        self._key = next(iter(texts))

    def exist(self) -> bool:
        with translated():
            return bool(self._client.has_collection(self._name, timeout=CALL_TIMEOUT_S))

    def put(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Store rows, in place of those that have the same keys."""
        if not self.exist():
            self._create()
        # Milvus has no collections without a vector.
        for chunk in _chunks({**row, "dummy": [1.0, 0.0]} for row in rows):
            with translated():
                self._client.upsert(self._name, chunk, timeout=CALL_TIMEOUT_S)

    def having(self, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows with those keys, with all that was acknowledged before."""
        for chunk in _chunks(keys):
            yield from self.read(self._among(chunk))

    def read(self, text: str, *, most: int = MOST_READ, strong: bool = True) -> list[dict[str, Any]]:
        """Return rows that a filter lets through, `strong` with all that was acknowledged before."""
        with translated():
            rows: list[dict[str, Any]] = self._client.query(
                self._name,
                filter=text,
                output_fields=[*self._texts, *self._numbers],
                limit=most,
                consistency_level="Strong" if strong else "Eventually",
                timeout=CALL_TIMEOUT_S,
            )
        return rows

    def remove(self, keys: Iterable[str]) -> None:
        for chunk in _chunks(keys):
            with translated():
                self._client.delete(self._name, filter=self._among(chunk), timeout=CALL_TIMEOUT_S)

    def _among(self, keys: Sequence[str]) -> str:
        return f"{self._key} in [{', '.join(map(quote, keys))}]"

    def _create(self) -> None:
        schema: CollectionSchema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for name, size in self._texts.items():
            schema.add_field(name, DataType.VARCHAR, is_primary=name == self._key, max_length=size)
        for name in self._numbers:
            schema.add_field(name, DataType.INT64)
        schema.add_field("dummy", DataType.FLOAT_VECTOR, dim=2)
        index = MilvusClient.prepare_index_params()
        index.add_index("dummy", index_type="FLAT", metric_type="L2")
        try:
            with translated():
                self._client.create_collection(self._name, schema=schema, index_params=index, timeout=CALL_TIMEOUT_S)
        except ShoplensError:
            # Another writer may have made it meanwhile.
            if not self.exist():
                raise
        with translated():
            self._client.load_collection(self._name, timeout=CALL_TIMEOUT_S)


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, ROWS_A_CALL)):
        yield chunk
