from hypothesis import given
from hypothesis import strategies as st

from serve_app.ranking import cut_off, final_part, group, needs_more
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
