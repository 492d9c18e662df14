"""Feeds are followed in batches, and the order of their events doesn't matter."""

import os
import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.catalogue.events import apply, parse
from serve_app.catalogue.feed import follow, stopped_by_signals
from serve_app.catalogue.report import Status
from serve_app.errors import MilvusUnavailable
from tests.unit.feed_fakes import BROKEN, START_MS, FakeSource, Shop, message

LATER_MS = START_MS + 60_000
CHAIR = {"image": "1.jpg", "product_id": "7", "image_id": "a", "price": "10", "currency": "EUR"}


@pytest.fixture
def shop():
    return Shop()


def applied(shop, *portions):
    """Follow events in batches; return the outcomes of all, by their places."""
    return [
        outcome
        for batch in follow(FakeSource(portions), shop.sink, lambda refused: None, now_ms=lambda: LATER_MS)
        for outcome in batch.outcomes
    ]


def statuses(shop, *portions):
    return [outcome.status for outcome in applied(shop, *portions)]


def test_events_are_applied_and_acknowledged(shop):
    source = FakeSource([[message(1, **CHAIR)], [], [message(2, "update", 5, product_id="7", in_stock=False)]])
    batches = list(follow(source, shop.sink, pytest.fail, now_ms=lambda: LATER_MS))
    assert [batch.lag_s for batch in batches] == [60.0, 59.995]
    assert (source.acknowledged, shop.entry("a").in_stock) == (3, False)


def test_bad_events_are_refused_before_they_are_acknowledged_and_stop_nothing(shop):
    source = FakeSource([[message(1, "drop"), message(2, **CHAIR | {"image": BROKEN}), message(3, "update", x=1)]])
    refused = []

    def refuse(outcomes):
        assert source.acknowledged == 0
        refused.extend(outcomes)

    list(follow(source, shop.sink, refuse, now_ms=lambda: LATER_MS))
    assert {(each.row, each.code) for each in refused} == {(1, "bad_event"), (2, "truncated"), (3, "bad_event")}
    assert all(each.reason and each.columns["at"] == START_MS for each in refused)
    assert source.acknowledged == 1


def test_what_milvus_does_not_take_is_not_acknowledged_and_comes_again(shop):
    source = FakeSource([[message(1, **CHAIR)], [message(2, "delete", 5, product_id="7")]])
    delete = shop.index.delete

    def away(image_ids):
        raise MilvusUnavailable("Milvus can't be reached")

    shop.index.delete = away
    with pytest.raises(MilvusUnavailable, match="can't be reached; what was not acknowledged comes again"):
        list(follow(source, shop.sink, pytest.fail, now_ms=lambda: LATER_MS))
    assert source.acknowledged == 1
    shop.index.delete = delete
    source.restart()
    list(follow(source, shop.sink, pytest.fail, now_ms=lambda: LATER_MS))
    assert (source.acknowledged, shop.entry("a")) == (2, None)


def test_a_stop_finishes_the_batch(shop):
    source = FakeSource([[message(1, **CHAIR)], [message(2, "delete", 5, product_id="7")]])
    with stopped_by_signals() as stopping:
        for _ in follow(source, shop.sink, pytest.fail, stopping=stopping, now_ms=lambda: LATER_MS):
            os.kill(os.getpid(), signal.SIGTERM)
    assert (source.acknowledged, shop.entry("a").image_id) == (1, "a")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_event_that_is_older_than_a_delete_brings_nothing_back(shop):
    first = [message(1, **CHAIR), message(2, **CHAIR | {"image": "2.jpg", "image_id": "b"})]
    again = [message(4, at=4, **CHAIR), message(5, at=6, **CHAIR | {"image": "2.jpg", "image_id": "b"})]
    found = applied(shop, first, [message(3, "delete", 5, product_id="7")], again)
    assert [each.status for each in found[2:]] == [Status.UPDATED, Status.STALE, Status.EMBEDDED]
    assert found[2].removed_views == 2
    assert (shop.entry("a"), shop.entry("b").product_id) == (None, "7")


def test_a_delete_older_than_the_image_leaves_it(shop):
    assert statuses(shop, [message(1, at=5, **CHAIR)], [message(2, "delete", 4, image_id="a")]) == [
        Status.EMBEDDED,
        Status.STALE,
    ]
    assert shop.entry("a") is not None


