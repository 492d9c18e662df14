"""Requests that come again, over a store that may be away."""

import pytest

from serve_app.errors import BadParameter, StageUnavailable
from serve_app.keeping import NOBODY, Bounds, ShelfStore
from serve_app.photos import Photos
from serve_app.repeats import Begun, Repeats
from tests.unit.test_sessions import AwayStore


def repeats(store=None):
    return Repeats(store or ShelfStore(Bounds(10**6, 10**6, 900)), 0.1)


async def test_request_that_comes_again_is_of_the_first_time_and_answered_as_then():
    kept = repeats()
    assert await kept.begin(NOBODY, "k", b"request", 5) == Begun(5)
    assert await kept.begin(NOBODY, "k", b"request", 6) == Begun(5)
    await kept.end(NOBODY, "k", b"answer")
    assert await kept.begin(NOBODY, "k", b"request", 7) == Begun(5, b"answer")


async def test_key_is_one_owners_alone():
    kept = repeats()
    await kept.begin("a", "k", b"request", 5)
    assert await kept.begin("b", "k", b"another", 6) == Begun(6)


async def test_key_of_another_request_is_refused():
    kept = repeats()
    await kept.begin(NOBODY, "k", b"request", 5)
    with pytest.raises(BadParameter, match="new key"):
        await kept.begin(NOBODY, "k", b"another", 6)


@pytest.mark.parametrize("store", [AwayStore(), AwayStore(StageUnavailable("away")), ShelfStore(Bounds(10, 10, 900))])
async def test_request_is_not_taken_where_it_can_not_be_remembered(store):
    with pytest.raises(StageUnavailable):
        await repeats(store).begin(NOBODY, "k", b"request", 5)


async def test_request_is_none_that_a_token_reaches():
    store = ShelfStore(Bounds(10**6, 10**6, 900))
    await repeats(store).begin(NOBODY, "k", b"request", 5)
    (name,) = store._shelf._kept
    assert ":" in name
    assert await Photos(store, 1, bytes).read(NOBODY, name.partition(":")[2], "request") is None
