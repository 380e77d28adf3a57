"""analysis.forms: values and analytic gradients of every form."""

import numpy as np
import pytest

from analysis.forms import FORMS

LOG_X = np.log([[0.25, 0.5, 1.0, 2.0, 4.0]])
THETA = {"pow2": [-0.7, -1.2], "pow3": [-0.7, -1.2, 0.3], "shift4": [-0.7, -1.2, 0.3, -0.5]}
C_MAX = 0.2


@pytest.mark.parametrize("name", FORMS)
def test_gradients_agree_with_finite_differences(name):
    form, theta = FORMS[name], np.array([THETA[name]])
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
    expected = {"pow2": a * x**-b, "pow3": c + a * x**-b, "shift4": c + a * (x + d) ** -b}
    theta = np.array([[np.log(a), np.log(b), logit, np.log(d)]])
    for name, form in FORMS.items():
        values = form.evaluate(theta[:, : form.num_parameters], LOG_X, C_MAX)
        np.testing.assert_allclose(values.value, expected[name], rtol=1e-12)
        natural = form.natural(theta[0, : form.num_parameters], C_MAX)
        assert natural["a"] == pytest.approx(a)
        assert natural.get("c", c) == pytest.approx(c)
        assert natural.get("d", d) == pytest.approx(d)


def test_a_shift_near_zero_is_the_power_law_with_floor():
    shifted = FORMS["shift4"].evaluate(np.array([[-0.7, -1.2, 0.3, -30.0]]), LOG_X, C_MAX).value
    np.testing.assert_allclose(shifted, FORMS["pow3"].evaluate(np.array([[-0.7, -1.2, 0.3]]), LOG_X, C_MAX).value)
