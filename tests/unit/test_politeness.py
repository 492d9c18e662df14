"""How often and how soon a host is asked."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.politeness import Host, Hosts, Pace, retry_after_s


def test_turns_are_as_many_as_the_rate_allows():
    pace, now_s, taken = Pace(per_s=50), 0.0, 0
    while now_s < 10:
        wait_s = pace.take(now_s)
        taken += not wait_s
        now_s += wait_s
    assert 500 <= taken <= 500 + 50 * Pace.BURST_S + 1


def test_turns_that_are_taken_late_are_caught_up_on():
    pace, now_s, taken = Pace(per_s=50), 0.0, 0
    while now_s < 10:
        wait_s = pace.take(now_s)
        taken += not wait_s
        now_s += wait_s + 0.01 if wait_s else 0
    assert taken >= 495


def test_a_long_rest_earns_no_rush():
    pace = Pace(per_s=10)
    pace.take(0)
    assert [pace.take(1000) for _ in range(4)] == pytest.approx([0, 0, 0.1, 0.1])


def test_a_held_host_gives_no_turns():
    pace = Pace(per_s=50)
    pace.hold(5)
    pace.hold(3)
    assert (pace.take(1), pace.held_s(1)) == (4, 4)
    assert (pace.take(5), pace.held_s(5)) == (0, 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    {
        "7": 7,
        " 7 ": 7,
        "Mon, 01 Jan 2024 00:00:07 GMT": 7,
        "Mon, 01 Jan 2024 00:00:07 -0000": 7,
        "Sun, 31 Dec 2023 00:00:00 GMT": 0,
    }.items(),
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert retry_after_s(text, datetime(2024, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-7", "٧", "1e9"])
def test_other_wishes_are_passed_over(text):
    assert retry_after_s(text, datetime.now(UTC)) is None


@given(st.text())
def test_any_retry_after_is_read_or_passed_over(text):
    assert (retry_after_s(text, datetime.now(UTC)) or 0) >= 0


def test_hosts_that_are_not_in_use_are_forgotten_oldest_first():
    hosts = Hosts(lambda: Host(1, 1), most_idle=2)
    seen = {}
    for name in ("a", "b", "a", "c"):
        with hosts.using(name) as host:
            seen[name] = host
    with hosts.using("a") as a, hosts.using("b") as b:
        assert a is seen["a"]
        assert b is not seen["b"]


def test_hosts_in_use_are_never_forgotten():
    hosts = Hosts(lambda: Host(1, 1), most_idle=10)
    with hosts.using("kept") as kept:
        for number in range(1000):
            with hosts.using(str(number)):
                pass
        assert len(hosts) == 11
        with hosts.using("kept") as again:
            assert again is kept
