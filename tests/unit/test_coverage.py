"""Answers have to prove themselves after every sign of a failover."""

import numpy as np
import pytest

from serve_app.coverage import GUARD_S, Guard, Loading, Replica, Sample
from serve_app.domain import EMBEDDING_DIM

LEFT = Replica(1, frozenset({11}), (("a", 11), ("b", 11)))
RIGHT = Replica(2, frozenset({21, 22}), (("a", 21), ("b", 22)))
BOTH = frozenset({LEFT, RIGHT})


def loading(
    segments: dict[int, set[int]], stored: set[int] | None = None, replicas: frozenset[Replica] = BOTH
) -> Loading:
    loaded = {segment: frozenset(nodes) for segment, nodes in segments.items()}
    return Loading(replicas, loaded, frozenset(segments if stored is None else stored))


WHOLE = {100: {11, 21}, 101: {11, 22}}


def calm() -> Guard:
    guard = Guard()
    guard.saw(loading(WHOLE), 0)
    return guard


def test_a_whole_index_needs_no_proof() -> None:
    guard = calm()
    guard.saw(loading(WHOLE), 1)
    assert not guard.is_on(1)
    assert guard.missing == frozenset()


def test_a_sign_counts_for_a_while() -> None:
    guard = calm()
    guard.sign(10)
    assert guard.is_on(10 + GUARD_S - 0.1)
    assert not guard.is_on(10 + GUARD_S)


@pytest.mark.parametrize(
    "changed",
    [
        frozenset({LEFT}),
        frozenset({LEFT, Replica(2, frozenset({21}), (("a", 21), ("b", 21)))}),
        frozenset({LEFT, Replica(2, frozenset({21, 22}), (("a", 22), ("b", 22)))}),
    ],
    ids=["a replica", "a node", "a leader"],
)
def test_a_change_of_the_replicas_is_a_sign(changed: frozenset[Replica]) -> None:
    guard = calm()
    guard.saw(loading(WHOLE, replicas=changed), 5)
    assert guard.is_on(5)


def test_a_segment_that_one_replica_lacks_is_a_sign() -> None:
    guard = calm()
    guard.saw(loading({100: {21}, 101: {11, 22}}), 5)
    assert guard.missing == {(1, 100)}
    assert guard.is_on(5)


def test_a_segment_that_all_replicas_lost_is_a_sign() -> None:
    guard = calm()
    guard.saw(loading({100: {11, 21}}, stored={100, 101}), 5)
    assert guard.missing == {(1, 101), (2, 101)}
    assert guard.is_on(5)


def test_what_stays_missing_is_no_new_sign() -> None:
    guard = calm()
    for now_s in range(60):
        guard.saw(loading({100: {21}, 101: {11, 22}}), now_s)
    assert not guard.is_on(60)


def test_a_segment_that_was_compacted_away_is_not_missed() -> None:
    guard = calm()
    guard.saw(loading({101: {11, 22}, 102: {11, 21}}), 5)
    assert guard.missing == frozenset()
    assert not guard.is_on(5)


def test_a_segment_that_is_stored_and_not_loaded_yet_is_not_missed() -> None:
    guard = calm()
    guard.saw(loading(WHOLE, stored={100, 101, 102}), 5)
    assert guard.missing == frozenset()


def sample(*row_ids: str) -> Sample:
    return Sample(row_ids, np.eye(len(row_ids), EMBEDDING_DIM, dtype=np.float32))


def test_rows_that_do_not_find_themselves_are_lost() -> None:
    answers = [[("a", 1.0), ("x", 0.5)], [("x", 0.9), ("y", 0.8)], []]
    assert sample("a", "b", "c").lost(answers, 2) == {"b", "c"}


def test_a_list_full_of_the_same_picture_proves_no_loss() -> None:
    assert sample("a").lost([[("x", 1.0), ("y", 1.0)]], 2) == frozenset()
    assert sample("a").lost([[("x", 1.0), ("y", 1.0)]], 3) == {"a"}


def test_a_sample_forgets_rows_that_are_gone() -> None:
    kept = sample("a", "b", "c").without({"b"})
    assert kept.row_ids == ("a", "c")
    assert [int(np.argmax(vector)) for vector in kept.vectors] == [0, 2]
