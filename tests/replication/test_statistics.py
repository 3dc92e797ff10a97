"""Statistics of the tables against values worked out by hand."""

import numpy as np
import pytest
from replication.statistics import Estimate, difference, kendall_tau, pairs, summary


@pytest.mark.parametrize(
    "values, expected",
    [
        ([], None),
        ([3.5], Estimate(3.5, None, 1)),
        ([1.0, 2.0, 6.0], Estimate(3.0, pytest.approx(7**0.5), 3)),
    ],
)
def test_mean_and_sample_standard_deviation(values, expected):
    assert summary(values) == expected


@pytest.mark.parametrize(
    "scores, base, expected",
    [
        ({}, {0: 1.0}, None),
        ({1: 1.0}, {0: 1.0}, None),
        ({0: 5.0, 1: 9.0}, {0: 3.0}, Estimate(2.0, None, 1)),
        # Scores that vary by 20 between folds, with differences of 1, 2 and 3.
        (
            {0: 11.0, 1: 32.0, 2: 23.0},
            {2: 20.0, 1: 30.0, 0: 10.0},
            Estimate(2.0, pytest.approx(1 / 3**0.5), 3),
        ),
    ],
)
def test_differences_are_paired_by_seed(scores, base, expected):
    assert difference(scores, base) == expected


@pytest.mark.parametrize(
    "paper, scores",
    [
        ({}, {}),
        ({"a": 1.0, "b": 2.0}, {}),
        ({"a": 34.2, "b": 34.2}, {"a": {0: 1.0}, "b": {0: 2.0}}),  # no order in the paper
    ],
)
def test_without_scores_or_an_order_there_are_no_pairs(paper, scores):
    assert pairs(paper, scores) == [] and kendall_tau([]) is None


def test_the_better_row_of_the_paper_comes_first():
    (pair,) = pairs({"a": 1.0, "b": 3.0}, {"a": {0: 50.0}, "b": {0: 40.0}})
    assert (pair.better, pair.worse, pair.paper) == ("b", "a", 2.0)
    assert pair.measured.mean == -10.0 and not pair.agrees


@pytest.mark.parametrize(
    "gaps, is_noise",
    [((2.0,), None), ((1.0, 2.0, 3.0), False), ((0.0, 1.0, 2.0), True), ((2.0, 2.0), False)],
)
def test_noise_is_within_two_standard_errors(gaps, is_noise):
    scores = {"a": dict.fromkeys(range(3), 10.0), "b": dict(enumerate(np.add(10, gaps)))}
    (pair,) = pairs({"a": 1.0, "b": 3.0}, scores)
    assert pair.agrees and pair.is_noise is is_noise


def test_tau_of_four_rows_with_one_swap():
    """Of six pairs five are in order: (5 - 1) / 6."""
    paper = dict(zip("abcd", (1.0, 2.0, 3.0, 4.0)))
    found = pairs(paper, {name: {0: ap} for name, ap in zip("abcd", (10.0, 30.0, 20.0, 40.0))})
    assert sum(pair.agrees for pair in found) == 5
    assert kendall_tau(found) == pytest.approx(4 / 6)
