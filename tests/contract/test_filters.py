"""A filter finds the same rows on every engine as its own evaluator says."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.collection import NO_PRICE, Row, category_root
from serve_app.filters import Filter, Scalar, expression, matches
from serve_app.milvus import indexing
from serve_app.money import PriceRange
from tests.contract.engines import Index, settle
from tests.contract.rows import row

SEED = 20_261_123
PARTS = [
    "Men",
    "Me",
    "Men0",
    "Tops",
    "Tops & Tees",
    "Frauen",
    "Größe",
    "椅子",
    'a"b',
    "a\\b",
    "50%_off",
    "🪑",
    "a.b",
    "(x)",
]
CURRENCIES = ["", "EUR", "JPY"]
NAMES = ["colour", "größe", "a b", "a.b", "0", "size-eu", "$x", "色"]
VALUES: list[Any] = [
    "red",
    "Red",
    "",
    "16",
    16,
    16.0,
    16.5,
    True,
    False,
    "true",
    'q"\\',
    "椅🪑",
    -3,
    ["red", "16"],
    [16, True],
]


def rows() -> list[Row]:
    draw = random.Random(SEED)
    made = []
    for number in range(150):
        category = "/".join(draw.choices(PARTS, k=draw.randint(0, 3)))
        attributes = {name: draw.choice(VALUES) for name in draw.sample(NAMES, k=draw.randint(0, len(NAMES)))}
        currency = draw.choice(CURRENCIES)
        made.append(
            row(
                f"filtered-{number}",
                category=category,
                category_root=category_root(category),
                currency=currency,
                price=draw.choice([0, 1, 1990, 2000, 10**15]) if currency else NO_PRICE,
                in_stock=draw.random() < 0.5,
                parent_id='style "a\\b"' if number % 3 == 0 else "",
                data={"attributes": attributes} if number % 7 else {},
            )
        )
    return made


ROWS = rows()
SCALARS: list[Scalar] = [value for value in VALUES if not isinstance(value, list)]
RANGES = st.builds(
    lambda currency, low, more: PriceRange(currency, low, None if more is None else low + more),
    st.sampled_from(["EUR", "JPY", "USD"]),
    st.sampled_from([0, 1, 1990, 1991, 10**15]),
    st.sampled_from([None, 0, 10, 10**12]),
)
PRICES = st.sampled_from([None, 0, 1, 2, 1990, 1999, 10**15, 2**63 - 1])


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    categories = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("/".join)
    low, high = draw(PRICES), draw(PRICES)
    if low is not None and high is not None and low > high:
        low, high = high, low
    attributes = st.tuples(
        st.sampled_from(NAMES), st.lists(st.sampled_from(SCALARS), min_size=1, max_size=3, unique=True).map(tuple)
    )
    return Filter(
        categories=tuple(draw(st.lists(categories, max_size=2))),
        price_min=low,
        price_max=high,
        currency=draw(st.sampled_from(["EUR", "JPY"])) if low is not None or high is not None else None,
        prices=tuple(draw(st.lists(RANGES, max_size=3))),
        in_stock=draw(st.sampled_from([None, True, False])),
        attributes=tuple(draw(st.lists(attributes, max_size=2))),
        but_product=draw(st.sampled_from(["", *(f"product of filtered-{number}" for number in range(5))])),
        but_parent=draw(st.sampled_from(["", 'style "a\\b"', "nobody's"])),
    )


@pytest.fixture(scope="module")
def filled(index: Index) -> Index:
    index.writer().write(ROWS)
    settle(index.engine)
    return index


def found(index: Index, wanted: Filter) -> list[str]:
    text = expression(wanted, prune=indexing.prunes(index.client, index.alias))
    rows = index.client.query(index.alias, filter=text, output_fields=["image_id"], limit=1_000)
    return sorted(hit["image_id"] for hit in rows)


@given(wanted=filters())
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_engine_and_the_evaluator_agree(filled: Index, wanted: Filter) -> None:
    assert found(filled, wanted) == sorted(row.image_id for row in ROWS if matches(wanted, row.values()))


def test_all_but_one_product_and_its_parent_are_found(filled: Index) -> None:
    found_ids = found(filled, Filter(but_product=ROWS[1].product_id, but_parent=ROWS[0].parent_id))
    assert found_ids == sorted(row.image_id for number, row in enumerate(ROWS) if number != 1 and number % 3)


@pytest.mark.parametrize("part", PARTS)
def test_a_category_finds_itself_and_all_below(filled: Index, part: str) -> None:
    expected = sorted(row.image_id for row in ROWS if row.category.split("/")[0] == part)
    assert expected
    assert found(filled, Filter(categories=(part,))) == expected


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_an_attribute_finds_its_value_alone_or_in_a_list(filled: Index, value: Scalar) -> None:
    wanted = Filter(attributes=(("colour", (value,)),))
    expected = sorted(row.image_id for row in ROWS if matches(wanted, row.values()))
    assert expected
    assert found(filled, wanted) == expected
