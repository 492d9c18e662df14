"""Rankings that were fixed, as they are kept beside their photo."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from serve_app.calibration import SCORE_DIGITS, Chances
from serve_app.domain import EMBEDDING_DIM, Embeddings, Hit, Ranked
from serve_app.objects import ObjectList
from serve_app.pipeline import MAX_RANKED, Answer, Fixed, ProductList, Query


@dataclass(frozen=True, slots=True)
class Ranking:
    """Hold the ranking of one list, what it was asked with, and what it takes to find the rest of it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    object: ObjectList
    object_id: str
    width: int
    height: int
    model: str
    query: Query
    ranked: tuple[Ranked, ...]
    whole: bool
    """Nothing can follow, or nothing is to."""
    vectors: bytes
    """The embeddings that the list is searched by, little-endian float32, one after the other."""
    chances: Chances | None = None
    """As the first page had them."""

    @property
    def embeddings(self) -> Embeddings:
        return np.frombuffer(self.vectors, "<f4").reshape(-1, EMBEDDING_DIM)

    def to_bytes(self) -> bytes:
        return _AS_JSON.dump_json(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Ranking:
        return _AS_JSON.validate_json(data)


_AS_JSON = TypeAdapter(Ranking)
_QUERY_AS_JSON = TypeAdapter(Query)


def ranking_of(answer: Answer, entry: ProductList, fixed: Fixed, query: Query) -> Ranking:
    """Return what is to be kept of one list of an answer."""
    return Ranking(
        object=entry.object,
        object_id=entry.object_id,
        width=answer.width,
        height=answer.height,
        model=answer.model,
        query=query,
        ranked=tuple(map(_ranked, fixed.hits)),
        whole=fixed.whole,
        vectors=np.ascontiguousarray(fixed.embeddings, "<f4").tobytes(),
        chances=fixed.chances,
    )


def continued(known: Iterable[Ranked], deeper: Iterable[Hit], *, by_parent: bool = False) -> tuple[Ranked, ...]:
    """Return a ranking that begins with what is known, and goes on with what is new among the deeper hits."""
    ranked = list(known)
    products = {entry.product_id for entry in ranked}
    parents = {entry.parent_id for entry in ranked if by_parent} - {""}
    new = (hit for hit in deeper if hit.product_id not in products and hit.parent_id not in parents)
    return tuple([*ranked, *map(_ranked, new)][:MAX_RANKED])


def digest(query: Query) -> str:
    """Return what tells whether two searches ask for the same, however many products a page has.

    What rates made of prices is left out: other rates may be loaded between two pages of one list. So is what the list
    was begun from, which the ranking knows.
    """
    own = {"prices": True, "but_product": True, "but_parent": True}
    text = _QUERY_AS_JSON.dump_json(query, exclude={"top_k": True, "worths": True, "wanted": own})
    return hashlib.sha256(text).hexdigest()[:12]


def _ranked(hit: Hit) -> Ranked:
    return Ranked(hit.product_id, hit.row_id, round(hit.score, SCORE_DIGITS), hit.parent_id)