def test_a_delete_holds_though_an_update_was_newer(shop):
    update = message(2, "update", 9, product_id="7", in_stock=False)
    assert statuses(shop, [message(1, **CHAIR), update], [message(3, "delete", 5, image_id="a")])[-1] is Status.UPDATED
    assert shop.entry("a") is None


def test_a_delete_of_what_is_not_there_is_no_problem(shop):
    assert statuses(shop, [message(1, "delete", product_id="7")]) == [Status.UNCHANGED]


def test_the_newest_upsert_of_a_batch_is_the_one_that_is_embedded(shop):
    batch = [message(row, at=at, **CHAIR | {"price": str(at)}) for row, at in ((1, 2), (2, 3), (3, 1))]
    assert statuses(shop, batch) == [Status.STALE, Status.EMBEDDED, Status.STALE]
    assert [entry.price for entry in shop.importer.embedded] == [300]


def test_of_equal_times_the_later_one_wins(shop):
    assert statuses(shop, [message(1, **CHAIR), message(2, **CHAIR | {"price": "5"})])[0] is Status.STALE
    assert shop.entry("a").price == 500
    applied(shop, [message(3, "update", product_id="7", price="6"), message(4, **CHAIR | {"price": "7"})])
    assert shop.entry("a").price == 700
    applied(shop, [message(5, **CHAIR), message(6, "delete", image_id="a")])
    assert shop.entry("a") is None
    applied(shop, [message(7, "delete", image_id="a"), message(8, **CHAIR)])
    assert shop.entry("a").price == 1000


def test_an_upsert_that_is_refused_leaves_the_one_before_it(shop):
    batch = [message(1, at=1, **CHAIR), message(2, at=2, **CHAIR | {"image": BROKEN})]
    assert statuses(shop, batch) == [Status.EMBEDDED, Status.PROBLEM]
    assert shop.entry("a").price == 1000


def test_an_update_runs_no_model_and_writes_each_image_once(shop):
    applied(shop, [message(1, **CHAIR), message(2, **CHAIR | {"image_id": "b"})])
    before = shop.index.writes
    updates = [message(3, "update", 1, product_id="7", price="5"), message(4, "update", 2, image_id="b", x="y")]
    assert [each.written_rows for each in applied(shop, updates)] == [2, 1]
    assert (shop.index.writes, len(shop.importer.embedded)) == (before + 1, 2)
    assert (shop.entry("a").price, shop.entry("b").price, shop.entry("b").attributes) == (500, 500, {"x": "y"})


def test_an_update_that_comes_again_writes_nothing(shop):
    update = message(2, "update", 1, product_id="7", price="5")
    applied(shop, [message(1, **CHAIR)], [update])
    before = shop.index.writes
    assert statuses(shop, [update]) == [Status.UNCHANGED]
    assert shop.index.writes == before


def test_an_update_finds_what_came_in_the_same_batch(shop):
    assert statuses(shop, [message(1, "update", 1, product_id="7", price="5"), message(2, **CHAIR)]) == [
        Status.UPDATED,
        Status.EMBEDDED,
    ]
    assert shop.entry("a").price == 500


def test_an_update_of_what_is_not_there_is_refused_unless_it_was_deleted(shop):
    update = message(1, "update", 1, product_id="7", price="5")
    (problem,) = applied(shop, [update])
    assert (problem.code, problem.product_id) == ("not_indexed", "7")
    assert statuses(shop, [message(2, "delete", product_id="7")], [update])[-1] is Status.STALE


def test_an_update_that_can_not_be_stored_is_refused_and_the_others_are_applied(shop):
    updates = [message(2, "update", 1, product_id="7", category="x" * 600), message(3, "update", 2, image_id="a", x=1)]
    assert statuses(shop, [message(1, **CHAIR)], updates)[1:] == [Status.PROBLEM, Status.UPDATED]
    assert (shop.entry("a").category, shop.entry("a").attributes) == ("", {"x": 1})


def test_an_upsert_of_the_same_holds_back_what_is_older_than_it(shop):
    same, older = message(2, at=9, **CHAIR), message(3, at=5, **CHAIR | {"price": "5"})
    assert statuses(shop, [message(1, **CHAIR)], [same], [older]) == [Status.EMBEDDED, Status.UNCHANGED, Status.STALE]


