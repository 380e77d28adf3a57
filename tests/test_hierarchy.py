"""hierarchy: the larger model is preferred where the data need it, and where they do not it is not."""

from functools import partial

import numpy as np
import pytest
from planted import power_law

from analysis.fitting.fits import fit_point
from analysis.fitting.forms import FORMS
from analysis.fitting.joint import Design
from analysis.multipliers.hierarchy import compare_models, lack_of_fit

SIZES = np.geomspace(32, 8192, 7)
SD = 0.01


def compared(curves, seed=0, form="pow3"):
    """p of each comparison for cell errors with independent noise of a known size."""
    rng = np.random.default_rng(seed)
    truth = np.array([curve(size) for curve in curves for size in SIZES])
    errors = truth + rng.normal(0, SD, len(truth))
    crossed = errors + rng.normal(0, SD, (500, len(errors)))
    arm = np.repeat(np.arange(len(curves)), len(SIZES))
    # A weight of f (1 - f) / SD^2 makes the deviance a chi-square.
    design = Design(np.tile(np.log(SIZES), len(curves)), arm, truth * (1 - truth) / SD**2, float(errors.min()))
    constant = fit_point(design, errors, FORMS[form], "H1")
    return {(item.smaller, item.larger): item for item in compare_models(design, errors, crossed, constant)}, (
        lack_of_fit(design, errors, crossed, constant)
    )


def test_a_constant_multiplier_beats_one_curve_and_nothing_beats_it():
    found, lack = compared([power_law, lambda size: power_law(3.0 * size)], seed=1)
    assert found["H0", "H1"].p < 0.01
    assert found["H0", "H1"].num_added == 1
    assert {pair: item.num_added for pair, item in found.items() if pair[0] == "H1"} == {
        ("H1", "H2"): 1,
        ("H1", "H3"): 1,
        ("H1", "H4"): 2,  # two curves of three parameters against one and a multiplier
    }
    assert min(found["H1", larger].p for larger in ("H2", "H3", "H4")) > 0.05
    assert lack > 0.05


def test_equal_curves_are_one_curve():
    found, _ = compared([power_law, power_law])
    assert found["H0", "H1"].p > 0.05


def test_a_growing_multiplier_is_seen_by_h2_and_h4():
    found, lack = compared([power_law, lambda size: power_law(size * (size / 32) ** 0.7)])
    assert found["H1", "H2"].p < 0.05
    assert found["H1", "H4"].p < 0.05
    assert lack < 0.05


def test_an_own_floor_is_seen_by_h3():
    found, _ = compared([partial(power_law, a=0.2, b=0.5, c=c) for c in (0.05, 0.2)])
    assert found["H1", "H3"].p < 0.01


@pytest.mark.slow
def test_p_values_under_the_smaller_model_are_not_too_small():
    # 30 studies with a true constant multiplier: 6 or more of 30 below 5 % has a chance of 0.3 %.
    p = [compared([power_law, lambda size: power_law(2.0 * size)], seed)[0]["H1", "H2"].p for seed in range(30)]
    assert sum(value < 0.05 for value in p) <= 5


def test_without_a_floor_in_the_form_there_is_no_h3():
    found, _ = compared([power_law, lambda size: power_law(2.0 * size)], form="pow2")
    assert ("H1", "H3") not in found
