"""Embeddings made up for benchmarks: clustered as those of a catalogue are, with queries near some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.domain import EMBEDDING_DIM, Embeddings

ROWS_A_CLUSTER = 100
SPREAD = 0.7
"""Length of what sets a row off its cluster's centre, which has length 1."""
NEAR = 0.3
"""Length of what sets a query off the row that it was made of."""
CHUNK_ROWS = 100_000


def unit(vectors: Any) -> Embeddings:
    """Return the vectors with length 1."""
    found: Embeddings = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return found


def clustered(rng: np.random.Generator, rows: int, rows_a_cluster: int = ROWS_A_CLUSTER) -> Embeddings:
    """Return the embeddings of a catalogue, shape (rows, 256)."""
    centres = unit(rng.normal(size=(max(1, rows // rows_a_cluster), EMBEDDING_DIM)))
    found = np.empty((rows, EMBEDDING_DIM), np.float32)
    for start in range(0, rows, CHUNK_ROWS):
        part = found[start : start + CHUNK_ROWS]
        part[:] = unit(centres[rng.integers(len(centres), size=len(part))] + noise(rng, len(part), SPREAD))
    return found


def queries_near(rng: np.random.Generator, vectors: Embeddings, count: int) -> Embeddings:
    """Return queries that are near to rows drawn at random, shape (count, 256)."""
    return unit(vectors[rng.integers(len(vectors), size=count)] + noise(rng, count, NEAR))


def noise(rng: np.random.Generator, count: int, length: float) -> Any:
    """Return random vectors of about that length."""
    return rng.normal(size=(count, EMBEDDING_DIM)) * length / np.sqrt(EMBEDDING_DIM)


def exact(vectors: Embeddings, queries: Embeddings, k: int) -> npt.NDArray[np.int64]:
    """Return the rows nearest to each query by cosine, in no order, shape (queries, k)."""
    best = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), CHUNK_ROWS):
        found = queries @ vectors[start : start + CHUNK_ROWS].T
        rows = np.broadcast_to(np.arange(start, start + found.shape[1]), found.shape)
        scores, best = np.hstack([scores, found]), np.hstack([best, rows])
        kept = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        scores, best = np.take_along_axis(scores, kept, 1), np.take_along_axis(best, kept, 1)
    return best
