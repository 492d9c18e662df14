"""Drills count failed, short and wrong answers as the design defines them."""

import pytest

from scripts.drill_counts import Answer, Counts, Ledger, Outcome, Promise, count, goals, longest_gap

WANTED = tuple("abcdefghij")


def answer(ids: str | None, asked_s: float = 0.0, answered_s: float = 0.1, *degraded: str, error: str = "") -> Answer:
    return Answer(asked_s, answered_s, WANTED, None if ids is None else tuple(ids), degraded, error)


def counted(*answers: Answer, harmed_s: float = 2, mended_s: float = 5, ended_s: float = 10) -> Counts:
    return count(answers, harmed_s=harmed_s, mended_s=mended_s, ended_s=ended_s)


def missed(promise: Promise, *answers: Answer, lease_s: float = 10, deadline_s: float = 5) -> list[str]:
    found = goals("x", promise, counted(*answers), lease_s=lease_s, deadline_s=deadline_s)
    return [goal.name for goal in found if not goal.ok]


@pytest.mark.parametrize(
    ("ids", "outcome"),
    [
        ("abcdefghij", Outcome.GOOD),
        ("jihgfedcba", Outcome.GOOD),
        ("abcdefghxy", Outcome.GOOD),
        ("abcdefgxyz", Outcome.WRONG),
        ("abcdefghi", Outcome.SHORT),
        ("a", Outcome.SHORT),
        ("", Outcome.SHORT),
        (None, Outcome.FAILED),
    ],
)
def test_an_answer_is_judged_by_the_undisturbed_one(ids: str | None, outcome: Outcome) -> None:
    assert answer(ids).outcome is outcome


def test_a_repeated_id_counts_once() -> None:
    assert answer("aaaaaaaaaa").outcome is Outcome.WRONG


@pytest.mark.parametrize("ids", ["abcdefghij", "abcdefgxyz", "a"])
def test_a_flagged_answer_is_neither_short_nor_wrong(ids: str) -> None:
    assert answer(ids, 0, 1, "partial_index").outcome is Outcome.FLAGGED


def test_fewer_are_enough_where_the_index_holds_no_more() -> None:
    assert Answer(0, 1, ("a", "b"), ("b", "a")).outcome is Outcome.GOOD
    assert Answer(0, 1, (), ()).outcome is Outcome.GOOD


def test_every_request_has_one_outcome() -> None:
    found = counted(answer(None), answer("a"), answer("abcdefgxyz"), answer("a", 0, 1, "partial_index"), answer("a"))
    assert found.requests == sum(found.by_outcome.values()) == 5
    assert found.by_outcome[Outcome.SHORT] == 2
    assert found.by_outcome[Outcome.GOOD] == 0


def test_failures_are_no_latencies() -> None:
    found = counted(answer("abcdefghij", 0, 0.2), answer(None, 0, 5))
    assert (found.p50_ms, found.p99_ms) == (200, 200)


def test_no_search_is_no_result() -> None:
    with pytest.raises(ValueError, match="no search"):
        counted()


def test_times_of_failures_are_told_from_the_harm() -> None:
    found = counted(answer(None, 3, 3.5, error="away"), answer(None, 4.5, 7, error="away"), answer("abcdefghij", 8, 8))
    assert (found.last_failure_s, found.slowest_failure_s, found.recovery_s) == (2.5, 2.5, 2)
    assert found.errors == ("away",)


def test_without_a_failure_recovery_takes_no_time() -> None:
    found = counted(answer("abcdefghij", 9, 9))
    assert (found.last_failure_s, found.slowest_failure_s, found.recovery_s) == (0, 0, 0)


@pytest.mark.parametrize(
    ("times_s", "gap_s"), [([], 10), ([1, 2, 3], 7), ([4, 9], 5), ([9, 4], 5), ([0.5, 9.5], 9), ([10], 10)]
)
def test_the_longest_gap_counts_both_ends(times_s: list[float], gap_s: float) -> None:
    assert longest_gap(times_s, 10) == gap_s


def test_a_gap_is_ended_by_a_usable_answer_alone() -> None:
    usable = [answer("abcdefghij", 0, 1), answer("a", 5, 9, "partial_index")]
    assert counted(*usable, answer("a", 1, 3), answer(None, 1, 5)).gap_s == 8


STEADY = [answer("abcdefghij", t, t + 0.1) for t in range(10)]


def test_one_short_answer_misses_every_promise() -> None:
    for promise in Promise:
        assert missed(promise, *STEADY, answer("a", 3, 3.1)) == ["x: short"]
        assert missed(promise, *STEADY) == []


def test_failures_may_be_asked_for_within_the_lease_alone() -> None:
    early, late = answer(None, 11, 12), answer(None, 13, 14)
    assert missed(Promise.NO_FAILURE, *STEADY, early) == ["x: failed"]
    assert missed(Promise.WITHIN_LEASE, *STEADY, early) == []
    assert missed(Promise.WITHIN_LEASE, *STEADY, late) == ["x: last failure s"]


def test_a_deadline_longer_than_the_lease_leaves_no_failure() -> None:
    assert missed(Promise.WITHIN_LEASE, *STEADY, answer(None, 3, 4), deadline_s=15) == ["x: failed"]


def test_a_failure_is_told_by_the_deadline() -> None:
    assert missed(Promise.WITHIN_LEASE, *STEADY, answer(None, 3, 9)) == ["x: slowest failure s"]


def test_recovery_has_a_bound() -> None:
    assert missed(Promise.RECOVERY, *STEADY, answer(None, 3, 19)) == []
    assert missed(Promise.RECOVERY, *STEADY, answer(None, 3, 21)) == ["x: recovery s"]


def test_acknowledged_writes_are_lost_or_back() -> None:
    ledger = Ledger()
    ledger.begin(["kept", "lost", "old", "deleted", "back"])
    ledger.acknowledge({"kept": 1, "lost": 1, "old": 2, "deleted": None, "back": None})
    assert ledger.compare({"kept": 1, "old": 1, "back": 1, "stranger": 1}) == (["lost", "old"], ["back"])
    assert ledger.live() == ["kept", "lost", "old"]


def test_a_write_in_doubt_is_not_judged() -> None:
    ledger = Ledger()
    ledger.acknowledge({"a": 1, "b": None})
    ledger.begin(["a", "b", "c"])
    assert ledger.compare({"b": 5}) == ([], [])
    ledger.acknowledge({"a": 2})
    assert ledger.compare({}) == (["a"], [])
