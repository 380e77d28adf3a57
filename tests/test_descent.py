"""descent: the optimum that scipy's trust region finds, under squares and Huber's loss, with weights and bounds."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from analysis.curves.descent import minimise

X = np.linspace(-2, 2, 25)


def model(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(t0) exp(-exp(t1) x) + t2."""
    fall = np.exp(theta[:, :1] - np.exp(theta[:, 1:2]) * X)
    return fall + theta[:, 2:], np.stack([fall, -np.exp(theta[:, 1:2]) * X * fall, np.ones_like(fall)], axis=2)


@pytest.mark.parametrize("delta", [np.inf, 0.02])
def test_it_finds_what_scipy_finds(delta):
    generator = np.random.default_rng(0)
    target = model(np.array([[0.2, -0.5, 0.3]]))[0] + 0.05 * generator.standard_t(2, size=(6, 25))
    weights = generator.integers(0, 4, size=(6, 25)).astype(float)
    bounds = (np.full(3, -5.0), np.full(3, 5.0))
    found, objective = minimise(model, target, weights, np.zeros((6, 3)), bounds, delta=delta)
    for row in range(6):
        kept = np.repeat(np.arange(25), weights[row].astype(int))
        best = least_squares(
            lambda theta, row=row, kept=kept: (model(theta[None])[0][0] - target[row])[kept],
            found[row] + 0.1,
            loss="linear" if np.isinf(delta) else "huber",
            f_scale=1.0 if np.isinf(delta) else delta,
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
            max_nfev=5000,
        )
        expected = best.cost * (2 if np.isinf(delta) else 1)
        assert objective[row] <= expected * (1 + 1e-8)
        np.testing.assert_allclose(found[row], best.x, atol=2e-4)


def test_a_parameter_stays_within_its_bounds():
    target = model(np.array([[0.2, -0.5, 0.3]]))[0]
    found, _ = minimise(
        model, target, np.ones((1, 25)), np.zeros((1, 3)), (np.full(3, -5.0), np.array([5.0, 5.0, 0.1]))
    )
    assert found[0, 2] == 0.1
