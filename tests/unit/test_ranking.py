from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import Hit
from serve_app.ranking import Sort, cut_off, final_part, group, needs_more, sort
from tests.unit.builders import hit


def test_product_stands_once_by_its_best_image():
    page = group([hit("a", 0.5, "a1"), hit("b", 0.8), hit("a", 0.9, "a2")])
    assert [(h.product_id, h.image_id) for h in page] == [("a", "a2"), ("b", "b-0.8")]


def test_equal_scores_keep_one_order():
    assert group([hit("b", 0.5), hit("a", 0.5)]) == group([hit("a", 0.5), hit("b", 0.5)])


def test_products_below_the_asked_score_are_left_out():
    assert group([hit("a", 0.49), hit("b", 0.5)], min_score=0.5) == [hit("b", 0.5)]


def test_page_short_of_products_needs_more_rows():
    hits = [hit("a", 0.9, "1"), hit("a", 0.8, "2")]
    assert needs_more(group(hits), cut_off([hits], asked=2, min_score=None), 2)


def test_short_page_is_final_when_the_index_has_no_more():
    hits = [hit("a", 0.9)]
    assert not needs_more(group(hits), cut_off([hits], asked=2, min_score=None), 2)


def test_short_page_is_final_when_what_follows_scores_too_low():
    hits = [hit("a", 0.9, "1"), hit("a", 0.4, "2")]
    assert not needs_more(group(hits, min_score=0.5), cut_off([hits], asked=2, min_score=0.5), 2)


def test_full_page_is_not_final_while_unseen_rows_could_beat_it():
    crop = [hit("a", 0.9, "1"), hit("a", 0.8, "2")]
    whole = [hit("b", 0.3), hit("c", 0.2)]
    assert needs_more(group([*crop, *whole]), cut_off([crop, whole], asked=2, min_score=None), 2)


def test_products_that_unseen_rows_could_come_before_are_not_final():
    page = [hit("a", 0.9), hit("b", 0.8), hit("c", 0.7), hit("d", 0.6)]
    assert final_part(page, 0.7, 1) == page[:3]
    assert final_part(page, 0.65, 1) == page[:3]
    assert final_part(page, 0.95, 2) == page[:2]
    assert final_part(page, None, 1) == page


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(-1, 1)), max_size=40))
def test_grouping_keeps_each_product_with_its_best_score(rows):
    page = group(hit(product, score, str(i)) for i, (product, score) in enumerate(rows))
    assert {h.product_id: h.score for h in page} == {p: max(s for q, s in rows if q == p) for p, _ in rows}
    assert [h.score for h in page] == sorted((h.score for h in page), reverse=True)


def priced(product: str, score: float, price: int, currency: str = "EUR") -> Hit:
    return replace(hit(product, score), price=price, currency=currency)


def of_parent(product: str, score: float, parent: str) -> Hit:
    return replace(hit(product, score), parent_id=parent)


def names(page: list[Hit]) -> str:
    return "".join(each.product_id for each in page)


def test_products_of_one_parent_are_one_where_that_is_asked_for():
    hits = [of_parent("a", 0.9, "s"), of_parent("b", 0.8, "s"), of_parent("c", 0.7, ""), of_parent("d", 0.6, "")]
    assert names(group(hits, by_parent=True)) == "acd"
    assert names(group(hits)) == "abcd"


def test_parent_is_not_mistaken_for_a_product_of_the_same_name():
    assert names(group([of_parent("a", 0.9, "b"), of_parent("b", 0.8, "")], by_parent=True)) == "ab"


@pytest.mark.parametrize(
    ("order", "expected"), [(Sort.PRICE_ASC, "cabed"), (Sort.PRICE_DESC, "bacde"), (Sort.SIMILARITY, "abcde")]
)
def test_products_are_sorted_by_price_among_the_equally_similar(order, expected):
    page = [
        priced("a", 0.9, 200),
        priced("b", 0.85, 300),
        priced("c", 0.8, 100),
        priced("d", 0.79, 50),
        priced("e", 0.7, 10),
    ]
    assert names(sort(page, order, band=0.1)) == expected


def test_products_without_a_price_in_the_currency_end_their_band():
    page = [priced("a", 0.9, -1, ""), priced("b", 0.9, 1, "JPY"), priced("c", 0.9, 300), priced("d", 0.9, 200)]
    assert names(sort(page, Sort.PRICE_ASC, band=0.1)) == "dcab"
    assert names(sort(page, Sort.PRICE_DESC, band=0.1)) == "cdab"
    assert names(sort(page, Sort.PRICE_ASC, band=0.1, currency="JPY")) == "bacd"


WORTHS = {"EUR": 0.01, "USD": 0.008, "JPY": 0.00625}


def test_prices_of_several_currencies_are_sorted_by_what_they_are_worth():
    page = [
        priced("a", 0.9, 2000),
        priced("b", 0.9, 1, "KRW"),
        priced("c", 0.9, 2300, "USD"),
        priced("d", 0.9, -1, "EUR"),
        priced("e", 0.9, 3000, "JPY"),
    ]
    assert names(sort(page, Sort.PRICE_ASC, band=0.1, currency="EUR", worths=WORTHS)) == "ceabd"
    assert names(sort(page, Sort.PRICE_DESC, band=0.1, worths=WORTHS)) == "aecbd"


def test_a_currency_without_a_rate_is_sorted_alone():
    page = [priced("a", 0.9, 1), priced("b", 0.9, 900, "KRW"), priced("c", 0.9, 800, "KRW")]
    assert names(sort(page, Sort.PRICE_ASC, band=0.1, currency="KRW", worths=WORTHS)) == "cba"
    assert names(sort(page, Sort.PRICE_ASC, band=0.1, worths=WORTHS)) == "cba"


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(-1, 9)), max_size=30), st.floats(0, 2), st.sampled_from(Sort))
def test_sorting_loses_nothing_and_never_crosses_a_band(rows, band, order):
    page = group(priced(f"p{i}", score, price) for i, (score, price) in enumerate(rows))
    done = sort(page, order, band=band)
    assert sorted(names([each]) for each in done) == sorted(names([each]) for each in page)
    assert all(after.score <= before.score + band for before, after in pairwise(done))
