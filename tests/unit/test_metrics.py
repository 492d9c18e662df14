import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.evaluation.metrics import average_precision, ndcg, recall, share_found

LISTS = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=10)
RIGHT = st.sets(st.sampled_from("abcdefghij"), min_size=1, max_size=4)


@pytest.mark.parametrize(("k", "found"), [(1, 0), (2, 0), (3, 1), (10, 1)])
def test_recall_asks_whether_the_right_product_is_among_the_first(k, found):
    assert recall(["x", "y", "right"], ["right"], k) == found


def test_recall_is_met_by_any_right_product():
    assert recall(["b"], ["a", "b"], 1) == 1


def test_share_found_counts_each_right_product_once_over_all_lists():
    assert share_found([["a", "x"], ["x", "a", "b"]], ["a", "b", "c"], 2) == pytest.approx(1 / 3)
    assert share_found([["a", "x"], ["x", "a", "b"]], ["a", "b", "c"], 3) == pytest.approx(2 / 3)


def test_average_precision_of_one_right_product_is_one_over_its_rank():
    assert average_precision(["x", "y", "z", "right"], ["right"], 10) == 1 / 4


def test_average_precision_by_hand():
    # Right in places 1 and 3 of five: precisions 1/1 and 2/3, over two right products.
    assert average_precision(["a", "x", "b", "y", "z"], ["a", "b"], 10) == pytest.approx((1 + 2 / 3) / 2)


def test_average_precision_of_more_right_products_than_places_can_be_full():
    assert average_precision(["a", "b"], ["a", "b", "c"], 2) == 1


def test_average_precision_misses_what_is_beyond_k():
    assert average_precision(["x", "a"], ["a"], 1) == 0


def test_ndcg_by_hand():
    # The style in another colour first, the product itself third; best would be 3, 1.
    gained = 1 / math.log2(2) + 3 / math.log2(4)
    best = 3 / math.log2(2) + 1 / math.log2(3)
    assert ndcg(["other colour", "x", "same"], {"same": 3, "other colour": 1}, 10) == pytest.approx(gained / best)


def test_ndcg_where_nothing_is_worth_anything_is_zero():
    assert ndcg(["a"], {}, 10) == 0


@given(LISTS, RIGHT, st.integers(1, 10))
def test_average_precision_is_what_its_definition_counts(products, right, k):
    found = [sum(p in right for p in products[: i + 1]) / (i + 1) for i, p in enumerate(products[:k]) if p in right]
    assert average_precision(products, right, k) == pytest.approx(sum(found) / min(k, len(right)))


@given(st.dictionaries(st.sampled_from("abcd"), st.sampled_from([1, 3]), min_size=1), st.integers(1, 4))
def test_no_order_has_a_greater_ndcg_than_that_by_grade(grades, k):
    by_grade = sorted("abcd", key=lambda product: -grades.get(product, 0))
    assert ndcg(by_grade, grades, k) == pytest.approx(1)
    assert all(ndcg(order, grades, k) <= 1 + 1e-9 for order in permutations("abcd"))
