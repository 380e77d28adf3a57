"""analysis.fitting.forms: values and analytic gradients of every form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.fitting.forms import FORMS, m4

LOG_X = np.log([[0.25, 0.5, 1.0, 2.0, 4.0]])
THETA = {
    "pow2": [-0.7, -1.2],
    "pow3": [-0.7, -1.2, 0.3],
    "shift4": [-0.7, -1.2, 0.3, -0.5],
    "m4": [-0.7, -1.2, 0.3, -0.5],
    "bnsl1": [-0.7, -1.2, 0.3, -0.4, 0.3, -0.8],
}
C_MAX = 0.2
BUILT = {**FORMS, "m4 with a known ceiling": m4(0.9)}


@pytest.mark.parametrize("name", BUILT)
def test_gradients_agree_with_finite_differences(name):
    form = BUILT[name]
    theta = np.array([THETA[form.name]])
    values = form.evaluate(theta, LOG_X, C_MAX)
    step = 1e-6
    for index in range(form.num_parameters):
        moved = [theta + sign * step * np.eye(form.num_parameters)[index] for sign in (1, -1)]
        up, down = (form.evaluate(item, LOG_X, C_MAX).value for item in moved)
        # Central differences are exact to about step^2; 1e-8 leaves room for rounding.
        np.testing.assert_allclose(values.by_theta[..., index], (up - down) / (2 * step), atol=1e-8)
    up, down = (form.evaluate(theta, LOG_X + sign * step, C_MAX).value for sign in (1, -1))
    np.testing.assert_allclose(values.by_log_x, (up - down) / (2 * step), atol=1e-8)


def test_the_forms_are_their_formulas():
    a, b, c, d, x = 0.5, 0.3, 0.05, 0.7, np.exp(LOG_X)
    logit = np.log(c / C_MAX / (1 - c / C_MAX))
    expected = {"pow2": a * x**-b, "pow3": c + a * x**-b, "shift4": c + a * ((x + d) / (1 + d)) ** -b}
    for name, curve in expected.items():
        form = FORMS[name]
        slope = b / (1 + d) if name == "shift4" else b
        theta = np.array([[np.log(a), np.log(slope), logit, np.log(d)]])
        values = form.evaluate(theta[:, : form.num_parameters], LOG_X, C_MAX)
        np.testing.assert_allclose(values.value, curve, rtol=1e-12)
        natural = form.natural(theta[0, : form.num_parameters], C_MAX)
        assert natural["a"] == pytest.approx(a) and natural["b"] == pytest.approx(b)
        assert natural.get("c", c) == pytest.approx(c)
        assert natural.get("d", d) == pytest.approx(d)


def test_a_broken_power_law_is_its_formula():
    theta = np.array([THETA["bnsl1"]])
    p = FORMS["bnsl1"].natural(theta[0], C_MAX)
    x = np.exp(LOG_X)
    expected = p["c"] + p["a"] * x ** -p["b"] * (1 + (x / p["d"]) ** (1 / p["f"])) ** (-p["c1"] * p["f"])
    np.testing.assert_allclose(FORMS["bnsl1"].evaluate(theta, LOG_X, C_MAX).value, expected, rtol=1e-12)


@given(st.floats(-8, 4), st.floats(-3, 1), st.floats(-6, 6), st.floats(-3, 3), st.floats(0.5, 1.0))
def test_m4_solves_its_equation_between_its_floor_and_its_ceiling(log_a, log_b, floor, alpha, ceiling):
    form = m4(ceiling)
    theta = np.array([[log_a, log_b, floor, alpha]])
    e = form.evaluate(theta, LOG_X, C_MAX).value
    p = form.natural(theta[0], C_MAX)
    assert (e >= p["c"]).all() and (e <= ceiling).all()
    inside = (e - p["c"] > 1e-6) & (ceiling - e > 1e-6)
    left = np.log(np.maximum(e - p["c"], 1e-300)) - p["alpha"] * np.log(np.maximum(ceiling - e, 1e-300))
    # 1e-6 from an end, rounding of 1e-16 in e is 1e-10 in its logarithm; alpha is at most 12.
    np.testing.assert_allclose(left[inside], (log_a - np.exp(log_b) * LOG_X)[inside], atol=1e-7)


def test_m4_without_its_ceilings_exponent_is_the_power_law_with_floor():
    # alpha = e^-2.5 at the bound; with a ceiling of 1 and errors near 0 the ceiling's factor is 1.
    theta = np.array([[-9.0, -1.2, 0.3]])
    near = FORMS["m4"].evaluate(np.array([[-9.0, -1.2, 0.3, -1e3]]), LOG_X, 1e-6).value
    np.testing.assert_allclose(near, FORMS["pow3"].evaluate(theta, LOG_X, 1e-6).value, rtol=1e-4)


def test_parameters_far_out_stay_inside_of_their_bounds():
    found = FORMS["bnsl1"].natural(np.array([-0.7, -1.2, 0.3, 1e6, -1e6, 1e6]), C_MAX)
    assert found["c1"] == pytest.approx(4.0)
    assert found["d"] == pytest.approx(np.exp(-8.0))
    assert found["f"] == pytest.approx(np.exp(3.0))
    values = FORMS["bnsl1"].evaluate(np.array([[-0.7, -1.2, 0.3, 1e6, -1e6, 1e6]]), LOG_X, C_MAX)
    assert np.isfinite(values.by_theta).all()


def test_a_large_shift_is_an_exponential_with_floor():
    x = np.exp(LOG_X)
    for log_d, tolerance in ((12.0, 1e-4), (40.0, 1e-12)):
        form, theta = FORMS["shift4"], np.array([[-0.7, -1.2, 0.3, log_d]])
        values = form.evaluate(theta, LOG_X, C_MAX)
        floor = form.natural(theta[0], C_MAX)["c"]
        expected = floor + np.exp(-0.7 - np.exp(-1.2) * (x - 1))
        np.testing.assert_allclose(values.value, expected, rtol=tolerance)
        assert np.abs(values.by_theta[..., 3]).max() < 1.1 * np.exp(-log_d)  # what is left to gain by a larger shift


def test_far_off_trial_steps_of_a_shift_stay_finite():
    for log_d in (-300.0, -1e-9, 1e-9, 300.0):
        values = FORMS["shift4"].evaluate(np.array([[-0.7, -1.2, 0.3, log_d]]), np.array([[-900.0, 0.0, 900.0]]), C_MAX)
        assert all(np.isfinite(item).all() for item in values)


def test_a_shift_near_zero_is_the_power_law_with_floor():
    shifted = FORMS["shift4"].evaluate(np.array([[-0.7, -1.2, 0.3, -30.0]]), LOG_X, C_MAX).value
    np.testing.assert_allclose(shifted, FORMS["pow3"].evaluate(np.array([[-0.7, -1.2, 0.3]]), LOG_X, C_MAX).value)
