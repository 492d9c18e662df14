"""Filters refuse what can't be looked for, and print the rest."""

from typing import Any

import pytest

from serve_app.errors import BadParameter
from serve_app.filters import NO_FILTER, Filter, expression, matches
from serve_app.money import PriceRange


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"categories": ("",)}, "category is empty"),
        ({"categories": (" / ",)}, "category is empty"),
        ({"categories": ("a\0b",)}, "no NUL"),
        ({"categories": ("x" * 513,)}, "513 bytes"),
        ({"categories": ("\ud800",)}, "half of a character"),
        ({"categories": ("a",) * 101}, "101 categories are too many"),
        ({"price_min": 1}, "need a currency"),
        ({"price_min": -1, "currency": "EUR"}, "a price lies in"),
        ({"price_max": 2**63, "currency": "EUR"}, "a price lies in"),
        ({"price_min": 2, "price_max": 1, "currency": "EUR"}, "above price_max"),
        ({"prices": (PriceRange("EUR", 2, 1),)}, "goes up"),
        ({"prices": (PriceRange("EUR", -1),)}, "goes up"),
        ({"prices": (PriceRange("EUR", 0, 2**63),)}, "goes up"),
        ({"prices": (PriceRange("EUR"),) * 101}, "101 currencies are too many"),
        ({"attributes": (('a"b', ("x",)),)}, "can't be filtered by"),
        ({"attributes": (("", ("x",)),)}, "can't be filtered by"),
        ({"attributes": (("a", ()),)}, "no value"),
        ({"attributes": (("a", (float("nan"),)),)}, "no finite number"),
        ({"attributes": (("a", (2**63,)),)}, "too large"),
    ],
)
def test_what_no_engine_can_look_for_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        Filter(**values)


def test_no_filter_is_an_empty_expression() -> None:
    assert not NO_FILTER
    assert expression(NO_FILTER) == ""


def test_partitions_are_named_only_where_rows_lie_in_their_own() -> None:
    wanted = Filter(categories=("Men/Tops", "Women"))
    assert "category_root" not in expression(wanted)
    assert expression(wanted, prune=True).startswith('(category_root in ["Men", "Women"])')


def test_a_text_can_not_leave_its_literal() -> None:
    assert expression(Filter(attributes=(("a", ('" or true or "',)),))).count(r"\"") == 4


def test_prices_of_several_currencies_are_one_expression() -> None:
    wanted = Filter(prices=(PriceRange("EUR", 100, 200), PriceRange("JPY", 17)))
    text = '((currency == "EUR" and price >= 100 and price <= 200) or (currency == "JPY" and price >= 17))'
    assert expression(wanted) == text


def values(**changed: Any) -> dict[str, Any]:
    return {"category": "Men/Tops", "price": 1990, "currency": "EUR", "in_stock": True, "data": {}} | changed


@pytest.mark.parametrize(
    ("wanted", "row", "passes"),
    [
        (NO_FILTER, values(), True),
        (Filter(categories=("Men",)), values(), True),
        (Filter(categories=("Men/",)), values(), True),
        (Filter(categories=("Me",)), values(), False),
        (Filter(categories=("Men/Tops/Tees",)), values(), False),
        (Filter(categories=("Women", "Men")), values(), True),
        (Filter(price_max=2000, currency="EUR"), values(price=-1), False),
        (Filter(price_max=1990, currency="EUR"), values(), True),
        (Filter(price_max=2000, currency="USD"), values(), False),
        (Filter(currency="EUR"), values(price=-1), True),
        (Filter(prices=(PriceRange("USD", 2100), PriceRange("EUR", 1900, 1990))), values(), True),
        (Filter(prices=(PriceRange("USD", 0), PriceRange("EUR", 1991))), values(), False),
        (Filter(prices=(PriceRange("USD", 0),)), values(), False),
        (Filter(prices=(PriceRange("EUR", 0),)), values(price=-1), False),
        (Filter(in_stock=False), values(), False),
        (Filter(attributes=(("size", ("16",)),)), values(data={"attributes": {"size": 16}}), False),
        (Filter(attributes=(("size", ("16", 16)),)), values(data={"attributes": {"size": 16}}), True),
        (Filter(attributes=(("size", (1,)),)), values(data={"attributes": {"size": True}}), False),
        (Filter(attributes=(("size", ("S",)),)), values(data={"attributes": {"size": ["M", "S"]}}), True),
        (Filter(attributes=(("size", ("S",)),)), values(data={"attributes": None}), False),
        (Filter(but_product="7"), values(product_id="7"), False),
        (Filter(but_product="7"), values(product_id="8"), True),
        (Filter(but_parent="style"), values(parent_id="style"), False),
        (Filter(but_parent="style"), values(parent_id=""), True),
    ],
)
def test_rows_are_judged(wanted: Filter, row: dict[str, Any], passes: bool) -> None:
    assert matches(wanted, row) is passes
