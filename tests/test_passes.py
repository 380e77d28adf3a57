"""passes: the unbiased estimator of pass@k against enumeration and against its closed form."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.special import beta as beta_function

from analysis.curves.choice import choose
from analysis.curves.points import all_wrong, passes


def test_the_estimator_counts_the_draws_without_a_right_sample():
    for n, c, k in ((4, 2, 2), (6, 1, 3), (5, 0, 2), (5, 5, 1), (7, 5, 3)):
        right = [True] * c + [False] * (n - c)
        draws = list(combinations(right, k))
        expected = sum(not any(draw) for draw in draws) / len(draws)
        assert all_wrong(np.array([n]), np.array([c]), np.array([k]))[0, 0] == pytest.approx(expected, abs=1e-12)


def test_the_estimator_has_no_bias():
    n, p = 10, 0.3
    counts = np.arange(n + 1)
    chance = np.array([comb(n, c) * p**c * (1 - p) ** (n - c) for c in counts])
    k = np.array([1, 2, 5, 10])
    np.testing.assert_allclose(chance @ all_wrong(np.full(n + 1, n), counts, k), (1 - p) ** k, rtol=1e-10)


def test_problems_from_a_beta_law_fall_as_a_power_of_k():
    """Where p has the density a (1 - x)^0 x^(a - 1), 1 - pass@k = B(a, k + 1) / B(a, 1), which tends to k^-a."""
    a = 0.5
    quantiles = ((np.arange(4000) + 0.5) / 4000) ** (1 / a)
    found = passes(np.full(4000, 4096), np.round(4096 * quantiles), 200, seed=0)
    np.testing.assert_allclose(found.error[:6], beta_function(a, found.k[:6] + 1) / beta_function(a, 1), rtol=0.02)
    middle = (found.k >= 8) & (found.k <= 512)
    curve = choose(found.k[middle], found.error[middle], "pow2").curve
    assert curve.natural[0, 1] == pytest.approx(a, abs=0.03)


def test_the_fewest_samples_of_a_problem_are_the_largest_k():
    found = passes(np.array([100.0, 12.0, 50.0]), np.array([10.0, 1.0, 0.0]), 200, seed=0)
    np.testing.assert_array_equal(found.k, [1, 2, 4, 8, 12])
    assert found.error[0] == pytest.approx(np.mean([0.9, 11 / 12, 1.0]))


def test_where_no_error_is_left_there_is_no_point():
    found = passes(np.full(5, 8.0), np.full(5, 6.0), 200, seed=0)
    np.testing.assert_array_equal(found.k, [1, 2])


def test_intervals_over_problems_repeat_with_their_seed():
    counts = (np.full(50, 16.0), np.arange(50.0) % 17)
    np.testing.assert_array_equal(passes(*counts, 200, 3).draws, passes(*counts, 200, 3).draws)
