from itertools import product

import numpy as np
import pytest
from scipy.stats import bootstrap

from serve_app.evaluation.resampling import differences, intervals

RANDOM = np.random.default_rng(3)


def test_the_mean_is_over_photos_not_over_products():
    (found,) = intervals([[1], [1], [1], [0]], ["a", "a", "a", "b"])
    assert found.value == 0.75


def test_single_photos_get_the_interval_of_scipys_bootstrap():
    values = RANDOM.random(60)
    (found,) = intervals(values[:, None], [str(i) for i in range(60)])
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert found.low == pytest.approx(theirs.low, abs=0.01)
    assert found.high == pytest.approx(theirs.high, abs=0.01)


def test_more_photos_of_the_same_products_make_nothing_surer():
    values = RANDOM.integers(0, 2, 40).astype(float)
    names = [str(i) for i in range(40)]
    (once,) = intervals(values[:, None], names)
    (ten_times,) = intervals(np.repeat(values, 10)[:, None], np.repeat(names, 10).tolist())
    assert ten_times == once


def test_one_product_has_no_interval():
    (found,) = intervals([[1], [0]], ["a", "a"])
    assert str(found) == "0.500"
    assert np.isnan(found.low)


def test_columns_are_measured_side_by_side():
    values = RANDOM.random((30, 2))
    names = [str(i % 10) for i in range(30)]
    both = intervals(values, names)
    assert both == [*intervals(values[:, :1], names), *intervals(values[:, 1:], names)]


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # Each column is a try of its own with other products.
    sizes = RANDOM.integers(1, 6, 60)
    chances = np.repeat(RANDOM.random((60, 400)), sizes, axis=0)
    names = np.repeat([str(i) for i in range(60)], sizes).tolist()
    found = intervals(RANDOM.random(chances.shape) < chances, names)
    covered = np.mean([each.low <= 0.5 <= each.high for each in found])
    # A percentile interval of 60 products is a little narrow.
    assert 0.9 <= covered <= 0.98


def test_the_chance_is_that_of_all_flips_of_signs():
    gained = np.array([2.0, 1, 1, -1, 3, 0, 1, 2])
    names = [str(i) for i in range(8)]
    sums = [abs(sum(s * g for s, g in zip(signs, gained, strict=True))) for signs in product((-1, 1), repeat=8)]
    exact = np.mean(np.array(sums) >= abs(gained.sum()))
    (found,) = differences(np.zeros((8, 1)), gained[:, None], names)
    assert found.value == gained.mean()
    assert found.chance == pytest.approx(exact, abs=0.02)


def test_equal_models_differ_in_nothing():
    values = RANDOM.random((20, 1))
    (found,) = differences(values, values, [str(i) for i in range(20)])
    assert (found.value, found.chance, found.significant) == (0, 1, False)


def test_flips_of_one_product_go_together():
    # Twenty photos, but one product: its sign alone is flipped, so nothing can be shown.
    (found,) = differences(np.zeros((20, 1)), np.ones((20, 1)), ["a"] * 20)
    assert not found.significant


def test_a_gain_of_many_products_is_shown():
    (found,) = differences(np.zeros((20, 1)), np.ones((20, 1)), [str(i) for i in range(20)])
    assert found.significant
    assert found.chance < 0.001


def test_the_smallest_difference_is_shown_in_four_of_five_tries():
    names = [str(i) for i in range(50)]
    nothing = np.zeros((50, 400))
    noise = RANDOM.normal(0, 1, nothing.shape)
    smallest = [each.smallest for each in differences(nothing, noise, names)]
    found = differences(nothing, RANDOM.normal(0, 1, nothing.shape) + smallest, names)
    assert 0.72 <= np.mean([each.significant for each in found]) <= 0.88
