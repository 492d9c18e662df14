"""Counts over a ranking, as filters would let through."""

import re
from dataclasses import replace
from datetime import date
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from serve_app.api.examples import ANSWER
from serve_app.api.parameters import FACET
from serve_app.facets import MOST_VALUES, PRICE_RANGES, facets
from serve_app.filters import Filter, matches
from serve_app.languages import reader
from serve_app.market import Market
from serve_app.objects import Focus
from serve_app.pipeline import MAX_RANKED, Query
from serve_app.rates import NO_RATES, Rate
from tests.unit.builders import hit
from tests.unit.test_paging import Catalogue, Shop

EUR = Market(reader("en"))
RATES = NO_RATES.updated([Rate("USD", Fraction("1.25"), date(2026, 10, 30), "test")])


def product(number, category="", price=-1, currency="EUR", **attributes):
    found = hit(f"p{number}", 0.5, attributes=attributes)
    return replace(found, category=category, price=price, currency=currency if price >= 0 else "")


def counted(hits, *names, market=EUR):
    return facets(hits, names, market, whole=True)


def test_category_counts_with_all_above_it():
    hits = [product(1, "Men/Tops/Tees"), product(2, "Men/Tops"), product(3, "Women"), product(4)]
    found = counted(hits, "category").category
    assert [(each.value, each.count) for each in found] == [
        ("Men", 2),
        ("Men/Tops", 2),
        ("Men/Tops/Tees", 1),
        ("Women", 1),
    ]


def test_category_is_shown_in_the_readers_language():
    hits = [product(1, "Men/Tops", category_de="Herren/Oberteile"), product(2, "Women", category_de="Alle/Damen")]
    found = counted(hits, "category", market=Market(reader("de"))).category
    assert {each.value: each.shown for each in found} == {
        "Men": "Herren",
        "Men/Tops": "Herren/Oberteile",
        "Women": "Women",
    }


def test_attribute_counts_once_a_product_alone_or_in_a_list():
    hits = [product(1, size=["S", "M", "S"]), product(2, size="S"), product(3, size=["L", None, {"a": 1}]), product(4)]
    ((name, found),) = counted(hits, "attr.size").attributes
    assert (name, [(each.value, each.count) for each in found]) == ("size", [("S", 2), ("L", 1), ("M", 1)])


def test_truth_and_text_and_number_are_other_values():
    ((_, found),) = counted([product(n, v=v) for n, v in enumerate([1, 1.0, True, "1"])], "attr.v").attributes
    assert sorted((each.count, repr(each.value)) for each in found) == [(1, "'1'"), (1, "True"), (2, "1")]


def test_most_frequent_values_are_kept_and_none_that_no_filter_takes():
    hits = [product(n, v=[str(n), "common", "x" * 1000]) for n in range(2 * MOST_VALUES)]
    ((_, found),) = counted(hits, "attr.v").attributes
    assert (len(found), found[0].value, found[0].count) == (MOST_VALUES, "common", 2 * MOST_VALUES)
    assert all(each.value != "x" * 1000 for each in found)


def test_prices_are_counted_as_they_are_shown():
    hits = [product(1, price=1000), product(2, price=1250, currency="USD"), product(3, price=5000), product(4)]
    found = counted(hits, "price", market=Market(reader("en"), "USD", RATES))
    assert (found.currency, sum(each.count for each in found.price)) == ("USD", 3)
    assert (found.price[0].low, found.price[-1].high) == ("12.50", "62.50")


def test_prices_are_in_the_most_frequent_currency_where_none_is_asked_for():
    hits = [product(1, price=1000), product(2, price=700, currency="USD"), product(3, price=2000)]
    found = counted(hits, "price")
    assert (found.currency, sum(each.count for each in found.price)) == ("EUR", 2)


def test_nothing_to_count_is_no_error():
    found = counted([], "price", "category", "attr.size")
    assert (found.products, found.price, found.currency, found.category) == (0, (), None, ())
    assert counted([product(1)]).category is None
    assert counted([product(1)]).price is None


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_every_price_is_in_one_range_and_ranges_are_few(minors):
    hits = [product(number, price=minor) for number, minor in enumerate(minors)]
    found = counted(hits, "price").price
    assert sum(each.count for each in found) == len(minors)
    assert 1 <= len(found) <= PRICE_RANGES
    for each in found:
        low, high = (int(float(amount) * 100 + 0.5) for amount in (each.low, each.high))
        asked = Filter(price_min=low, price_max=high, currency="EUR")
        assert sum(matches(asked, one) for one in hits) == each.count


@given(st.lists(st.lists(st.sampled_from("ABC"), max_size=3).map("/".join), max_size=30))
def test_category_counts_what_its_filter_lets_through(paths):
    hits = [product(number, path) for number, path in enumerate(paths)]
    for each in counted(hits, "category").category:
        assert each.count == sum(matches(Filter(categories=(each.value,)), one) for one in hits)


async def test_counts_are_over_the_whole_ranking_and_pages_go_on():
    shop = Shop(Catalogue(MAX_RANKED + 50))
    first = await shop.first(Query(top_k=10, focus=Focus(0), facets=("category",)))
    (entry,) = first.lists
    assert (len(entry.products), len(entry.fixed.hits), shop.catalogue.searches[0][0]) == (
        10,
        MAX_RANKED,
        2 * MAX_RANKED,
    )
    page = await shop.page(entry.next)
    assert (len(page.lists[0].products), page.lists[0].fixed, len(shop.catalogue.searches)) == (10, None, 1)


def test_example_asks_for_names_that_there_are():
    assert all(re.match(FACET, name) for name in ("category", "price", "attr.colour"))
    assert not any(re.match(FACET, name) for name in ("", "attr.", "colour", "prices"))
    assert ANSWER["objects"][0]["facets"]["whole"]
