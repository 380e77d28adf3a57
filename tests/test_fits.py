"""analysis.fitting.fits: planted curves are recovered, all starts agree, gradients vanish at the minimum."""

import numpy as np
import pytest
from planted import power_law
from scipy.optimize import minimize
from scipy.special import expit

from analysis.fitting.fits import by_qaicc, fit_point, fit_replicates, polish
from analysis.fitting.forms import FORMS
from analysis.fitting.joint import Design, predict, prior_precision

SIZES = np.array([64, 128, 256, 512, 1024])


def design_of(multipliers, sizes=SIZES, weight=1500.0):
    arm = np.repeat(np.arange(len(multipliers)), len(sizes))
    log_size = np.tile(np.log(sizes), len(multipliers))
    errors = np.array([power_law(m * size) for m in multipliers for size in sizes])
    return Design(log_size, arm, np.full(len(arm), weight), float(errors.min())), errors


def test_planted_parameters_and_multipliers_are_recovered():
    design, errors = design_of([1.0, 2.0, 1.0, 8.0])
    fit = fit_point(design, errors, FORMS["pow3"], "H1")
    m = [float(np.exp(fit.log_multiplier(arm)[0])) for arm in range(4)]
    # The weak prior on the floor's logit moves exact data by a few parts in a thousand.
    np.testing.assert_allclose(m, [1, 2, 1, 8], rtol=2e-2)
    natural = fit.form.natural(fit.theta[0], design.c_max)
    assert natural["b"] == pytest.approx(0.25, rel=0.05)
    assert natural["c"] == pytest.approx(0.15, rel=0.1)
    assert fit.converged.all()
    assert fit.num_agree == fit.num_starts == 8


def test_a_curve_without_floor_is_recovered_exactly_by_the_power_law():
    log_size = np.tile(np.log(SIZES), 2)
    arm = np.repeat([0, 1], 5)
    errors = 0.4 * (np.where(arm == 1, 4.0, 1.0) * np.exp(log_size) / 256) ** -0.3
    design = Design(log_size, arm, np.full(10, 1000.0), float(errors.min()))
    fit = fit_point(design, errors, FORMS["pow2"], "H1")
    assert np.exp(fit.log_multiplier(1)[0]) == pytest.approx(4.0, rel=1e-5)
    assert np.exp(fit.theta[0, 1]) == pytest.approx(0.3, rel=1e-5)


def test_a_growing_multiplier_is_recovered_under_h2_and_missed_under_h1():
    log_size, arm = np.tile(np.log(SIZES), 2), np.repeat([0, 1], 5)
    m = np.where(arm == 1, 2.0 * (np.exp(log_size) / 256) ** 0.4, 1.0)
    errors = 0.4 * (m * np.exp(log_size) / 256) ** -0.3
    design = Design(log_size, arm, np.full(10, 1000.0), float(errors.min()))
    constant, varying = (fit_point(design, errors, FORMS["pow2"], name) for name in ("H1", "H2"))
    # The prior N(0, 3^2) on delta pulls by less than a part in a thousand.
    assert varying.delta(1)[0] == pytest.approx(0.4, rel=1e-2)
    assert constant.deviance[0] > 100 * max(varying.deviance[0], 1e-3)
    assert constant.delta(1)[0] == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_the_minimum_is_that_of_an_independent_optimiser(form):
    sizes = np.geomspace(32, 4096, 10)
    design, errors = design_of([1.0, 2.0], sizes)
    noisy = np.clip(errors + np.random.default_rng(0).normal(0, 0.01, len(errors)), 0.01, 0.99)
    fit = fit_point(design, noisy, FORMS[form], "H1")
    precision = prior_precision(design, FORMS[form], "H1")

    def objective(theta):
        x = design.log_size - design.log_center + np.where(design.arm == 1, theta[-1], 0.0)
        value = FORMS[form].evaluate(theta[None, :-1], x[None], design.c_max).value[0]
        value = np.clip(value, 1e-6, 1 - 1e-6)
        terms = noisy * np.log(noisy / value) + (1 - noisy) * np.log((1 - noisy) / (1 - value))
        return float((design.weight * terms).sum() + 0.5 * (precision * theta**2).sum())

    assert objective(fit.theta[0]) == pytest.approx(fit.objective[0], rel=1e-9)
    other = minimize(objective, fit.theta[0] + 0.05, method="Nelder-Mead", options={"maxiter": 20000, "xatol": 1e-9})
    assert fit.objective[0] <= other.fun + 1e-6


