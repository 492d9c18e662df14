"""What events of a feed ask for."""

import json

import pytest

from serve_app.catalogue.events import MOST_AHEAD_MS, Change, Delete, Message, Upsert, apply, parse
from serve_app.catalogue.manifest import Entry, Problem

NOW_MS = 1_795_514_400_000  # 2026-11-24T10:00:00Z
CHAIR = Entry(
    2, "", "7", "seven", title="Chair", titles={"de": "Stuhl"}, category="Home", price=1990, currency="EUR", at_ms=5
)


def parsed(text="", *, row=3, at_ms=None, **values):
    data = text or json.dumps({"at": NOW_MS} | values)
    return parse(Message(row, data.encode() if isinstance(data, str) else data, at_ms), NOW_MS)


def change(**values):
    found = parsed(event="update", product_id="7", **values)
    assert isinstance(found, Change), found
    return found


def test_an_upsert_is_a_row_of_a_manifest():
    found = parsed(image="1.jpg", product_id=7, title_de="Stuhl", price=19.9, currency="EUR", colour="red")
    assert isinstance(found, Upsert)
    assert found.at_ms == found.entry.at_ms == NOW_MS
    assert (found.entry.row, found.entry.product_id, found.entry.title, found.entry.price) == (3, "7", "Stuhl", 1990)
    assert found.entry.attributes == {"colour": "red"}


@pytest.mark.parametrize(
    "at", ["2026-11-24T10:00:00Z", "2026-11-24T11:00:00+01:00", "2026-11-24 10:00:00.000Z", NOW_MS, float(NOW_MS)]
)
def test_a_time_is_written_in_several_ways(at):
    assert parsed(event="delete", image_id="seven", at=at) == Delete(3, None, "seven", NOW_MS)


@pytest.mark.parametrize(("sent", "at_ms"), [(None, NOW_MS), (NOW_MS - 7, NOW_MS - 7)])
def test_an_event_without_a_time_is_of_when_it_came(sent, at_ms):
    found = parsed('{"event": "delete", "product_id": 7}', at_ms=sent)
    assert found == Delete(3, "7", None, at_ms)


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (NOW_MS + MOST_AHEAD_MS + 1, "whose clock"),
        ("2026-11-24T10:00:00", "time zone"),
        ("yesterday", "write it like"),
        (NOW_MS // 1000, "milliseconds"),
        (NOW_MS + 0.5, "milliseconds"),
        (True, "write it like"),
        ([], "write it like"),
    ],
)
def test_a_time_that_can_not_be_is_refused(at, says):
    found = parsed(event="delete", image_id="seven", at=at)
    assert isinstance(found, Problem)
    assert found.code == "bad_time"
    assert says in found.reason


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("{", "bad_event", "no JSON"),
        ("[]", "bad_event", "no JSON object"),
        ("[" * 100_000, "bad_event", "no JSON"),
        (b"\xff", "bad_event", "no JSON"),
        ('{"product_id": "7", "x": NaN}', "bad_event", "no JSON value"),
        ('{"event": "drop", "product_id": "7"}', "bad_event", "none of upsert, update and delete"),
        ('{"product_id": "7"}', "bad_row", "image is missing"),
        ('{"image": "1.jpg", "product_id": "7", "price": 1}', "bad_price", "currency"),
        ('{"event": "delete"}', "bad_event", "either product_id or image_id"),
        ('{"event": "delete", "product_id": "7", "image_id": "1"}', "bad_event", "either product_id or image_id"),
        ('{"event": "delete", "product_id": {}}', "bad_row", "not a text"),
        ('{"event": "update", "product_id": "7"}', "bad_event", "nothing to change"),
        ('{"event": "update", "product_id": "7", "image": "2.jpg"}', "bad_event", "upsert"),
        ('{"event": "update", "product_id": "7", "in_stock": null}', "bad_in_stock", "can't be removed"),
        ('{"event": "update", "product_id": "7", "in_stock": "some"}', "bad_in_stock", "true or false"),
        ('{"event": "update", "product_id": "7", "currency": "EUR"}', "bad_price", "name both"),
        ('{"event": "update", "product_id": "7", "price": "dear"}', "bad_price", "no number"),
        ('{"event": "update", "product_id": "7", "price": 1, "currency": "BUCKS"}', "bad_price", "no currency"),
        ('{"event": "update", "product_id": "7", "x": "\\ud800"}', "bad_row", "UTF-8"),
    ],
)
def test_a_bad_event_is_refused_with_its_reason(text, code, says):
    found = parsed(text)
    assert isinstance(found, Problem), found
    assert (found.row, found.code) == (3, code)
    assert says in found.reason


