"""Writes to one collection, safe to be killed and repeated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pymilvus import MilvusClient
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from serve_app import collection as naming
from serve_app.collection import FIELDS, KnownImage, Row, check, quote
from serve_app.config import MilvusConfig, SearchParams
from serve_app.domain import View
from serve_app.errors import BadInput, DeadlineExceeded, IndexMissing, MilvusUnavailable
from serve_app.milvus import indexing
from serve_app.milvus.client import translated
from serve_app.milvus.index_types import search_params

T = TypeVar("T")

MAX_ROWS_A_CALL = 500
MAX_BYTES_A_CALL = 8 * 2**20
MAX_VECTORS_A_CALL = 200
"""A row with its vector takes about 4 kB in an answer, up to 64 kB with large attributes."""
MAX_PRODUCTS_A_CALL = 100
FIRST_BACK_OFF_S = 0.1
LONGEST_BACK_OFF_S = 5.0

STORED_FIELDS = ["row_id", "image_id", "view", "image_sha256", "row_sha256", "category_root", "updated_at"]
KEPT_FIELDS = ["image_id", "view", "vector", "image_sha256", "phash", "duplicate_of", "data"]
"""What a row can't be made again of without the models."""
ROW_FIELDS = [field.name for field in FIELDS]
PICTURE_FIELDS = ["image_id", "view", "phash", "duplicate_of"]
SAME_PICTURE = SearchParams(ef=32, nprobe=16, search_list=32, itopk_size=32, refine_k=1)
"""A vector that is all but the same is found with few candidates, and each image of an import is looked for."""
LOGICAL_BITS = 18
"""Milvus's timestamps are milliseconds and so many bits that count within one."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """Hold what is asked of a row of the index."""

    row_id: str
    image_id: str
    view: str
    image_sha256: str
    row_sha256: str
    category_root: str
    updated_at: int


class CollectionWriter:
    """Write to one collection, or to the one that an alias stands for.

    An image counts as stored from the moment its row of the view `whole` is written, which comes last: a run that
    is killed before leaves the old hashes, or none, and so is seen and repeated. Calls that find Milvus away are
    repeated with back-off for `config.write_deadline_s`; then they raise MilvusUnavailable or DeadlineExceeded.
    A collection that exists and isn't loaded is waited for `missing_s`. Two writers must not write the same image at
    once.
    """

    def __init__(self, client: MilvusClient, name: str, config: MilvusConfig, missing_s: float | None = None) -> None:
        self._client = client
        self._name = name
        self._timeout_s = config.write_timeout_s
        self._deadline_s = config.write_deadline_s
        self._missing_s = self._deadline_s if missing_s is None else missing_s

    def known(self, image_ids: Iterable[str], before_ms: int | None = None) -> dict[str, KnownImage]:
        """Return what is stored of those images, with all that any writer was acknowledged before.

        With `before_ms`, since 1970 UTC, with all that was acknowledged until then, which takes a server less time.
        """
        known = {}
        for image_id, rows in self._stored(image_ids, before_ms).items():
            whole = rows.get(View.WHOLE)
            if whole is not None:
                known[image_id] = KnownImage(
                    image_sha256=whole.image_sha256,
                    row_sha256=whole.row_sha256,
                    category_root=whole.category_root,
                    updated_at=whole.updated_at,
                    views=frozenset(rows),
                )
        return known

    def stored(self, image_ids: Iterable[str]) -> dict[str, dict[View, dict[str, Any]]]:
        """Return KEPT_FIELDS of all rows of those images, by image and view, so that they can be written again."""
        stored: dict[str, dict[View, dict[str, Any]]] = defaultdict(dict)
        for values in self._query(image_ids, KEPT_FIELDS, MAX_VECTORS_A_CALL):
            stored[values["image_id"]][View(values["view"])] = values
        return stored

    def rows(self, image_ids: Iterable[str]) -> dict[str, dict[View, Row]]:
        """Return all that is stored of those images, by image and view, also of those without a view `whole`."""
        rows: dict[str, dict[View, Row]] = defaultdict(dict)
        for values in self._query(image_ids, ROW_FIELDS, MAX_VECTORS_A_CALL):
            row = _row(values)
            rows[row.image_id][row.view] = row
        return rows

    def images_of(self, product_ids: Iterable[str]) -> dict[str, set[str]]:
        """Return the ids of the products' images, with all that any writer was acknowledged before.

        An image counts with any of its views: what a killed writer left behind is found too.
        """
        images: dict[str, set[str]] = defaultdict(set)
        for chunk in _chunks(product_ids, MAX_PRODUCTS_A_CALL):
            query = partial(
                self._client.query,
                self._name,
                filter=f"product_id in [{', '.join(map(quote, chunk))}]",
                output_fields=["product_id", "image_id"],
                consistency_level="Strong",
                timeout=self._timeout_s,
            )
            for row in self.repeat(query):
                images[row["product_id"]].add(row["image_id"])
        return images

    def data(self, image_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the `data` of those images' rows of the view `whole`."""
        found = self._query(image_ids, ["image_id", "data"], MAX_VECTORS_A_CALL, views=(View.WHOLE,))
        return {row["image_id"]: row["data"] for row in found}

    def nearest(self, vectors: Sequence[npt.NDArray[np.float32]], k: int) -> list[list[dict[str, Any]]]:
        """Return PICTURE_FIELDS and `score` of the rows that are most like each vector, the best first.

        They are among all that was acknowledged before.
        """
        if not vectors:
            return []
        params = {"metric_type": "COSINE", "params": search_params(SAME_PICTURE, k)}
        found = self.repeat(
            lambda: self._client.search(
                self._name,
                data=[vector.tolist() for vector in vectors],
                anns_field="vector",
                limit=k,
                output_fields=PICTURE_FIELDS,
                search_params=params,
                consistency_level="Strong",
                timeout=self._timeout_s,
            )
        )
        return [[{**hit["entity"], "score": hit["distance"]} for hit in hits] for hits in found]

    def write(self, rows: Sequence[Row]) -> None:
        """Store all rows of some images and return when Milvus has acknowledged them.

        The rows of an image replace all that is stored of it, unless a stored row is of a newer event; so one call
        takes all rows of an image. Raises BadInput for rows that can't be stored, before anything is written.
        """
        for batch in _batches(newest(rows)):
            self._write(batch)

    def delete(self, image_ids: Iterable[str]) -> None:
        """Remove all rows of those images; unknown ones are none of its business."""
        self._delete(naming.row_id(image_id, view) for image_id in image_ids for view in View)

    def flush(self) -> None:
        """Let Milvus seal what it holds in memory, so that it is indexed."""
        self.repeat(lambda: self._client.flush(self._name, timeout=self._timeout_s))

    def count(self) -> int:
        """Return the number of rows in the index."""
        return self.repeat(lambda: indexing.count(self._client, self._name))

    def _write(self, images: Mapping[str, Sequence[Row]]) -> None:
        stored = self._stored(images)
        fresh = {
            image_id: rows
            for image_id, rows in images.items()
            if all(old.updated_at <= rows[0].updated_at for old in stored[image_id].values())
        }
        self._delete(chain.from_iterable(_outdated(rows, stored[image_id]) for image_id, rows in fresh.items()))
        written = list(chain.from_iterable(fresh.values()))
        self._upsert([row for row in written if row.view is not View.WHOLE])
        self._upsert([row for row in written if row.view is View.WHOLE])

    def _stored(self, image_ids: Iterable[str], before_ms: int | None = None) -> dict[str, dict[str, _Stored]]:
        """Return the stored rows by image and view, asked for by their keys, which every engine looks up fast."""
        stored: dict[str, dict[str, _Stored]] = defaultdict(dict)
        for values in self._query(image_ids, STORED_FIELDS, MAX_ROWS_A_CALL, before_ms=before_ms):
            row = _Stored(**{name: values[name] for name in STORED_FIELDS})
            stored[row.image_id][row.view] = row
        return stored

    def _query(
        self,
        image_ids: Iterable[str],
        fields: list[str],
        rows_a_call: int,
        *,
        views: Iterable[View] = View,
        before_ms: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        # Strong: sees what a killed run wrote a moment ago.
        sees: dict[str, Any] = {"consistency_level": "Strong"}
        if before_ms is not None:
            sees = {"consistency_level": "Customized", "guarantee_timestamp": before_ms << LOGICAL_BITS}
        for chunk in _chunks((naming.row_id(i, view) for i in image_ids for view in views), rows_a_call):
            query = partial(
                self._client.query,
                self._name,
                filter=_by_key(chunk),
                output_fields=fields,
                timeout=self._timeout_s,
                **sees,
            )
            yield from self.repeat(query)

    def _delete(self, row_ids: Iterable[str]) -> None:
        for chunk in _chunks(row_ids, MAX_ROWS_A_CALL):
            self.repeat(
                partial(self._client.delete, self._name, filter=_by_key(chunk), timeout=self._timeout_s),
            )

    def _upsert(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        values = [row.values() for row in rows]
        answer = self.repeat(lambda: self._client.upsert(self._name, values, timeout=self._timeout_s))
        if answer["upsert_count"] != len(rows):
            raise MilvusUnavailable(f"Milvus took {answer['upsert_count']} of {len(rows)} rows; run the import again")

    def repeat(self, call: Callable[[], T]) -> T:
        """Call until it succeeds; every call here may be repeated without harm."""

        def attempt() -> T:
            with translated():
                return call()

        return Retrying(
            retry=retry_if_exception(self._passes),
            stop=self._is_over,
            wait=wait_random_exponential(multiplier=FIRST_BACK_OFF_S, max=LONGEST_BACK_OFF_S),
            reraise=True,
        )(attempt)

    def _is_over(self, state: RetryCallState) -> bool:
        missing = state.outcome is not None and isinstance(state.outcome.exception(), IndexMissing)
        return stop_after_delay(self._missing_s if missing else self._deadline_s)(state)

    def _passes(self, error: BaseException) -> bool:
        """Tell whether an error may pass: a collection that exists is loaded again after its server's restart."""
        if isinstance(error, IndexMissing):
            try:
                return indexing.exists(self._client, self._name)
            except (MilvusUnavailable, DeadlineExceeded):
                return True
        return isinstance(error, MilvusUnavailable | DeadlineExceeded)


def _row(values: Mapping[str, Any]) -> Row:
    known = {name: values[name] for name in ROW_FIELDS if name != "row_id"}
    vector = np.asarray(values["vector"], np.float32)
    return Row(**known | {"view": View(values["view"]), "vector": vector})


def newest(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Check the rows and return them by image, each with the rows of its newest event only."""
    images: dict[str, dict[View, Row]] = {}
    for row in rows:
        check(row)
        views = images.setdefault(row.image_id, {})
        latest = max((other.updated_at for other in views.values()), default=row.updated_at)
        if row.updated_at > latest:
            views.clear()
        if row.updated_at >= latest:
            views[row.view] = row
    for image_id, views in images.items():
        if View.WHOLE not in views:
            raise BadInput(f"image {image_id!r} has no row for the view `whole`")
    return {image_id: list(views.values()) for image_id, views in images.items()}


def _outdated(rows: Sequence[Row], stored: Mapping[str, _Stored]) -> Iterator[str]:
    """Yield the keys of stored rows that an upsert wouldn't replace.

    Those are views that the image no longer has, and rows of another category: an upsert of Milvus 2.3
    looks for the old row in the partition of the new one alone.
    """
    wanted = {row.row_id: row for row in rows}
    for old in stored.values():
        new = wanted.get(old.row_id)
        if new is None or new.category_root != old.category_root:
            yield old.row_id


def _batches(images: Mapping[str, Sequence[Row]]) -> Iterator[dict[str, Sequence[Row]]]:
    """Yield groups of whole images that fit into one call."""
    batch: dict[str, Sequence[Row]] = {}
    count = size = 0
    for image_id, rows in images.items():
        added = sum(row.size_bytes for row in rows)
        if batch and (count + len(rows) > MAX_ROWS_A_CALL or size + added > MAX_BYTES_A_CALL):
            yield batch
            batch, count, size = {}, 0, 0
        batch[image_id] = rows
        count += len(rows)
        size += added
    if batch:
        yield batch


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _by_key(row_ids: Sequence[str]) -> str:
    return f"row_id in [{', '.join(map(quote, row_ids))}]"
