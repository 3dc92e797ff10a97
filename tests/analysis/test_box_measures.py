"""Precision and recall by threshold, and correlations."""

import numpy as np
import pytest
from scipy import stats

from soft_teacher.analysis.box_measures import Correlation, correlation, foreground_curve, trend

NOTHING = np.zeros(0)


def curve(scores, hits, objects, thresholds):
    return foreground_curve(np.array(scores, float), np.array(hits, bool), objects, thresholds)


# --- precision and recall -----------------------------------------------------------------------


def test_without_boxes_there_is_recall_but_no_precision():
    found = curve([], [], 3, [0.1, 0.5])
    assert np.isnan(found.precision).all()
    assert found.recall.tolist() == found.f1.tolist() == [0, 0]
    assert found.preferred is None
    assert found.point(1) == [0.5, 0, None, 0.0, 0.0]


def test_without_objects_there_is_precision_but_no_recall():
    found = curve([0.3, 0.7], [False, False], 0, [0.1, 0.5])
    assert found.precision.tolist() == [0, 0]
    assert np.isnan(found.recall).all() and found.f1.tolist() == [0, 0]
    assert found.preferred is None


def test_with_neither_there_is_nothing():
    found = curve([], [], 0, [0.1])
    assert found.point(0) == [0.1, 0, None, None, None]


def test_a_threshold_cuts_the_list():
    # By falling score: hit, miss, hit, hit, miss; six objects.
    found = curve([0.6, 0.9, 0.2, 0.8, 0.4], [1, 1, 0, 0, 1], 6, [0, 0.3, 0.5, 0.7, 0.85, 0.95])
    assert found.boxes.tolist() == [5, 4, 3, 2, 1, 0]
    assert found.hits.tolist() == [3, 3, 2, 1, 1, 0]
    np.testing.assert_allclose(found.precision[:-1], [3 / 5, 3 / 4, 2 / 3, 1 / 2, 1])
    assert np.isnan(found.precision[-1])
    np.testing.assert_allclose(found.recall, [3 / 6, 3 / 6, 2 / 6, 1 / 6, 1 / 6, 0])
    # The harmonic mean of 3/4 and 1/2, and so on.
    np.testing.assert_allclose(found.f1, [6 / 11, 6 / 10, 4 / 9, 2 / 8, 2 / 7, 0])
    assert found.preferred == 1
    assert found.point(1) == [0.3, 4, 0.75, 0.5, 0.6]


def test_a_score_at_the_threshold_is_not_above_it():
    assert curve([0.5], [True], 1, [0.49, 0.5]).boxes.tolist() == [1, 0]


def test_of_equally_good_thresholds_the_highest_is_preferred():
    assert curve([0.5, 0.9], [True, True], 2, [0.1, 0.2, 0.3, 0.6]).preferred == 2


# --- correlations -------------------------------------------------------------------------------


@pytest.mark.parametrize("x, y", [([], []), ([1], [2]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_what_does_not_vary_has_no_correlation(x, y):
    assert correlation(np.array(x, float), np.array(y, float)) == Correlation(len(x), None, None)


def test_hand_worked_correlations():
    # Deviations x: -1.5 -.5 .5 1.5, y: -2 -1 -1 4; sum of products 9, of squares 5 and 22.
    # Ranks of y: 1, 2.5, 2.5, 4; sum of products 4.5, of squares 5 and 4.5.
    found = correlation(np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 1, 6]))
    assert found.count == 4
    assert found.pearson == pytest.approx(9 / np.sqrt(5 * 22))
    assert found.spearman == pytest.approx(4.5 / np.sqrt(5 * 4.5))


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, 200).astype(float)  # many ties
    y = np.exp(x / 5) * rng.random(200)
    found = correlation(x, y)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)


def test_pairs_that_are_not_finite_are_left_out():
    x = np.array([1.0, np.inf, 2, np.nan, 3])
    assert correlation(x, np.arange(5.0)) == correlation(x[[0, 2, 4]], np.array([0.0, 2, 4]))


# --- trend --------------------------------------------------------------------------------------


def test_nothing_has_no_trend():
    assert trend(NOTHING, NOTHING).shape == (0, 2)


def test_a_trend_is_the_means_of_equal_parts_in_order():
    x, y = np.array([4.0, 1, 3, 2, 5]), np.array([40.0, 10, 30, 20, 50])
    assert trend(x, y, parts=2).tolist() == [[2, 20], [4.5, 45]]
    assert trend(x, y, parts=9).tolist() == [[n, 10 * n] for n in (1, 2, 3, 4, 5)]
