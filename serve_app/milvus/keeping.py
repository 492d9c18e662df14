"""Reads of whole rows, so that they can be written again without a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from serve_app import collection as naming
from serve_app.collection import quote
from serve_app.domain import View
from serve_app.milvus.writer import MilvusWriter

IMAGES_A_CALL = 100
"""A row takes about 4 kB in an answer, up to 64 kB with large attributes."""

KEPT_FIELDS = ["image_id", "view", "vector", "image_sha256", "data"]


class KeepingWriter(MilvusWriter):
    """Write as MilvusWriter does, and read embeddings back with its retries."""

    def stored(self, image_ids: Sequence[str]) -> dict[str, dict[View, dict[str, Any]]]:
        """Return KEPT_FIELDS of all rows of those images, by image and view."""
        found: dict[str, dict[View, dict[str, Any]]] = defaultdict(dict)
        for start in range(0, len(image_ids), IMAGES_A_CALL):
            chunk = image_ids[start : start + IMAGES_A_CALL]
            keys = [quote(naming.row_id(image_id, view)) for image_id in chunk for view in View]
            for row in self._rows(f"row_id in [{', '.join(keys)}]"):
                found[row["image_id"]][View(row["view"])] = row
        return found

    def _rows(self, by_key: str) -> list[dict[str, Any]]:
        return self._repeat(
            lambda: self._client.query(
                self._alias,
                filter=by_key,
                output_fields=KEPT_FIELDS,
                consistency_level="Strong",
                timeout=self._timeout_s,
            )
        )
