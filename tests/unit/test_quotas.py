"""Quotas with a clock of their own."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.callers import Caller
from serve_app.errors import StageUnavailable
from serve_app.keeping import Bounds, ShelfStore
from serve_app.keys import Role
from serve_app.limiting import Quotas, exceeded
from serve_app.quotas import WINDOW_S, Buckets, Quota

QUOTA = Quota("key", 60)
"""One a second."""


def taken(buckets: Buckets, now_s: float, times: int, name: str = "a", cost: int = 1) -> int:
    return sum(buckets.take(now_s, name, QUOTA, cost).taken for _ in range(times))


def test_a_full_bucket_is_had_at_once_and_then_as_it_fills():
    buckets = Buckets()
    assert taken(buckets, 0, 100) == 60
    assert taken(buckets, 0.9, 100) == 0
    assert taken(buckets, 10, 100) == 10
    assert taken(buckets, 1e6, 100) == 60


def test_callers_do_not_share():
    buckets = Buckets()
    assert (taken(buckets, 0, 100, "a"), taken(buckets, 0, 100, "b")) == (60, 60)


def test_refusals_cost_nothing():
    buckets = Buckets()
    taken(buckets, 0, 1000)
    assert taken(buckets, 5, 1000) == 5


def test_what_costs_more_is_had_whole_or_not():
    buckets = Buckets()
    assert taken(buckets, 0, 10, cost=25) == 2
    assert taken(buckets, 0, 100) == 10


def test_what_costs_more_than_all_is_had_from_a_full_bucket_and_paid_for_after():
    buckets = Buckets()
    assert taken(buckets, 0, 1, cost=90) == 1
    assert taken(buckets, 30, 1) == 0
    assert taken(buckets, 31, 5) == 1


def test_standing_says_what_is_left_and_when_to_come_back():
    buckets = Buckets()
    first = buckets.take(0, "a", QUOTA, 1)
    assert (first.taken, first.left, first.full_s, first.wait_s(1)) == (True, 59, 1, 0)
    taken(buckets, 0, 100)
    refused = buckets.take(0.5, "a", QUOTA, 1)
    assert (refused.taken, refused.full_s) == (False, 60)
    assert refused.wait_s(1) == pytest.approx(0.5)
    assert refused.wait_s(30) == pytest.approx(29.5)


def test_a_larger_quota_holds_from_the_next_request_on():
    buckets = Buckets()
    taken(buckets, 0, 60)
    assert buckets.take(1, "a", Quota("key", 600), 1).left == pytest.approx(9)


def test_buckets_are_bounded_and_the_one_longest_unasked_goes():
    buckets = Buckets(most=3)
    taken(buckets, 0, 60, "old")
    for name in ("b", "c", "old", "d"):
        buckets.take(1, name, QUOTA, 1)
    assert len(buckets) == 3
    assert buckets.take(1, "old", QUOTA, 1).left < 1
    assert buckets.take(1, "b", QUOTA, 1).left == 59


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 10)), max_size=200))
def test_never_more_is_let_through_than_a_bucket_and_what_filled_it(requests):
    buckets, now_s, let_through = Buckets(), 0.0, 0
    for pause_s, cost in requests:
        now_s += pause_s
        let_through += cost * buckets.take(now_s, "a", QUOTA, cost).taken
        assert let_through <= QUOTA.requests + now_s * QUOTA.per_s + 1e-6


CALLER = Caller("app", Role.SEARCH, "key:1", QUOTA, has_key=True)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Store(ShelfStore):
    """Count together, or be away."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(Bounds(10**6, 10**6, 900), clock)
        self.is_away = self.hangs = False
        self.asked = 0

    async def take(self, name, quota, cost):
        self.asked += 1
        if self.is_away:
            raise StageUnavailable("gone")
        if self.hangs:
            await asyncio.sleep(60)
        return await super().take(name, quota, cost)


async def test_replicas_count_together():
    clock = Clock()
    store = Store(clock)
    replicas = [Quotas(store, 5, clock) for _ in range(3)]
    standings = [await replicas[turn % 3].charge(CALLER) for turn in range(90)]
    assert sum(standing.taken for standing in standings) == 60


async def test_who_has_no_quota_is_not_counted():
    store = Store(Clock())
    assert await Quotas(store, 5).charge(Caller("anonymous", Role.SEARCH)) is None
    assert store.asked == 0


@pytest.mark.parametrize("fault", ["is_away", "hangs"])
async def test_each_counts_alone_while_the_store_is_away_and_says_so_once(fault, caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    store = Store(clock)
    quotas = Quotas(store, 0.01, clock)
    setattr(store, fault, True)
    standings = [await quotas.charge(CALLER) for _ in range(70)]
    assert sum(standing.taken for standing in standings) == 60
    assert store.asked < 70
    setattr(store, fault, False)
    async with asyncio.timeout(10):
        await taken_again(quotas)
    ours = [record.message for record in caplog.records if record.name == "serve_app.limiting"]
    assert ours == ["quotas are counted by each replica alone", "quotas are counted together again"]


async def taken_again(quotas: Quotas) -> None:
    if not (await quotas.charge(CALLER)).taken:
        await asyncio.sleep(0.02)
        await taken_again(quotas)


async def test_refusal_says_whose_quota_it_is_and_when_to_come_back():
    buckets = Buckets()
    for policy, whose in (("key", "this API key"), ("address", "your address")):
        quota = Quota(policy, 2)
        for _ in range(2):
            buckets.take(0, policy, quota, 1)
        error = exceeded(buckets.take(0, policy, quota, 1), 1)
        assert (error.status, error.code, error.retry_after_s) == (429, "quota_exceeded", pytest.approx(WINDOW_S / 2))
        assert error.message == f"{whose} may make 2 requests in 60 s, and has made them; try again in 30 s"
