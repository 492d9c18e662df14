"""Whether answers come from the whole index.

After a failover, Milvus for a while answers from the part of an index that is loaded, and calls it a success
(https://github.com/milvus-io/milvus/issues/30313, 37364, 34590). Two things tell such answers apart. What is loaded,
compared with what is stored and with the other replicas, says when to be on guard. On guard, known rows are searched
for in the same call as the shopper's photo, and so in the same parts of the index: an answer that lacks one of them
comes from a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from serve_app.domain import Embeddings

PARTIAL_INDEX = "partial_index"
"""`degraded`: a part of the index did not answer."""

GUARD_S = 15.0
"""How long each sign of a failover counts; loading what a lost node held took up to 5 s in drills."""

SAME = 0.9999
"""Cosine from which two vectors are taken for one: a catalogue may hold many copies of a picture."""


@dataclass(frozen=True, slots=True)
class Replica:
    """Hold one copy of the index: which nodes hold it, and which of them answers for each shard."""

    replica_id: int
    nodes: frozenset[int]
    leaders: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Loading:
    """Hold what is loaded: the replicas, and for each segment the nodes that have it; `stored` are those on storage."""

    replicas: frozenset[Replica]
    loaded: Mapping[int, frozenset[int]]
    stored: frozenset[int]


def lacking(loading: Loading, segments: AbstractSet[int]) -> frozenset[tuple[int, int]]:
    """Return which replica lacks which of the segments, as pairs of their numbers."""
    return frozenset(
        (replica.replica_id, segment)
        for replica in loading.replicas
        for segment in segments
        if not loading.loaded.get(segment, frozenset()) & replica.nodes
    )


class Guard:
    """Decide when answers have to prove that they come from the whole index.

    Times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._until_s = float("-inf")
        self._replicas: frozenset[Replica] | None = None
        self._known: frozenset[int] = frozenset()
        self.missing: frozenset[tuple[int, int]] = frozenset()
        """(replica, segment) pairs: what a replica lacks."""

    def is_on(self, now_s: float) -> bool:
        return now_s < self._until_s

    def sign(self, now_s: float) -> None:
        """Note a sign of a failover: a lost connection, a timeout, an answer that lacked a known row."""
        self._until_s = now_s + GUARD_S

    def saw(self, loading: Loading, now_s: float) -> None:
        """Note what is loaded; every change of it is a sign, new segments that all replicas have are none."""
        # A segment that was loaded once and is stored still has to be loaded everywhere: before that, Milvus
        # answers for its rows from memory.
        self._known = (self._known | frozenset(loading.loaded)) & loading.stored
        missing = lacking(loading, self._known)
        if self._replicas is not None and (loading.replicas != self._replicas or missing - self.missing):
            self.sign(now_s)
        self._replicas = loading.replicas
        self.missing = missing


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Hold rows that are known to be in the index: `row_ids` (n), `vectors` (n, 256)."""

    row_ids: tuple[str, ...]
    vectors: Embeddings

    def __len__(self) -> int:
        return len(self.row_ids)

    def without(self, row_ids: AbstractSet[str]) -> Sample:
        kept = [place for place, row_id in enumerate(self.row_ids) if row_id not in row_ids]
        return Sample(tuple(self.row_ids[place] for place in kept), self.vectors[kept])

    def lost(self, answers: Iterable[Sequence[tuple[str, float]]], k: int) -> frozenset[str]:
        """Return the rows that were not found by their own vectors; `answers` are (row id, cosine), best first.

        A list full of the very same picture proves no loss.
        """
        return frozenset(
            row_id
            for row_id, found in zip(self.row_ids, answers, strict=True)
            if all(other != row_id for other, _ in found) and not (len(found) >= k and found[-1][1] >= SAME)
        )
