"""Statistics of the tables against values worked out by hand."""

import numpy as np
import pytest
from replication.statistics import Estimate, difference, kendall_tau, pairs, summary


class TestSummary:
    def test_nothing_has_no_mean(self):
        assert summary([]) is None

    def test_one_value_has_no_spread(self):
        assert summary([3.5]) == Estimate(3.5, None, 1)

    def test_several_values_have_the_sample_standard_deviation(self):
        assert summary([1.0, 2.0, 6.0]) == Estimate(3.0, pytest.approx(7**0.5), 3)


class TestDifference:
    def test_without_a_common_seed_there_is_none(self):
        assert difference({}, {0: 1.0}) is None
        assert difference({1: 1.0}, {0: 1.0}) is None

    def test_one_common_seed_has_no_error(self):
        assert difference({0: 5.0, 1: 9.0}, {0: 3.0}) == Estimate(2.0, None, 1)

    def test_what_folds_have_in_common_cancels(self):
        """Scores that vary by 20 between folds, with differences of 1, 2 and 3."""
        found = difference({0: 11.0, 1: 32.0, 2: 23.0}, {2: 20.0, 1: 30.0, 0: 10.0})
        assert found == Estimate(2.0, pytest.approx(1 / 3**0.5), 3)

    def test_against_numpy(self):
        rng = np.random.default_rng(0)
        one, other = rng.normal(size=(2, 7))
        found = difference(dict(enumerate(one)), dict(enumerate(other)))
        gaps = one - other
        assert found.mean == pytest.approx(gaps.mean())
        assert found.spread == pytest.approx(gaps.std(ddof=1) / 7**0.5)


class TestPairs:
    def test_no_rows_and_no_scores_have_no_pairs(self):
        assert pairs({}, {}) == []
        assert pairs({"a": 1.0, "b": 2.0}, {}) == []
        assert kendall_tau([]) is None

    def test_rows_that_are_equal_in_the_paper_have_no_order(self):
        assert pairs({"a": 34.2, "b": 34.2}, {"a": {0: 1.0}, "b": {0: 2.0}}) == []

    def test_the_better_row_of_the_paper_comes_first(self):
        (pair,) = pairs({"a": 1.0, "b": 3.0}, {"a": {0: 50.0}, "b": {0: 40.0}})
        assert (pair.better, pair.worse, pair.paper) == ("b", "a", 2.0)
        assert pair.measured.mean == -10.0
        assert not pair.agrees

    def test_one_seed_cannot_tell_noise(self):
        (pair,) = pairs({"a": 1.0, "b": 3.0}, {"a": {0: 40.0}, "b": {0: 50.0}})
        assert pair.agrees and pair.is_noise is None

    @pytest.mark.parametrize(
        "gaps, is_noise",
        [((1.0, 2.0, 3.0), False), ((1.0, -2.0, 3.0), True), ((2.0, 2.0, 2.0), False)],
    )
    def test_noise_is_within_two_standard_errors(self, gaps, is_noise):
        scores = {"a": {seed: 10.0 for seed in range(3)}, "b": dict(enumerate(np.add(10, gaps)))}
        (pair,) = pairs({"a": 1.0, "b": 3.0}, scores)
        assert pair.is_noise is is_noise

    def test_tau_of_four_rows_with_one_swap(self):
        """Of six pairs five are in order: (5 - 1) / 6."""
        paper = dict(zip("abcd", (1.0, 2.0, 3.0, 4.0)))
        scores = {name: {0: ap} for name, ap in zip("abcd", (10.0, 30.0, 20.0, 40.0))}
        found = pairs(paper, scores)
        assert sum(pair.agrees for pair in found) == 5
        assert kendall_tau(found) == pytest.approx(4 / 6)
