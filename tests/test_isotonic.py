"""isotonic: the non-increasing fit against pooled adjacent violators, and the inverse with its censoring."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fitting.isotonic import fall_per_fourfold, log_size_reaching, non_increasing, running_minimum

LOG_SIZE = np.log([64.0, 128.0, 256.0])


def pool_adjacent_violators(levels):
    """The textbook algorithm for a non-increasing fit."""
    blocks = []
    for level in levels:
        blocks.append([level, 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, n), (b, m) = blocks[-2], blocks[-1]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    return [mean for mean, count in blocks for _ in range(count)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_fit_is_that_of_pooled_adjacent_violators(levels):
    fitted = non_increasing(np.array([levels]))[0]
    np.testing.assert_allclose(fitted, pool_adjacent_violators(levels), atol=1e-12)
    assert (np.diff(fitted) <= 1e-12).all()


def test_the_inverse_is_exact_at_the_cells():
    levels = np.array([[0.8, 0.6, 0.3]] * 3)
    found = log_size_reaching(levels, LOG_SIZE, np.array([0.8, 0.6, 0.3]))
    np.testing.assert_allclose(np.exp(found), [64, 128, 256])


def test_between_cells_it_is_linear_in_logit_error_and_log_size():
    # Half-way in logits between 0.8 and 0.2 is 0.5: half-way in log size between 64 and 128 is 64 sqrt 2.
    found = log_size_reaching(np.array([[0.8, 0.2, 0.1]]), LOG_SIZE, np.array([0.5]))
    assert np.exp(found[0]) == pytest.approx(64 * np.sqrt(2))


def test_outside_of_the_range_it_is_censored():
    levels = np.array([[0.8, 0.6, 0.3]] * 2)
    assert log_size_reaching(levels, LOG_SIZE, np.array([0.29, 0.81])).tolist() == [np.inf, -np.inf]


def test_on_a_plateau_the_smallest_size_counts():
    found = log_size_reaching(np.array([[0.8, 0.5, 0.5]]), LOG_SIZE, np.array([0.5]))
    assert np.exp(found[0]) == pytest.approx(128)


def test_the_running_minimum_keeps_the_best_so_far():
    levels = np.array([[0.8, 0.5, 0.6, 0.7, 0.4], [0.3, 0.4, 0.5, 0.2, 0.9]])
    assert running_minimum(levels).tolist() == [[0.8, 0.5, 0.5, 0.5, 0.4], [0.3, 0.3, 0.3, 0.2, 0.2]]


def test_the_fall_per_fourfold_is_that_around_a_size_within_the_sizes():
    log_size, levels = np.log([1.0, 4.0, 16.0, 64.0]), np.array([0.9, 0.5, 0.3, 0.3])
    assert fall_per_fourfold(levels, log_size, 2.0) == pytest.approx(0.4)  # from 1 to 4
    assert fall_per_fourfold(levels, log_size, 4.0) == pytest.approx(0.2 + 0.1)  # half of either side
    assert fall_per_fourfold(levels, log_size, 1.0) == pytest.approx(0.4)  # the first fourfold
    assert fall_per_fourfold(levels, log_size, 500.0) == pytest.approx(0.0)  # the last one
    assert fall_per_fourfold(levels[:2], np.log([1.0, 2.0]), 2.0) == pytest.approx(0.4)  # all there is
