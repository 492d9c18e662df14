"""What an import does for one image."""

from dataclasses import replace

import numpy as np
import pytest

from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.plan import RECIPE, Action, EmbeddedView, Planned, Recipe, decide, kept_views
from serve_app.collection import IMAGE_FILE, KnownImage, check
from serve_app.domain import WHOLE_BOX, Box, Detection, View
from serve_app.errors import BadInput

ENTRY = Entry(2, "a/1.jpg", "7", "seven", title="Chair", category="Home/Chairs", price=1990, currency="EUR")
PLANNED = Planned(ENTRY, "aa", "recipe", updated_at=1000)
RECIPE_OF_TODAY = Recipe("ff", 640, 0.25, "whole+object", 0.4)


def unit(axis):
    vector = np.zeros(256, np.float32)
    vector[axis] = 1
    return vector


VIEWS = {
    View.WHOLE: EmbeddedView(Detection(WHOLE_BOX), unit(0)),
    View.OBJECT: EmbeddedView(Detection(Box(0.1, 0.2, 0.5, 1 / 3), "chair", 0.9), unit(1)),
}


def known(planned, **changes):
    stored = KnownImage(planned.image_sha256, planned.row_sha256, "Home", 500, frozenset({"whole", "object"}))
    return replace(stored, **changes)


def changed(**values):
    return replace(PLANNED, entry=replace(ENTRY, **values))


def stored(planned, views=VIEWS):
    """Return rows as Milvus gives them."""
    return {row.view: row.values() | {"vector": row.vector.tolist()} for row in planned.rows(views)}


def test_an_unknown_image_is_embedded():
    assert decide(PLANNED, None) is Action.EMBED


def test_a_stored_image_is_left_alone_even_by_an_older_event():
    assert decide(PLANNED, known(PLANNED)) is Action.UNCHANGED
    assert decide(PLANNED, known(PLANNED, updated_at=2000)) is Action.UNCHANGED


@pytest.mark.parametrize(
    "values", [{"price": 1}, {"title": "x"}, {"category": "x"}, {"in_stock": False}, {"attributes": {"a": [1]}}]
)
def test_other_metadata_of_the_same_image_needs_no_model(values):
    assert decide(changed(**values), known(PLANNED)) is Action.METADATA


def test_other_bytes_are_embedded():
    assert decide(replace(PLANNED, image_sha256="bb"), known(PLANNED)) is Action.EMBED


def test_an_older_event_does_not_overwrite_a_newer():
    assert decide(changed(price=1), known(PLANNED, updated_at=2000)) is Action.STALE


def test_hash_of_a_row_does_not_depend_on_time_or_place():
    moved = replace(PLANNED, entry=replace(ENTRY, row=9, image="b/2.jpg"), updated_at=5)
    assert moved.row_sha256 == PLANNED.row_sha256


@pytest.mark.parametrize("setting", [{"detector_sha256": "ee"}, {"views": "whole"}, {"min_confidence": 0.5}])
def test_another_way_to_choose_views_changes_the_hash(setting):
    other = replace(PLANNED, recipe=replace(RECIPE_OF_TODAY, **setting).digest)
    assert other.row_sha256 != replace(PLANNED, recipe=RECIPE_OF_TODAY.digest).row_sha256


def test_rows_hold_what_searches_show():
    rows = {row.view: row for row in PLANNED.rows(VIEWS)}
    for row in rows.values():
        check(row)
    whole, boxed = rows[View.WHOLE], rows[View.OBJECT]
    assert whole.data == {"title": "Chair", "titles": {}, "image_url": None, "attributes": {}, RECIPE: "recipe"}
    assert boxed.data == whole.data | {"box": [0.1, 0.2, 0.5, 0.333333], "label": "chair"}
    assert (whole.category_root, whole.price, whole.updated_at) == ("Home", 1990, 1000)


def test_kept_views_are_written_with_the_same_vectors_and_boxes():
    after = changed(price=1)
    again = {row.view: row for row in after.rows(kept_views(after, stored(PLANNED)))}
    assert again[View.OBJECT].data == stored(PLANNED)[View.OBJECT]["data"]
    np.testing.assert_array_equal(again[View.OBJECT].vector, unit(1))
    assert again[View.WHOLE].price == 1


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {View.OBJECT: stored(PLANNED)[View.OBJECT]},
        stored(PLANNED) | {View.OBJECT: stored(replace(PLANNED, image_sha256="bb"))[View.OBJECT]},
        stored(replace(PLANNED, recipe="older")),
    ],
    ids=["nothing", "no whole", "a view of other bytes", "another recipe"],
)
def test_views_that_do_not_fit_are_not_kept(rows):
    assert kept_views(PLANNED, rows) is None


@pytest.mark.parametrize(
    "values",
    [
        {"image_id": "x" * 200},
        {"category": "x" * 600},
        {"attributes": {"x": "y" * 70_000}},
        {"attributes": {"x": float("nan")}},
    ],
)
def test_what_the_index_cannot_store_is_found_before_a_model_is_asked(values):
    with pytest.raises(BadInput):
        changed(**values).check()


def test_file_of_an_image_is_known_by_its_rows_and_a_moved_one_needs_no_model():
    there, moved = (replace(PLANNED, file=f"/{folder}/1.jpg") for folder in ("old", "new"))
    assert [row.data[IMAGE_FILE] for row in there.rows(VIEWS)] == ["/old/1.jpg", "/old/1.jpg"]
    assert decide(moved, known(there)) is Action.METADATA
    assert decide(there, known(PLANNED)) is Action.METADATA
    assert decide(there, known(there)) is Action.UNCHANGED
