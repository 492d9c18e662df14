import math

import pytest

from serve_app.catalogue.manifest import Entry
from serve_app.domain import WHOLE_BOX, Box
from serve_app.errors import BadInput
from serve_app.evaluation.answers import Answered, Listed, Product, Question, Run
from serve_app.evaluation.figures import ANY, MAIN, MERGED, OWN_BOX, WHOLE, category_rows, compared, overlap, rows
from serve_app.evaluation.gallery import Gallery

LEFT, RIGHT = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)
GALLERY = Gallery(
    [Entry(0, f"{name}.jpg", name, name, category=f"Men/{name}/deep", parent_id="s") for name in "abcd"], ""
)


def listed(box: Box, ids: str, *, main: bool = False, top: float = 0.9) -> Listed:
    products = tuple(Product(name, f"{name}-image", top - place / 10) for place, name in enumerate(ids))
    return Listed(box, main, box == WHOLE_BOX, products)


def plain(image: str, right: str, main: str, whole: str, line: str = "as they are") -> Answered:
    question = Question(image, "", (right,), line=line, category=GALLERY.category(right))
    return Answered(question, (listed(LEFT, main, main=True), listed(WHOLE_BOX, whole)))


def scene(image: str, whole: str, left: str, right: str, **boxes: Box) -> Answered:
    lists = (listed(LEFT, left, main=True, top=0.8), listed(RIGHT, right, top=0.7), listed(WHOLE_BOX, whole, top=0.6))
    return Answered(Question(image, "", tuple(boxes), boxes=boxes, line="scenes"), lists)


def run(*answers: Answered) -> Run:
    return Run("made", "m", answers)


def by_rule(found):
    return {each.rule: each for each in found}


def values(row):
    return {name: interval.value for name, interval in row.figures.items()}


def test_figures_by_hand():
    found = by_rule(rows(run(plain("1", "a", "ab", "ba"), plain("2", "b", "cdb", "bc")), GALLERY))
    assert values(found[MAIN])["R@1"] == 0.5
    assert values(found[MAIN])["R@5"] == 1
    assert values(found[MAIN])["mAP@10"] == pytest.approx((1 + 1 / 3) / 2)
    assert values(found[WHOLE])["R@1"] == 0.5
    assert values(found[ANY]) == {"R@1": 1, "R@5": 1, "R@10": 1}
    assert (found[MAIN].photos, found[MAIN].products) == (2, 2)


def test_ndcg_counts_the_style_in_other_colours():
    (row, *_) = rows(run(plain("1", "a", "b", "a")), GALLERY)
    best = 3 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    assert values(row)["nDCG@10"] == pytest.approx(1 / best)


def test_each_line_has_rows_of_its_own():
    found = rows(run(plain("1", "a", "a", "a"), plain("1", "a", "b", "b", line="blur")), GALLERY)
    assert [(row.line, row.rule, values(row)["R@1"]) for row in found if row.rule == MAIN] == [
        ("as they are", MAIN, 1),
        ("blur", MAIN, 0),
    ]


def test_scenes_by_hand():
    # Two products each; in the first scene both are found, each in its own box, in the second one, in the wrong box.
    found = by_rule(
        rows(run(scene("1", "xy", "a", "b", a=LEFT, b=RIGHT), scene("2", "xy", "x", "c", c=LEFT, d=RIGHT)), GALLERY)
    )
    assert values(found[WHOLE]) == {"hit@1": 0, "hit@5": 0, "hit@10": 0, "found@10": 0}
    assert values(found[MAIN]) == {"hit@1": 0.5, "hit@5": 0.5, "hit@10": 0.5, "found@10": 0.25}
    assert values(found[ANY]) == {"hit@1": 1, "hit@5": 1, "hit@10": 1, "found@10": 0.75}
    assert values(found[OWN_BOX]) == {"found@10": 0.5}
    assert (found[ANY].photos, found[ANY].products) == (2, 4)


def test_merged_lists_are_one_by_score():
    found = by_rule(rows(run(scene("1", "", "xyzuvwqrst", "a", a=RIGHT, b=LEFT)), GALLERY))
    # "a" scores 0.7, as much as the second product of the other list.
    assert values(found[MERGED])["hit@1"] == 0
    assert values(found[MERGED])["hit@5"] == 1


def test_categories_come_with_the_most_photos_first():
    answers = run(plain("1", "a", "a", "a"), plain("2", "b", "x", "x"), plain("3", "b", "b", "b"))
    found = category_rows(answers, GALLERY)
    assert [(row.line, row.photos, values(row)["R@1"]) for row in found] == [("Men/b", 2, 0.5), ("Men/a", 1, 1)]


def test_hard_photos_do_not_count_in_categories():
    hard = Answered(Question("1", "", ("a",), change="blur", category="Men/a"), (listed(WHOLE_BOX, "a", main=True),))
    assert category_rows(run(hard), GALLERY) == []


def test_two_models_are_compared_photo_by_photo_whatever_their_order():
    before = run(plain("1", "a", "b", "b"), plain("2", "b", "b", "b"))
    after = run(plain("2", "b", "b", "b"), plain("1", "a", "a", "b"))
    found = by_rule(compared(before, after, GALLERY))
    assert found[MAIN].differences["R@1"].value == 0.5
    assert found[WHOLE].differences["R@1"].value == 0


def test_other_photos_are_not_compared():
    with pytest.raises(BadInput, match="same photos"):
        compared(run(plain("1", "a", "a", "a")), run(plain("2", "a", "a", "a")), GALLERY)


def test_overlap_is_the_share_of_the_exact_products():
    exact, other = run(plain("1", "a", "abcd", "ab")), run(plain("1", "a", "axyb", "ba"))
    assert overlap(exact, other).value == pytest.approx((2 / 4 + 1) / 2)
