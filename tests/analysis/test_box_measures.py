"""Precision and recall by threshold, and correlations."""

import numpy as np
import pytest
from scipy import stats

from soft_teacher.analysis.box_measures import Correlation, correlation, foreground_curve, trend


def curve(scores, hits, objects, thresholds):
    return foreground_curve(np.array(scores, float), np.array(hits, bool), objects, thresholds)


@pytest.mark.parametrize(
    "scores, objects, point",
    [
        ([], 0, [0.5, 0, None, None, None]),
        ([], 3, [0.5, 0, None, 0, 0]),
        ([0.3, 0.7], 0, [0.5, 1, 0, None, 0]),
    ],
)
def test_without_boxes_or_objects_a_share_does_not_exist(scores, objects, point):
    found = curve(scores, [False] * len(scores), objects, [0.1, 0.5])
    assert found.point(1) == point and found.preferred is None


def test_a_threshold_cuts_the_list():
    # By falling score: hit, miss, hit, hit, miss; six objects.
    found = curve([0.6, 0.9, 0.2, 0.8, 0.4], [1, 1, 0, 0, 1], 6, [0, 0.3, 0.5, 0.7, 0.85, 0.95])
    assert found.boxes.tolist() == [5, 4, 3, 2, 1, 0]
    assert found.hits.tolist() == [3, 3, 2, 1, 1, 0]
    np.testing.assert_allclose(found.precision, [3 / 5, 3 / 4, 2 / 3, 1 / 2, 1, np.nan])
    np.testing.assert_allclose(found.recall, [3 / 6, 3 / 6, 2 / 6, 1 / 6, 1 / 6, 0])
    # The harmonic mean of 3/4 and 1/2, and so on.
    np.testing.assert_allclose(found.f1, [6 / 11, 6 / 10, 4 / 9, 2 / 8, 2 / 7, 0])
    assert found.preferred == 1
    assert found.point(1) == [0.3, 4, 0.75, 0.5, 0.6]


def test_a_score_at_the_threshold_is_not_above_it_and_of_equals_the_highest_is_preferred():
    assert curve([0.5], [True], 1, [0.49, 0.5]).boxes.tolist() == [1, 0]
    assert curve([0.5, 0.9], [True, True], 2, [0.1, 0.2, 0.3, 0.6]).preferred == 2


@pytest.mark.parametrize("x, y", [([], []), ([1], [2]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_what_does_not_vary_has_no_correlation(x, y):
    assert correlation(np.array(x, float), np.array(y, float)) == Correlation(len(x), None, None)


def test_correlations_are_those_of_scipy_over_finite_pairs():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, 200).astype(float)  # many ties
    y = np.exp(x / 5) * rng.random(200)
    found = correlation(np.append(x, [np.inf, np.nan, 1]), np.append(y, [1, 2, -np.inf]))
    assert found.count == 200
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)


def test_a_trend_is_the_means_of_equal_parts_in_order():
    assert trend(np.zeros(0), np.zeros(0)).shape == (0, 2)
    x = np.array([4.0, 1, 3, 2, 5])
    assert trend(x, 10 * x, parts=2).tolist() == [[2, 20], [4.5, 45]]
    assert trend(x, 10 * x, parts=9).tolist() == [[n, 10 * n] for n in (1, 2, 3, 4, 5)]
