"""What a row of the index holds, and how collections are named.

The fields are fixed: neither Milvus Lite nor Milvus 2.3 can add one to a collection.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from dataclasses import field as dataclass_field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.domain import EMBEDDING_DIM, Hit, View
from serve_app.errors import BadInput

NO_PRICE = -1
"""`price` of a product that has none."""

IMAGE_FILE = "image_file"
"""Key in `data` of the absolute path that an image was read from, on the machine that imported it."""

NORM_TOLERANCE = 1e-2
"""How far an embedding's L2 norm may be from 1; float16 backends are off by about 1e-3."""

STAMP = "%Y%m%dT%H%M%SZ"


class Kind(StrEnum):
    """Milvus's data types, by their names in `pymilvus.DataType`."""

    VARCHAR = "VARCHAR"
    INT64 = "INT64"
    BOOL = "BOOL"
    JSON = "JSON"
    FLOAT_VECTOR = "FLOAT_VECTOR"


@dataclass(frozen=True, slots=True)
class Field:
    """Declare one field; `max_bytes` bounds the UTF-8 of a VARCHAR and the text of a JSON."""

    name: str
    kind: Kind
    max_bytes: int = 0
    primary: bool = False
    partition_key: bool = False


MAX_IMAGE_ID_BYTES = 160 - 1 - max(len(view) for view in View)

FIELDS = (
    Field("row_id", Kind.VARCHAR, 160, primary=True),
    Field("image_id", Kind.VARCHAR, MAX_IMAGE_ID_BYTES),
    Field("view", Kind.VARCHAR, 16),
    Field("vector", Kind.FLOAT_VECTOR),
    Field("product_id", Kind.VARCHAR, 256),
    Field("parent_id", Kind.VARCHAR, 256),
    Field("category_root", Kind.VARCHAR, 64, partition_key=True),
    Field("category", Kind.VARCHAR, 512),
    Field("price", Kind.INT64),
    Field("currency", Kind.VARCHAR, 8),
    Field("in_stock", Kind.BOOL),
    Field("updated_at", Kind.INT64),
    Field("image_sha256", Kind.VARCHAR, 64),
    Field("row_sha256", Kind.VARCHAR, 64),
    Field("phash", Kind.VARCHAR, 64),
    Field("duplicate_of", Kind.VARCHAR, MAX_IMAGE_ID_BYTES),
    Field("feed", Kind.VARCHAR, 128),
    Field("data", Kind.JSON, 65_536),  # https://milvus.io/docs/limitations.md
)

CATEGORY_ROOT_BYTES = next(field.max_bytes for field in FIELDS if field.name == "category_root")

HIT_FIELDS = tuple(field.name for field in fields(Hit) if field.name != "score")
"""What a search reads of each row."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Hold one view of one catalogue image.

    `vector` is float32 (256,) of unit L2 norm. `price` counts minor units of `currency`; an absent price is
    NO_PRICE (-1), an absent text ''. `category` is the whole path, `category_root` its first part.
    `updated_at` is the time of the event that made the row, in milliseconds since 1970 UTC.
    `data` holds what is only shown: titles and prices by market, image, box, label, attributes.
    """

    image_id: str
    view: View
    vector: npt.NDArray[np.float32]
    product_id: str
    image_sha256: str
    row_sha256: str
    updated_at: int
    parent_id: str = ""
    category_root: str = ""
    category: str = ""
    price: int = NO_PRICE
    currency: str = ""
    in_stock: bool = True
    phash: str = ""
    duplicate_of: str = ""
    feed: str = ""
    data: Mapping[str, Any] = dataclass_field(default_factory=dict)

    @property
    def row_id(self) -> str:
        return row_id(self.image_id, self.view)

    def values(self) -> dict[str, Any]:
        """Return the row as Milvus takes it, a value for each of FIELDS."""
        return {field.name: getattr(self, field.name) for field in FIELDS} | {
            "view": self.view.value,
            "data": dict(self.data),
        }

    @property
    def size_bytes(self) -> int:
        """Return about how many bytes the row takes in a request."""
        texts = sum(len(getattr(self, field.name).encode()) for field in FIELDS if field.kind is Kind.VARCHAR)
        return texts + len(_json(self.data)) + 4 * EMBEDDING_DIM + 32


