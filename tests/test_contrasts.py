"""contrasts: ratios from the same draws, Holm's correction, and a band that holds everywhere at once."""

import numpy as np
import pytest

from analysis.fitting.fits import Fit
from analysis.fitting.forms import FORMS
from analysis.fitting.joint import Design
from analysis.multipliers.contrasts import adjusted, band, holm, ratio


def fit_of(theta, hypothesis="H1"):
    theta = np.atleast_2d(theta)
    empty = np.zeros(len(theta))
    return Fit(FORMS["pow2"], hypothesis, theta, empty, empty, empty[:, None], empty == 0)


def test_what_two_algorithms_share_cancels_in_their_ratio():
    shared = np.random.default_rng(0).normal(0, 0.5, 4000)
    draws = (np.log(2) + shared, np.log(8) + shared)
    found = ratio("rft", "step_dpo", (np.log(2.0), np.log(8.0)), draws)
    assert (found.numerator, found.denominator) == ("step_dpo", "rft")
    assert (found.estimate, found.low, found.high) == pytest.approx((4.0, 4.0, 4.0))


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls():
    # Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([]) == []


def test_the_p_value_is_twice_the_smaller_share_of_draws_beyond_none():
    below = np.where(np.arange(99) < 4, -0.1, 0.5)
    first, second = adjusted(("rft", "dpo"), (below, np.full(99, 1.0)), (-below, np.full(99, 0.0)))
    assert (first.p, second.p) == pytest.approx((2 * 5 / 100, 2 * 1 / 100))
    assert (first.p_holm, second.p_holm) == pytest.approx((2 * 5 / 100, 2 * 2 / 100))
    assert (first.slope_p, second.slope_p) == pytest.approx((2 * 5 / 100, 1.0))


def test_the_band_holds_the_whole_line_in_95_percent_of_draws():
    sizes = np.array([64, 256, 1024, 4096])
    design = Design(np.tile(np.log(sizes), 2), np.repeat([0, 1], 4), np.ones(8), 0.1)
    rng = np.random.default_rng(0)
    zeros = np.zeros((5000, 2))
    point = fit_of([0.0, 0.0, np.log(2), 0.1], "H2")
    replicates = fit_of(np.column_stack([zeros, rng.normal(np.log(2), 0.2, 5000), rng.normal(0.1, 0.1, 5000)]), "H2")
    found = band(design, np.ones(8), point, replicates, "rft")
    centred = np.log(sizes) - design.log_center
    assert found.sizes == (64, 256, 1024, 4096)
    np.testing.assert_allclose(found.estimate, 2 * np.exp(0.1 * centred))
    drawn = np.exp(replicates.log_multiplier(1)[:, None] + replicates.delta(1)[:, None] * centred)
    inside = ((drawn >= found.low) & (drawn <= found.high)).all(axis=1)
    assert inside.mean() == pytest.approx(0.95, abs=0.002)  # by construction, up to one draw and rounding
    narrow = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert (np.array(found.low) < narrow[0]).all() and (np.array(found.high) > narrow[1]).all()
