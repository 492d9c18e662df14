"""What updates make of the rows of an image."""

from dataclasses import replace

import numpy as np
import pytest

from serve_app.catalogue.events import Change
from serve_app.catalogue.manifest import Entry, Problem
from serve_app.catalogue.plan import EmbeddedView, Planned
from serve_app.catalogue.stored_image import StoredImage
from serve_app.collection import IMAGE_FILE
from serve_app.domain import WHOLE_BOX, Box, Detection, View

ENTRY = Entry(
    2,
    "https://shop.example/1.jpg",
    "7",
    "seven",
    parent_id="p",
    title="Chair",
    titles={"de": "Stuhl"},
    category="Home/Chairs",
    price=1990,
    currency="EUR",
    in_stock=False,
    attributes={"sizes": [1, 0.5, None], "colour": "red"},
)
PLANNED = Planned(ENTRY, "aa", "recipe", updated_at=1000, phash="f0", feed="spring", duplicate_of="six")


def unit(axis):
    vector = np.zeros(256, np.float32)
    vector[axis] = 1
    return vector


def image(planned=PLANNED):
    views = {
        View.WHOLE: EmbeddedView(Detection(WHOLE_BOX), unit(0)),
        View.OBJECT: EmbeddedView(Detection(Box(0.1, 0.2, 0.5, 1 / 3), "chair", 0.9), unit(1)),
    }
    rows = {row.view: row for row in planned.rows(views)}
    return StoredImage({view: replace(row, data={**row.data, "later": {"x": 1}}) for view, row in rows.items()})


def change(at_ms=2000, **values):
    return Change(5, "7", None, values, at_ms)


def test_an_entry_is_known_by_its_rows():
    assert replace(image().entry, row=2, at_ms=None) == ENTRY
    assert Planned(image().entry, "aa", "recipe", 5, feed="spring").row_sha256 == PLANNED.row_sha256


def test_a_change_writes_what_an_import_of_the_same_would():
    found = image().changed(change(price="5", title_de="Sessel", colour=None))
    entry = replace(ENTRY, price=500, titles={"de": "Sessel"}, attributes={"sizes": [1, 0.5, None]})
    wanted = image(replace(PLANNED, entry=entry, updated_at=2000))
    for view, row in found.rows.items():
        data = {name: value for name, value in row.data.items() if name != "changed"}
        assert data == wanted.rows[view].data
        assert {n: v for n, v in row.values().items() if n not in ("data", "vector")} == {
            n: v for n, v in wanted.rows[view].values().items() if n not in ("data", "vector")
        }
        np.testing.assert_array_equal(row.vector, wanted.rows[view].vector)


def test_a_late_change_is_applied_where_no_newer_one_was():
    found = image().changed(change(3000, price="5")).changed(change(2000, price="6", in_stock=True))
    assert (found.entry.price, found.entry.in_stock, found.updated_at) == (500, True, 3000)
    assert (found.since_ms, found.times) == (1000, {"price": 3000, "in_stock": 2000})
    assert found.changed(change(1999, in_stock=False)) is None


def test_a_change_older_than_the_image_is_not_applied():
    assert image().changed(change(999, price="5")) is None


def test_what_newer_changes_said_is_kept_for_a_late_upsert():
    found = image().changed(change(3000, price=None, currency=None)).changed(change(2000, title="Seat"))
    assert found.newer_than(2500).values == {"price": None, "currency": None}
    assert found.newer_than(1500).values == {"price": None, "currency": None, "title": "Seat"}
    assert found.newer_than(3000).values == {}


def test_an_upsert_of_the_same_forgets_the_changes_before_it():
    found = image().changed(change(2000, price="5")).stamped(4000, {})
    assert (found.entry.price, found.since_ms, found.times, found.updated_at) == (500, 4000, {}, 4000)
    assert "changed" not in found.rows[View.WHOLE].data


def test_views_of_different_bytes_keep_their_hashes():
    rows = image().rows
    torn = StoredImage(rows | {View.OBJECT: replace(rows[View.OBJECT], image_sha256="bb")})
    found = torn.changed(change(price="5"))
    assert {view: row.image_sha256 for view, row in found.rows.items()} == {View.WHOLE: "aa", View.OBJECT: "bb"}
    assert len(found.row_sha256s) == 2


@pytest.mark.parametrize("values", [{"category": "x" * 600}, {"note": "y" * 70_000}, {"price": "1.999"}])
def test_what_can_not_be_stored_is_a_problem(values):
    found = image().changed(change(**values))
    assert isinstance(found, Problem)
    assert (found.row, found.product_id) == (5, "7")


def test_file_of_an_image_outlives_its_updates():
    before = image(replace(PLANNED, file="/photos/1.jpg"))
    after = before.changed(change(price="5", currency="EUR"))
    assert {row.data[IMAGE_FILE] for row in after.rows.values()} == {"/photos/1.jpg"}
    assert after.row_sha256s == {replace(PLANNED, entry=after.entry, file="/photos/1.jpg").row_sha256}