def test_replicates_of_the_data_give_the_point_fit_and_missing_cells_weigh_nothing():
    design, errors = design_of([1.0, 2.0])
    point = fit_point(design, errors, FORMS["pow3"], "H1")
    with_gap = errors.copy()
    with_gap[7] = np.nan
    fits = fit_replicates(design, np.stack([errors, with_gap]), point)
    # The objective is flat near its minimum: parameters agree to about the root of its tolerance.
    np.testing.assert_allclose(fits.theta[0], point.theta[0], atol=1e-3)
    assert fits.converged.all()
    keep = np.arange(len(errors)) != 7
    without = Design(design.log_size[keep], design.arm[keep], design.weight[keep], design.c_max)
    direct = polish(without, errors[None, keep], FORMS["pow3"], "H1", point.theta)
    assert fits.objective[1] == pytest.approx(direct.objective[0], abs=1e-6)


def test_too_few_sizes_are_refused():
    design, errors = design_of([1.0, 2.0], SIZES[:3])
    with pytest.raises(ValueError, match="pow3 needs 5 sizes"):
        fit_point(design, errors, FORMS["pow3"], "H1")


def test_qaicc_prefers_the_form_that_made_the_data():
    # pow2 data: the floor buys nothing. pow3 data over a wide range: it buys much.
    wide = np.geomspace(16, 65536, 9)
    for floor, expected in ((0.0, "pow2"), (0.15, "pow3")):
        arm, log_size = np.repeat([0, 1], 9), np.tile(np.log(wide), 2)
        errors = np.array([power_law(2.0**a * np.exp(x), c=floor) for a, x in zip(arm, log_size, strict=True)])
        errors = errors * 0.5
        design = Design(log_size, arm, np.full(18, 1500.0), float(errors.min()))
        fits = [fit_point(design, errors, FORMS[name], "H1") for name in ("pow2", "pow3")]
        assert by_qaicc(fits, len(errors))[0][1].form.name == expected


@pytest.mark.parametrize("hypothesis", ["H0", "H1", "H2", "H3"])
def test_the_joint_models_gradients_agree_with_finite_differences(hypothesis):
    design, _ = design_of([1.0, 2.0, 4.0])
    form = FORMS["shift4"]
    theta = np.array([[-0.7, -1.2, 0.3, -0.5, 0.7, 1.3, 0.2, -0.4][: prior_precision(design, form, hypothesis).size]])
    _, jacobian = predict(design, form, hypothesis, theta)
    for index, direction in enumerate(np.eye(theta.shape[1])):
        up, down = (predict(design, form, hypothesis, theta + sign * 1e-6 * direction)[0] for sign in (1, -1))
        np.testing.assert_allclose(jacobian[..., index], (up - down) / 2e-6, atol=1e-8)


def test_a_floor_of_its_own_is_recovered_under_h3():
    sizes = np.geomspace(16, 65536, 9)
    log_size, arm = np.tile(np.log(sizes), 2), np.repeat([0, 1], 9)
    floors = np.where(arm == 1, 0.05, 0.15)
    errors = floors + 0.2 * (2.0**arm * np.exp(log_size) / 1024) ** -0.3
    design = Design(log_size, arm, np.full(18, 1e5), 0.2)
    fit = fit_point(design, errors, FORMS["pow3"], "H3")
    assert expit(fit.theta[0, -1]) == pytest.approx(0.05, rel=0.02)
    assert fit.form.natural(fit.theta[0], design.c_max)["c"] == pytest.approx(0.15, rel=0.02)
    assert np.exp(fit.log_multiplier(1)[0]) == pytest.approx(2.0, rel=0.02)


def test_a_curve_that_falls_like_an_exponential_is_fitted_by_a_shift_without_end():
    log_size, arm = np.tile(np.log(2.0 ** np.arange(3, 10)), 2), np.repeat([0, 1], 7)
    errors = 0.02 + 0.75 * np.exp(-np.exp(log_size) * 1.5**arm / 200)
    design = Design(log_size, arm, np.full(14, 1000.0), float(errors.min()))
    fit = fit_point(design, errors, FORMS["shift4"], "H1")
    assert fit.converged[0] and fit.num_agree == fit.num_starts
    assert np.exp(fit.log_multiplier(1)[0]) == pytest.approx(1.5, rel=0.01)
    np.testing.assert_allclose(fit.fitted[0], errors, atol=2e-3)
