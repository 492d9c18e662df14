import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.calibration import DIGITS, Chances, Curve, features, read_curve
from serve_app.domain import WHOLE_BOX
from serve_app.errors import BadConfig, BadInput
from serve_app.evaluation.answers import Answered, Listed, Product, Question, Run
from serve_app.evaluation.calibrating import FOLDS, Observed, calibrate, check, check_on, fit, observe
from tests.unit import builders
from tests.unit.builders import hit

RANDOM = np.random.default_rng(5)


def answered(product: str, *scores: float, right: int | None = 0) -> Answered:
    ids = [product if place == right else f"other{place}" for place in range(len(scores))]
    products = tuple(Product(name, f"{name}-1", score) for name, score in zip(ids, scores, strict=True))
    question = Question(f"{product}-{scores}.jpg", "", (product,))
    return Answered(question, (Listed(WHOLE_BOX, True, True, products),))


def observed(number: int, weights: tuple[float, ...], intercept: float) -> Observed:
    table = RANDOM.normal(size=(number, 4))
    chances = 1 / (1 + np.exp(-(table @ np.array(weights) + intercept)))
    right = RANDOM.random(number) < chances
    return Observed(table, right, np.ones(number, bool), RANDOM.integers(0, FOLDS, number))


def many(number: int = 200) -> Run:
    """Answers in which a great lead means that the first product is right."""
    answers = []
    for i in range(number):
        lead = RANDOM.random() * 0.3
        answers.append(answered(f"p{i}", 0.5 + lead, 0.5, 0.45, right=0 if RANDOM.random() < lead / 0.3 else None))
    return Run("made", "0123456789ab", tuple(answers))


def test_a_gap_is_the_lead_of_the_first_and_how_far_others_lie_behind_it():
    lead, behind = np.log(1 + 0.2 / 0.01), np.log(1 + 0.3 / 0.01)
    expected = [[0.9, lead, 0, 0.5], [0.7, 0, lead, 0.5], [0.6, 0, behind, 0.5]]
    np.testing.assert_allclose(features([0.9, 0.7, 0.6], 0.25), expected)


def test_a_product_alone_in_its_list_leads_nothing():
    assert features([0.9], 1.0).tolist() == [[0.9, 0.0, 0.0, 1.0]]


def test_an_empty_list_has_no_features():
    assert features([], 1.0).shape == (0, 4)


def test_the_fit_finds_the_curve_that_made_the_data():
    curve = fit(observed(50_000, (1.5, -0.7, 0.0, 0.3), -1.0), "m")
    slopes = np.array(curve.weights) / np.array(curve.scale)
    np.testing.assert_allclose(slopes, [1.5, -0.7, 0.0, 0.3], atol=0.06)
    assert curve.intercept - (slopes * np.array(curve.mean)).sum() == pytest.approx(-1.0, abs=0.05)


def test_what_tells_all_still_gives_a_curve():
    table = np.column_stack([np.arange(100.0), np.zeros((100, 2)), np.ones(100)])
    right = np.arange(100) >= 50
    curve = fit(Observed(table, right, right, np.zeros(100, np.int64)), "m")
    assert ((curve.chances(table) > 0.5) == right).all()
    assert np.isfinite(curve.weights).all()


def test_brier_score_and_bins_by_hand():
    found = check(np.array([0.9, 0.9, 0.2, 0.2]), np.array([True, False, False, False]))
    assert found.brier == pytest.approx((0.01 + 0.81 + 0.04 + 0.04) / 4)
    assert found.constant_brier == pytest.approx(0.25 * 0.75)
    assert [(each.products, each.said, each.true) for each in found.bins] == [
        (2, pytest.approx(0.2), 0.0),
        (2, pytest.approx(0.9), 0.5),
    ]
    assert found.error == pytest.approx((2 * 0.2 + 2 * 0.4) / 4)


def test_chances_of_one_belong_to_the_last_bin():
    assert check(np.array([1.0]), np.array([True])).bins[-1].products == 1


def test_photos_of_one_product_share_a_fold():
    seen = observe([answered("a", 0.9, 0.1), answered("a", 0.8, 0.2)])
    assert len(set(seen.fold.tolist())) == 1
    assert seen.first.tolist() == [True, False, True, False]
    assert seen.right.tolist() == [True, False, True, False]