def test_a_late_upsert_takes_effect_in_what_no_newer_update_named(shop):
    late = message(3, at=5, **CHAIR | {"price": "99", "title": "Chair"})
    update = message(2, "update", 9, product_id="7", price="5")
    assert statuses(shop, [message(1, **CHAIR)], [update], [late])[-1] is Status.EMBEDDED
    image = shop.index.image("a")
    assert (image.entry.price, image.entry.title) == (500, "Chair")
    assert (image.since_ms - START_MS, image.updated_at - START_MS) == (5, 9)


VALUES = {
    "price": st.sampled_from(["1", "2.50", None]),
    "in_stock": st.booleans(),
    "title": st.sampled_from(["Chair", "Seat", None]),
    "colour": st.sampled_from(["red", "blue", None]),
}
PRODUCTS = {"a": "7", "b": "7", "c": "8"}
"""Images and whose they are."""


@st.composite
def upserts(draw):
    image_id = draw(st.sampled_from(sorted(PRODUCTS)))
    values = {name: draw(each) for name, each in VALUES.items()}
    return {"event": "upsert", "image": f"{image_id}.jpg", "image_id": image_id, "product_id": PRODUCTS[image_id]} | (
        values | {"currency": "EUR"}
    )


@st.composite
def updates(draw):
    named = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, unique=True))
    return {"event": "update"} | draw(subjects) | {name: draw(VALUES[name]) for name in named}


@st.composite
def deletes(draw):
    return {"event": "delete"} | draw(subjects)


subjects = st.sampled_from([{"image_id": "a"}, {"image_id": "c"}, {"product_id": "7"}, {"product_id": "8"}])


@st.composite
def arrivals(draw, *kinds, first=()):
    """Return events, the first of them in order, and messages: all of them, some again, in any order and batches."""
    events = [*first, *draw(st.lists(st.one_of(*kinds), min_size=1, max_size=8))]
    messages = [message(at + 1, at=at, **event) for at, event in enumerate(events)]
    rest = messages[len(first) :]
    order = draw(st.permutations(rest + draw(st.lists(st.sampled_from(rest), max_size=4))))
    batches = [list(messages[: len(first)])] if first else []
    for each in order:
        if batches and draw(st.booleans()) and len(batches) > len(first[:1]):
            batches[-1].append(each)
        else:
            batches.append([each])
    return messages, batches


def is_about(event, image_id):
    return (
        event.get("image_id", image_id) == image_id
        and event.get("product_id", PRODUCTS[image_id]) == (PRODUCTS[image_id])
    )


def wanted(messages):
    """Return the entry of each image that is there after all events in the order of their times."""
    entries = {}
    for each in (parse(one, LATER_MS) for one in messages):
        columns = each.columns()
        for image_id in PRODUCTS:
            if not is_about(columns, image_id):
                continue
            if columns["event"] == "upsert":
                entries[image_id] = each.entry
            elif columns["event"] == "delete":
                entries.pop(image_id, None)
            elif image_id in entries:
                entries[image_id] = apply(each, entries[image_id])
    return {image_id: replace(entry, row=0, image="", at_ms=0) for image_id, entry in entries.items()}


def held(shop):
    return {image_id: replace(shop.entry(image_id), row=0, image="", at_ms=0) for image_id in shop.index.images}


@given(arrivals(upserts(), deletes()))
def test_upserts_and_deletes_end_in_the_newest_in_any_order(case):
    messages, batches = case
    shop = Shop()
    applied(shop, *batches)
    assert held(shop) == wanted(messages)


FIRST = [
    {"image": f"{image_id}.jpg", "image_id": image_id, "product_id": product_id, "price": "3", "currency": "EUR"}
    for image_id, product_id in PRODUCTS.items()
]


@given(arrivals(upserts(), updates(), first=FIRST))
def test_updates_of_what_is_there_end_in_the_newest_of_each_column_in_any_order(case):
    messages, batches = case
    shop = Shop()
    applied(shop, *batches)
    assert held(shop) == wanted(messages)


@given(arrivals(upserts(), updates(), deletes(), first=FIRST))
def test_nothing_comes_back_and_nothing_gets_lost_in_any_order(case):
    messages, batches = case
    shop = Shop()
    applied(shop, *batches)
    assert held(shop).keys() == wanted(messages).keys()
