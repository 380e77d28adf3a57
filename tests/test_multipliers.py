"""analysis.multipliers.estimates: known answers for the horizontal distance between curves, and for its interval."""

import numpy as np
import pytest
from planted import SIZES, planted

from analysis.fitting.bootstrap import crossed_bootstrap
from analysis.multipliers.estimates import differences, pointwise, rise_after_best
from analysis.tables.outcomes import Outcomes, from_table


def exact_outcomes(curves) -> Outcomes:
    """One million equal runs would give these errors; here every run has them exactly, in 1,000 problems."""
    names = [name for name in curves for _ in SIZES]
    wrong = np.zeros((len(names), 3, 1000), np.uint8)
    for index, error in enumerate(error for curve in curves.values() for error in curve):
        wrong[index, :, : round(1000 * error)] = 1
    return Outcomes(
        algorithm=np.array(names, dtype=object),
        data_size=np.tile(SIZES, len(curves)),
        seeds=(0, 1, 2),
        problems=tuple(f"p{index:04d}" for index in range(1000)),
        wrong=wrong,
        present=np.ones((len(names), 3), bool),
    )


def without_noise(outcomes: Outcomes) -> np.ndarray:
    return np.repeat(outcomes.errors[None], 50, axis=0)


def test_a_curve_shifted_by_one_size_has_multiplier_two():
    sft = [0.8, 0.7, 0.6, 0.5, 0.4]
    outcomes = exact_outcomes({"sft": sft, "rft": [*sft[1:], 0.35]})
    found = pointwise(outcomes, "sft", without_noise(outcomes))
    *inside, last, mean = found
    for item in (*inside, mean):
        assert (item.estimate, item.low, item.high) == pytest.approx((2.0, 2.0, 2.0))
    assert last.estimate == np.inf
    assert last.right_censored == 1.0
    assert last.at_least == pytest.approx(1.0)
    assert (last.low, last.high) == (last.at_least, np.inf)  # what is known is the bound


def test_the_same_curve_has_multiplier_one():
    sft = [0.8, 0.7, 0.6, 0.5, 0.4]
    outcomes = exact_outcomes({"sft": sft, "dpo": sft})
    for item in pointwise(outcomes, "sft", without_noise(outcomes)):
        assert item.estimate == pytest.approx(1.0)


def test_an_error_above_the_reference_is_left_censored():
    outcomes = exact_outcomes({"sft": [0.8, 0.7, 0.6, 0.5, 0.4], "dpo": [0.9, 0.75, 0.7, 0.6, 0.5]})
    first, second, *_ = pointwise(outcomes, "sft", without_noise(outcomes))
    assert (first.estimate, first.left_censored) == (0.0, 1.0)
    assert (first.low, first.high) == (0.0, pytest.approx(1.0))
    assert 0.5 < second.estimate < 1.0


def test_a_rising_reference_counts_with_its_best_so_far():
    # SFT rises from 0.5 to 0.6 and falls again: pooled to 0.55 at 256, which DPO's 0.55 reaches there and no later.
    outcomes = exact_outcomes({"sft": [0.8, 0.7, 0.5, 0.6, 0.4], "dpo": [0.55] * 5})
    item = pointwise(outcomes, "sft", without_noise(outcomes))[0]
    assert item.estimate == pytest.approx(256 / 64)


def test_limits_for_all_sizes_at_once_are_quantiles_further_out():
    noisy = from_table(planted({"sft": 1.0, "rft": 2.0}, num_problems=300))
    draws = crossed_bootstrap(noisy, 2000, 0)
    for item in (item for item in pointwise(noisy, "sft", draws) if item.kind == "pointwise"):
        low, high = item.low_at_once, item.high_at_once
        assert low < item.low <= item.estimate and (item.high < high or item.high == np.inf)
    # An algorithm with one size has nothing to correct for.
    alone = from_table(
        planted({"sft": 1.0, "rft": 2.0}, num_problems=300).query("algorithm == 'sft' or data_size == 128")
    )
    (item, _) = pointwise(alone, "sft", crossed_bootstrap(alone, 500, 0))
    assert (item.low_at_once, item.high_at_once) == (item.low, item.high)


def test_limits_of_a_size_beyond_the_reference_say_no_more_than_its_range():
    outcomes = exact_outcomes({"sft": [0.8, 0.7, 0.6, 0.5, 0.4], "dpo": [0.9, 0.75, 0.7, 0.6, 0.5], "rft": [0.3] * 5})
    worse, *_ = pointwise(outcomes, "sft", without_noise(outcomes))
    assert (worse.low_at_once, worse.high_at_once) == (0.0, pytest.approx(1.0))  # m is below 1 there, and maybe just
    better = next(item for item in pointwise(outcomes, "sft", without_noise(outcomes)) if item.algorithm == "rft")
    assert (better.low_at_once, better.high_at_once) == (pytest.approx(SIZES[-1] / SIZES[0]), np.inf)


def test_differences_are_paired_means_over_shared_sizes():
    outcomes = exact_outcomes({"sft": [0.8, 0.7, 0.6, 0.5, 0.4], "rft": [0.7, 0.6, 0.5, 0.4, 0.3]})
    (item,) = differences(outcomes, "sft", without_noise(outcomes))
    assert item.estimate == pytest.approx(-0.1)
    assert item.sizes == SIZES
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=300)
    noisy = from_table(table)
    (paired,) = differences(noisy, "sft", crossed_bootstrap(noisy, 500, 0))
    assert paired.low < paired.estimate < paired.high < 0


def test_a_rise_is_measured_from_the_best_cell_before():
    outcomes = exact_outcomes({"sft": [0.8, 0.5, 0.6, 0.65, 0.7]})
    assert rise_after_best(outcomes, "sft", without_noise(outcomes)) == pytest.approx((0.2, 0.2, 0.2))