def test_a_curve_is_checked_on_what_it_was_not_fitted_on():
    # By nothing but chance: a curve that had seen the products it is checked on would look better than their share.
    lists = [(sorted(RANDOM.random(3), reverse=True), int(RANDOM.integers(3))) for _ in range(60)]
    noise = Run("n", "m", tuple(answered(f"p{i}", *scores, right=right) for i, (scores, right) in enumerate(lists)))
    curve = calibrate(noise)
    seen = observe(noise.answers)
    fitted = check(curve.chances(seen.features), seen.right)
    assert curve.all_products is not None
    assert curve.all_products.brier > fitted.brier


def test_a_lead_that_tells_makes_better_chances_than_one_for_all():
    curve = calibrate(many())
    assert curve.first_products is not None
    assert curve.first_products.brier < 0.9 * curve.first_products.constant_brier
    surer, less_sure = curve.matches([0.78, 0.5], 1.0)[0], curve.matches([0.52, 0.5], 1.0)[0]
    assert surer > 0.7 > 0.3 > less_sure


def test_too_few_answers_give_no_curve():
    with pytest.raises(BadInput, match="larger set"):
        calibrate(Run("few", "m", (answered("a", 0.9, 0.1),)))


def test_a_curve_comes_back_from_its_file(tmp_path):
    curve = calibrate(many())
    (tmp_path / "curve.json").write_text(curve.model_dump_json())
    assert read_curve(tmp_path / "curve.json") == curve


def text_of(**changes: object) -> str:
    return json.dumps({"model": "m", "mean": [0] * 4, "scale": [1] * 4, "weights": [0] * 4, "intercept": 0} | changes)


@pytest.mark.parametrize(
    "text",
    [
        "{}", "no JSON", '{"model": "m", "weights": [1]}', text_of(scale=[1, 1, 0, 1]), text_of(scale=[1, -1, 1, 1]),
        text_of(weights=[float("nan")] * 4), text_of(intercept=float("inf")), text_of(kind="logistic/2"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_curve_is_refused(tmp_path, text):
    (tmp_path / "curve.json").write_text(text)
    with pytest.raises(BadConfig, match=r"curve\.json"):
        read_curve(tmp_path / "curve.json")


def test_a_curve_of_another_model_is_not_checked():
    with pytest.raises(BadInput, match="is of the model other"):
        check_on(fit(observed(50, (1, 1, 1, 1), 0), "other"), many(5))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.floats(0, 1))
def test_a_chance_is_one(scores, area):
    curve = Curve(model="m", mean=(0, 0, 0, 0), scale=(0.01,) * 4, weights=(9, 9, -9, 9), intercept=0)
    assert all(0 <= chance <= 1 for chance in curve.matches(sorted(scores, reverse=True), area))


PAGE = [hit("a", 0.81234567), hit("b", 0.74), hit("c", 0.5), hit("d", 0.2)]


def test_order_and_part_of_a_list_change_no_chance():
    chances = Chances.of(builders.curve(), 0.25, PAGE)
    expected = dict(zip("abcd", builders.curve().matches([each.score for each in PAGE], 0.25), strict=True))
    assert dict(zip("abcd", chances.matches(PAGE), strict=True)) == pytest.approx(expected, abs=5e-5)
    for part in permutations(PAGE, 2):
        own = [chances.matches([each])[0] for each in part]
        assert chances.matches(part) == own


def test_product_that_came_later_and_scores_more_than_the_leader_has_a_chance_like_it():
    chances = Chances.of(builders.curve(), 1.0, PAGE)
    (later,) = chances.matches([hit("e", 0.9)])
    assert chances.matches([hit("e", 0.812346)])[0] <= later <= 1


def test_list_of_one_product_leads_nothing_and_an_empty_one_has_no_chances():
    assert Chances.of(builders.curve(), 1.0, PAGE[:1]).second is None
    assert Chances.of(builders.curve(), 1.0, []).matches([]) == []


@given(
    st.tuples(*[st.floats(-5, 5)] * 4),
    st.tuples(*[st.floats(0.01, 5)] * 4),
    st.floats(-1, 1),
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
)
def test_no_product_below_a_score_is_likelier_than_the_highest_chance_there(weights, scale, best, scores):
    curve = Curve(model="m", mean=(0, 0, 0, 0), scale=scale, weights=weights, intercept=0)
    chances = Chances(curve, 0.5, "leader", best, None)
    highest = chances.highest(max(scores))
    assert max(chances.matches([hit("p", score) for score in scores])) <= highest + 10**-DIGITS
