"""A row is checked before it is written, and names say what they stand for."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app import collection
from serve_app.collection import FIELDS, HIT_FIELDS, Kind, Row
from serve_app.domain import EMBEDDING_DIM, Hit, View
from serve_app.errors import BadInput

FINGERPRINT = "0123456789ab"
NOW = datetime(2026, 11, 23, 10, 20, 30, tzinfo=UTC)
FINGERPRINTS = st.text("0123456789abcdef", min_size=12, max_size=12)
CATALOGUES = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)


def vector() -> np.ndarray[Any, np.dtype[np.float32]]:
    unit = np.zeros(EMBEDDING_DIM, np.float32)
    unit[0] = 1
    return unit


ROW = Row(
    image_id="image",
    view=View.OBJECT,
    vector=vector(),
    product_id="product",
    image_sha256="1" * 64,
    row_sha256="2" * 64,
    updated_at=1_000,
    category_root="Men",
    category="Men/Tops",
    data={"title": {"de": "Stühle"}},
)


def test_a_row_id_joins_image_and_view() -> None:
    assert (collection.row_id("a#b", View.WHOLE), ROW.row_id) == ("a#b#whole", "image#object")


def test_the_longest_image_id_still_has_a_row_id() -> None:
    row_id = next(field for field in FIELDS if field.name == "row_id")
    longest = replace(ROW, image_id="x" * collection.MAX_IMAGE_ID_BYTES)
    collection.check(longest)
    assert len(longest.row_id) == row_id.max_bytes


def test_a_row_gives_a_value_for_each_field() -> None:
    assert list(ROW.values()) == [field.name for field in FIELDS]


def test_values_are_plain_copies() -> None:
    values = ROW.values()
    assert type(values["view"]) is str
    values["data"]["title"] = None
    assert ROW.data == {"title": {"de": "Stühle"}}


def test_one_field_is_the_key_and_one_the_partition_key() -> None:
    assert [field.name for field in FIELDS if field.primary] == ["row_id"]
    assert [field.name for field in FIELDS if field.partition_key] == ["category_root"]


def test_a_row_has_about_the_size_that_it_counts() -> None:
    small, large = ROW.size_bytes, replace(ROW, data={"text": "ü" * 1_000}).size_bytes
    assert small > 4 * EMBEDDING_DIM
    assert large - small == pytest.approx(2_000, abs=50)


def test_default_image_id_is_half_a_sha256_of_product_and_image() -> None:
    expected = hashlib.sha256(b"p1\0https://shop.example/\xc3\xa4.jpg").hexdigest()[:32]
    assert collection.default_image_id("p1", "https://shop.example/ä.jpg") == expected


def test_default_image_ids_do_not_run_product_and_image_together() -> None:
    assert collection.default_image_id("ab", "c") != collection.default_image_id("a", "bc")


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("Men/Tops/Tees", "Men"),
        ("Men", "Men"),
        ("", ""),
        ("/", ""),
        (" / Men / Tops", "Men"),
        ("  Men Wear/Tops", "Men Wear"),
        ("x" * 100, "x" * 64),
        ("x" + "ü" * 40, "x" + "ü" * 31),
    ],
)
def test_category_root_is_the_first_part_of_the_path_cut_to_its_field(path: str, root: str) -> None:
    assert collection.category_root(path) == root


def test_names_of_alias_and_collection() -> None:
    assert collection.alias("shop", FINGERPRINT) == "shop_0123456789ab"
    assert collection.collection_name("shop", FINGERPRINT, NOW) == "shop_0123456789ab_20261123T102030Z"


def test_a_collection_is_named_by_utc() -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert collection.collection_name("shop", FINGERPRINT, local).endswith("_20261123T102030Z")


@given(
    CATALOGUES,
    FINGERPRINTS,
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1), timezones=st.just(UTC)),
)
def test_a_collection_name_tells_fingerprint_and_time(catalogue: str, fingerprint: str, now: datetime) -> None:
    name = collection.collection_name(catalogue, fingerprint, now)
    assert collection.parse_collection_name(catalogue, name) == (fingerprint, now.replace(microsecond=0))


@pytest.mark.parametrize(
    "name",
    [
        "shop_0123456789ab",
        "shops_0123456789ab_20261123T102030Z",
        "shop_0123456789AB_20261123T102030Z",
        "shop_0123456789ab_20261123T102030",
        "shop_0123456789ab_20261123T102030Z_old",
        "shop_x_0123456789ab_20261123T102030Z",
        "shop_0123456789ab_20261399T102030Z",
    ],
)
def test_other_names_are_no_collections_of_the_catalogue(name: str) -> None:
    assert collection.parse_collection_name("shop", name) is None


TEXT_FIELDS = [field for field in FIELDS if field.kind is Kind.VARCHAR and field.name not in {"row_id", "view"}]


@pytest.mark.parametrize("field", TEXT_FIELDS, ids=lambda field: field.name)
def test_a_text_is_bounded_in_bytes_and_named_in_the_error(field: collection.Field) -> None:
    fits: dict[str, Any] = {field.name: "ü" * (field.max_bytes // 2) + "x" * (field.max_bytes % 2)}
    collection.check(replace(ROW, **fits))
    fits[field.name] += "x"
    name = "row_id" if field.name == "image_id" else field.name
    with pytest.raises(BadInput, match=f"^{name} of .* takes [0-9]+ bytes; at most [0-9]+ are stored$"):
        collection.check(replace(ROW, **fits))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_id": ""}, "image_id is empty"),
        ({"product_id": "\ud800"}, "product_id of 'image' holds what UTF-8 or JSON can't"),
        ({"data": {"x": float("nan")}}, "data of 'image' holds what UTF-8 or JSON can't"),
        ({"data": {"x": "\ud800"}}, "data of 'image' holds what UTF-8 or JSON can't"),
        ({"data": {"x": b"bytes"}}, "data of 'image' holds what UTF-8 or JSON can't"),
        ({"data": {"x": "ü" * 40_000}}, "data of 'image' takes 80009 bytes; at most 65536 are stored"),
        ({"vector": vector()[:255]}, r"vector of image is float32 \(255,\), not float32 \(256,\)"),
        ({"vector": vector().astype(np.float64)}, "vector of image is float64"),
        ({"vector": vector() * 2}, "vector of image isn't of unit length"),
        ({"vector": vector() * 0}, "vector of image isn't of unit length"),
        ({"vector": vector() * np.float32("nan")}, "vector of image isn't of unit length"),
    ],
)
def test_what_cannot_be_stored_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        collection.check(replace(ROW, **values))


def test_a_vector_of_a_float16_model_is_near_enough_to_unit_length() -> None:
    collection.check(replace(ROW, vector=vector() * np.float32(1.001)))


def test_a_hit_holds_the_row_and_its_score() -> None:
    hit = collection.to_hit(ROW.values(), 0.5)
    assert set(HIT_FIELDS) | {"score"} == {field.name for field in fields(Hit)}
    assert (hit.row_id, hit.score, hit.view, hit.data) == ("image#object", 0.5, View.OBJECT, ROW.data)


@pytest.mark.parametrize(("distance", "score"), [(1.0000001, 1.0), (-1.0000001, -1.0), (0.25, 0.25)])
def test_a_score_stays_a_cosine(distance: float, score: float) -> None:
    assert collection.to_hit(ROW.values(), distance).score == score


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("", '""'),
        ("plain", '"plain"'),
        ('say "hi"', r'"say \"hi\""'),
        ("it's", '"it\'s"'),
        ("a\\b", r'"a\\b"'),
        ("a\nb\rc\td", r'"a\nb\rc\td"'),
        ("Stühle 椅子", '"Stühle 椅子"'),
    ],
)
def test_a_quoted_text_is_a_literal(text: str, literal: str) -> None:
    assert collection.quote(text) == literal


@given(st.text())
def test_a_quoted_text_ends_where_it_should(text: str) -> None:
    inside = collection.quote(text)[1:-1]
    assert not set(inside) & {"\n", "\r", "\t"}
    unescaped = inside.replace("\\\\", "").replace('\\"', "")
    assert '"' not in unescaped
    assert not unescaped.endswith("\\")