@dataclass(frozen=True, slots=True)
class KnownImage:
    """Hold what the index knows of an image whose rows are all written; `views` are their views."""

    image_sha256: str
    row_sha256: str
    category_root: str
    updated_at: int
    views: frozenset[str]


@dataclass(frozen=True, slots=True)
class IndexState:
    """Say which collection an alias stands for, None where it doesn't exist, and whether it can be searched."""

    collection: str | None
    loaded: bool


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """Describe one collection; `alias` is None where none points at it, `rows` where it isn't loaded."""

    alias: str | None
    collection: str
    fingerprint: str
    rows: int | None
    loaded: bool
    index_type: str | None
    created: datetime


def check(row: Row) -> None:
    """Raise BadInput, naming the field and its limit, unless Milvus can store the row."""
    for field in FIELDS:
        if field.kind is Kind.VARCHAR:
            _check_size(row, field, _size(getattr(row, field.name)))
        elif field.kind is Kind.JSON:
            _check_size(row, field, _json_size(row))
    if not row.image_id:
        raise BadInput("image_id is empty")
    if row.vector.shape != (EMBEDDING_DIM,) or row.vector.dtype != np.float32:
        raise BadInput(f"vector of {row.image_id} is {row.vector.dtype} {row.vector.shape}, not float32 (256,)")
    if not abs(float(np.linalg.norm(row.vector)) - 1) <= NORM_TOLERANCE:
        raise BadInput(f"vector of {row.image_id} isn't of unit length")


def _check_size(row: Row, field: Field, size: int | None) -> None:
    if size is None:
        raise BadInput(f"{field.name} of {row.image_id!r} holds what UTF-8 or JSON can't")
    if size > field.max_bytes:
        raise BadInput(f"{field.name} of {row.image_id!r} takes {size} bytes; at most {field.max_bytes} are stored")


def _size(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _json_size(row: Row) -> int | None:
    try:
        return len(_json(row.data))
    except (TypeError, ValueError):
        return None


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(data), ensure_ascii=False, allow_nan=False).encode()


def to_hit(values: Mapping[str, Any], score: float) -> Hit:
    """Make a hit of a row's HIT_FIELDS and its cosine, which rounding may have put just outside −1…1."""
    known = {name: values[name] for name in HIT_FIELDS} | {"view": View(values["view"])}
    return Hit(score=max(-1.0, min(1.0, score)), **known)


def row_id(image_id: str, view: View) -> str:
    return f"{image_id}#{view.value}"


def default_image_id(product_id: str, image: str) -> str:
    """Return the id of an image that the manifest gives none: 32 hex digits."""
    return hashlib.sha256(f"{product_id}\0{image}".encode()).hexdigest()[:32]


def category_root(path: str) -> str:
    """Return the first part of a category's path, cut to what its field holds; '' for an unknown category."""
    root = next((part for part in (part.strip() for part in path.split("/")) if part), "")
    return root.encode()[:CATEGORY_ROOT_BYTES].decode(errors="ignore")


def alias(catalogue: str, fingerprint: str) -> str:
    """Return the name that the searches of one model use."""
    return f"{catalogue}_{fingerprint}"


def collection_name(catalogue: str, fingerprint: str, now: datetime) -> str:
    """Return the name of a collection made at `now`, which must know its time zone."""
    return f"{alias(catalogue, fingerprint)}_{now.astimezone(UTC).strftime(STAMP)}"


def parse_collection_name(catalogue: str, name: str) -> tuple[str, datetime] | None:
    """Return fingerprint and time of creation; None where `name` isn't a collection of the catalogue."""
    match = re.fullmatch(rf"{re.escape(catalogue)}_([0-9a-f]{{12}})_(\d{{8}}T\d{{6}}Z)", name)
    if match is None:
        return None
    try:
        return match[1], datetime.strptime(match[2], STAMP).replace(tzinfo=UTC)
    except ValueError:  # digits that are no time
        return None


_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def quote(text: str) -> str:
    """Return `text` as a string literal of a Milvus filter.

    These five escapes are all that Milvus Lite and Milvus both know; every other character stands for itself.
    """
    return f'"{text.translate(_ESCAPES)}"'
