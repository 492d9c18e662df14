"""Proof that a collection is whole, and that its index finds what is there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import MilvusClient

from serve_app import collection as naming
from serve_app.config import MilvusConfig, SearchParams
from serve_app.domain import Embeddings, View
from serve_app.errors import NotVerified
from serve_app.milvus import indexing, targets
from serve_app.milvus.client import is_lite, translated
from serve_app.milvus.index_types import search_params
from serve_app.milvus.scanning import MOST_LOOKS, SETTLED_S, TIMEOUT_S, VECTORS_A_CALL, Look, look, rows_by_key, scan
from serve_app.milvus.targets import Marks, State, Verified

K = 10
QUERIES = 100
MIN_RECALL = 0.95
MIN_OVERLAP = 0.9
MOST_SUSPECTED = 100_000
TIE = 1e-5
"""Scores that differ by less are equal: float32 sums in another order."""


@dataclass(frozen=True, slots=True)
class Demands:
    """Say what a collection must fulfil."""

    queries: int = QUERIES
    min_recall: float = MIN_RECALL
    min_overlap: float = MIN_OVERLAP


def verify(
    client: MilvusClient,
    config: MilvusConfig,
    catalogue: str,
    name: str,
    params: SearchParams,
    demands: Demands = Demands(),
) -> Verified:
    """Check a collection and remember the outcome in Milvus; raises NotVerified, naming all that is amiss.

    No marks are left; with the same model's searched collection it shares every row, with those of other models, where
    its own has none, every image; recall@10 of its index against
    exact search, on rows drawn from it as queries; and the products that both find for those queries.
    """
    target = targets.read(client, catalogue, name)
    if not indexing.is_loaded(client, name):
        raise NotVerified(f"{name} is not loaded; `shoplens index backfill {name}` loads it")
    amiss = []
    if target.state is not State.MIRRORED:
        amiss.append(f"its backfill is not complete ({target.state or 'never begun'}); run `shoplens index backfill`")
    marks = Marks(client, catalogue).count(name)
    if marks:
        amiss.append(f"{marks:,} images were changed by writers of another model; run its backfill with --manifest")
    searched = indexing.resolve(client, naming.alias(catalogue, target.fingerprint))
    source = None if searched == name else searched
    if source is not None:
        amiss += _missing(client, source, name)
    elif searched is None:
        amiss += missing_images(client, catalogue, name)
    queries, rows, best = _exact(client, name, demands.queries)
    if not rows:
        amiss.append("it is empty")
    recall = _recall(client, name, queries, best, params) if rows else 0.0
    if rows and recall < demands.min_recall:
        amiss.append(f"recall@{K} of its index is {recall:.3f}, below {demands.min_recall:g}; raise searcher.params")
    overlap = _overlap(client, source, name, queries, params) if source and rows else None
    if overlap is not None and overlap < demands.min_overlap:
        amiss.append(f"it shares {overlap:.3f} of the products with {source}, below {demands.min_overlap:g}")
    if amiss:
        raise NotVerified(f"{name} is not verified: {'; '.join(amiss)}")
    found = Verified(datetime.now(UTC).isoformat(timespec="seconds"), rows, round(recall, 4), overlap)
    targets.remember(client, name, verified=found)
    return found


def _missing(client: MilvusClient, source: str, name: str) -> list[str]:
    """Compare all rows of both collections, while writers go on."""
    suspected: dict[str, Look] = {}
    for which in (source, name):
        for rows in scan(client, which):
            suspected |= _differing(client, source, name, [row["row_id"] for row in rows])
            if len(suspected) > MOST_SUSPECTED:
                return [f"more than {MOST_SUSPECTED:,} rows differ from {source}; run its backfill again"]
    amiss: dict[str, Look] = {}
    for _ in range(MOST_LOOKS):
        if not suspected:
            break
        time.sleep(0.0 if is_lite(client) else SETTLED_S)
        now = _differing(client, source, name, sorted(suspected))
        amiss |= {row_id: seen for row_id, seen in now.items() if seen == suspected[row_id]}
        suspected = {row_id: seen for row_id, seen in now.items() if row_id not in amiss}
    if not amiss:
        return []
    more = sum(seen[0] is None for seen in amiss.values())
    return [f"{len(amiss) - more:,} rows are missing or differ from {source}, {more:,} are too many; backfill it again"]


def _differing(client: MilvusClient, source: str, name: str, keys: Sequence[str]) -> dict[str, Look]:
    wanted, found = rows_by_key(client, source, keys), rows_by_key(client, name, keys)
    looks = {key: look(key, wanted, found) for key in keys}
    return {key: seen for key, seen in looks.items() if seen[0] != seen[1]}


def missing_images(client: MilvusClient, catalogue: str, name: str) -> list[str]:
    """Tell of images that other models' searched collections hold and this one doesn't."""
    lacks = 0
    for other in targets.read_all(client, catalogue):
        if other.collection == name:
            continue
        if indexing.resolve(client, naming.alias(catalogue, other.fingerprint)) == other.collection:
            for rows in scan(client, other.collection, ["row_id", "view"]):
                keys = [row["row_id"] for row in rows if row["view"] == View.WHOLE]
                lacks += len(keys) - len(rows_by_key(client, name, keys))
    return [f"it lacks {lacks:,} images that are searched now; run its backfill with --manifest"] if lacks else []


def _exact(client: MilvusClient, name: str, count: int) -> tuple[Embeddings, int, npt.NDArray[np.float32]]:
    """Draw rows as queries; return them, the number of rows, and the K best scores of each query among all rows.

    Reads all vectors twice, a batch at a time: once to draw, once to compare.
    """
    rng = np.random.default_rng(0)
    drawn: list[Any] = []
    rows = 0
    for batch in scan(client, name, ["row_id", "vector"], batch=VECTORS_A_CALL):
        for row in batch:
            # Reservoir: each row is drawn with equal chance, without knowing their number.
            place = rows if rows < count else int(rng.integers(rows + 1))
            if place < count:
                drawn[place : place + 1] = [row["vector"]]
            rows += 1
    queries = np.asarray(drawn, np.float32)
    if not rows:
        return queries, 0, np.zeros((0, 0), np.float32)
    best = np.full((len(queries), 0), -2, np.float32)
    for batch in scan(client, name, ["row_id", "vector"], batch=VECTORS_A_CALL):
        scores = queries @ np.asarray([row["vector"] for row in batch], np.float32).T
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :K]
    return queries, rows, best


def _search(client: MilvusClient, name: str, queries: Embeddings, params: SearchParams, k: int) -> list[list[Any]]:
    answers: list[list[Any]] = []
    for start in range(0, len(queries), 16):
        with translated():
            found = client.search(
                name,
                data=list(queries[start : start + 16]),
                anns_field="vector",
                limit=k,
                output_fields=["row_id", "product_id", "vector"],
                search_params={"metric_type": "COSINE", "params": search_params(params, k)},
                consistency_level="Strong",
                timeout=TIMEOUT_S,
            )
        answers += [list(hits) for hits in found]
    return answers


def _recall(client: MilvusClient, name: str, queries: Embeddings, best: Any, params: SearchParams) -> float:
    """Count hits that score as high as the K-th best row: among equal rows, any may be found."""
    right = wanted = 0
    for query, scores, hits in zip(queries, best, _search(client, name, queries, params, K), strict=True):
        exact = [float(query @ np.asarray(hit["entity"]["vector"], np.float32)) for hit in hits]
        right += sum(score >= scores[-1] - TIE for score in exact[: len(scores)])
        wanted += len(scores)
    return right / wanted


def _overlap(client: MilvusClient, source: str, name: str, queries: Embeddings, params: SearchParams) -> float:
    """Return the share of the old collection's products that the new one finds too, in the first K rows."""
    shares = []
    old, new = (_search(client, which, queries, params, K) for which in (source, name))
    for before, after in zip(old, new, strict=True):
        kept = _products(before) & _products(after)
        shares.append(len(kept) / max(1, len(_products(before))))
    return round(float(np.mean(shares)), 4)


def _products(hits: Sequence[Any]) -> set[str]:
    return {hit["entity"]["product_id"] for hit in hits}