def test_what_is_too_long_to_be_read_is_refused():
    found = parse(Message(9, b"", fault="too long"), NOW_MS)
    assert isinstance(found, Problem)
    assert (found.row, found.reason) == (9, "too long")


def test_what_can_not_be_read_is_kept_as_it_came():
    found = parse(Message(1, b'{"event": \xff'), NOW_MS)
    assert isinstance(found, Problem)
    assert found.columns["text"] == '{"event": \ufffd'


def test_a_refused_event_can_be_sent_again():
    found = parsed('{"image": "1.jpg", "product_id": "7", "price": 1.5}', at_ms=NOW_MS - 1)
    assert isinstance(found, Problem)
    assert found.columns == {"image": "1.jpg", "product_id": "7", "price": 1.5, "at": NOW_MS - 1}


def test_an_event_that_was_understood_can_be_sent_again():
    for found in (
        parsed(image="1.jpg", product_id="7", price="19.90", currency="EUR"),
        change(price="19.90", currency="EUR", title_pt_BR="Cadeira", colour=None),
        parsed(event="delete", product_id="7"),
    ):
        assert parsed(json.dumps(found.columns())) == found


@pytest.mark.parametrize(
    ("values", "becomes"),
    [
        ({"price": 24.5}, {"price": 2450}),
        ({"price": "1500", "currency": "JPY"}, {"price": 1500, "currency": "JPY"}),
        ({"price": None}, {"price": -1}),
        ({"price": None, "currency": None}, {"price": -1, "currency": ""}),
        ({"in_stock": False}, {"in_stock": False}),
        ({"in_stock": "no"}, {"in_stock": False}),
        ({"category": " Home / Chairs "}, {"category": "Home/Chairs"}),
        ({"category": None}, {"category": ""}),
        ({"parent_id": 5}, {"parent_id": "5"}),
        ({"title": "Seat"}, {"title": "Seat"}),
        ({"title": ""}, {"title": "Stuhl"}),
        ({"title_pt_BR": "Cadeira"}, {"titles": {"de": "Stuhl", "pt-BR": "Cadeira"}}),
        ({"title_de": None}, {"titles": {}}),
        ({"sizes": [0.5, {"eu": 1}]}, {"attributes": {"sizes": [0.5, {"eu": 1}]}}),
    ],
)
def test_an_update_changes_what_it_names(values, becomes):
    found = apply(change(**values), CHAIR)
    assert isinstance(found, Entry), found
    assert {name: getattr(found, name) for name in becomes} == becomes
    untouched = {"row", "image", "product_id", "image_id", "at_ms", "title", "category", "price"} - set(becomes)
    assert {name: getattr(found, name) for name in untouched} == {name: getattr(CHAIR, name) for name in untouched}


def test_attributes_come_and_go():
    red = apply(change(colour="red", size=4), CHAIR)
    assert red.attributes == {"colour": "red", "size": 4}
    assert apply(change(colour=None), red).attributes == {"size": 4}


def test_a_title_that_was_taken_from_a_language_follows_it():
    taken = parsed(image="1.jpg", product_id="7", title_de="Stuhl").entry
    assert apply(change(title_de="Sessel"), taken).title == "Sessel"
    assert apply(change(title_de="Sessel"), CHAIR).title == "Chair"


def test_a_change_that_does_not_fit_is_a_problem():
    asked = change(price="19.999")
    found = apply(asked, CHAIR)
    assert isinstance(found, Problem)
    assert (found.row, found.code, found.columns) == (3, "bad_price", asked.columns())
    assert "decimals of EUR" in found.reason


def test_a_price_needs_a_currency_of_the_product_or_its_own():
    bare = parsed(image="1.jpg", product_id="7").entry
    assert isinstance(apply(change(price=5), bare), Problem)
    assert apply(change(price=5, currency="EUR"), bare).price == 500
