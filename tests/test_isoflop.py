"""isoflop: the analytic exponents of planted surfaces, and budgets that have no minimum."""

import numpy as np
import pytest

from analysis.curves.isoflop import bootstrap_isoflop, fit_isoflop
from analysis.curves.surface import Surface

BUDGETS = np.geomspace(1e18, 1e22, 6)


def best_size(surface: Surface, compute: np.ndarray) -> np.ndarray:
    """N that minimises the surface where C = 6 N D: dL/dN = 0 (Hoffmann et al. 2022, eq. 4)."""
    a, b, _, alpha, beta = surface
    return (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * (compute / 6) ** (beta / (alpha + beta))


def points(surface: Surface, around: np.ndarray, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute, N and loss, at multiples of the best N."""
    compute = np.repeat(BUDGETS, len(around))
    size = best_size(surface, compute) * np.tile(around, len(BUDGETS))
    loss = surface.predict(size, compute / (6 * size))
    return compute, size, loss + np.random.default_rng(0).normal(0, noise, len(loss))


@pytest.mark.parametrize(("alpha", "beta"), [(0.35, 0.37), (0.3, 0.5), (0.5, 0.3)])
def test_a_planted_surface_gives_the_analytic_exponent(alpha, beta):
    surface = Surface(480.0, 2100.0, 1.8, alpha, beta)
    compute, size, loss = points(surface, np.geomspace(0.2, 5, 9))
    fit = fit_isoflop(compute, size, loss, np.ones(len(loss)))
    assert fit.exponent == pytest.approx(beta / (alpha + beta), abs=1e-6)
    data_size = compute / (6 * size)
    assert fit_isoflop(compute, data_size, loss, np.ones(len(loss))).exponent == pytest.approx(
        alpha / (alpha + beta), abs=1e-6
    )


def test_with_one_exponent_the_minima_themselves_are_exact():
    surface = Surface(480.0, 480.0, 1.8, 0.36, 0.36)
    fit = fit_isoflop(*points(surface, np.geomspace(0.2, 5, 9)), np.ones(54))
    np.testing.assert_allclose(fit.sizes, best_size(surface, BUDGETS), rtol=1e-6)
    assert fit.size(1e23) == pytest.approx((1e23 / 6) ** 0.5, rel=1e-6)


def test_a_budget_without_a_minimum_is_left_out_and_said():
    compute, size, loss = points(Surface(480.0, 2100.0, 1.8, 0.35, 0.37), np.geomspace(0.2, 5, 9))
    falls = compute == BUDGETS[0]
    loss = np.where(falls, 10 * size**-0.1, loss)
    fit = fit_isoflop(compute, size, loss, np.ones(len(loss)))
    np.testing.assert_array_equal(fit.budgets, BUDGETS[1:])
    assert fit.left_out == ("1e+18 has no minimum between its sizes",)
    assert np.isnan(fit.fitted[falls]).all() and np.isfinite(fit.fitted[~falls]).all()


def test_intervals_cover_and_weights_quieten_noisy_points():
    surface = Surface(480.0, 2100.0, 1.8, 0.35, 0.37)
    truth, hits = 0.37 / 0.72, 0
    compute, size, loss = points(surface, np.geomspace(0.2, 5, 9))
    sd = np.where(np.arange(len(loss)) % 3 == 0, 3e-3, 3e-4)
    misses = {"weighted": [], "plain": []}
    for seed in range(60):
        noisy = loss + np.random.default_rng(seed).normal(0, sd)
        fit = fit_isoflop(compute, size, noisy, sd**-2.0)
        low, high = np.quantile(bootstrap_isoflop(fit, noisy, sd**-2.0, 300, seed).exponents, [0.025, 0.975])
        hits += low < truth < high
        misses["weighted"].append(fit.exponent - truth)
        misses["plain"].append(fit_isoflop(compute, size, noisy, np.ones(len(noisy))).exponent - truth)
    assert hits >= 52  # of 60 at 95 %: fewer has a chance of 1 in 500
    assert np.std(misses["weighted"]) < np.std(misses["plain"]) / 2


def test_too_few_budgets_or_points_are_refused_with_the_cure():
    surface = Surface(480.0, 2100.0, 1.8, 0.35, 0.37)
    compute, size, loss = points(surface, np.geomspace(0.2, 5, 9))
    two = compute < BUDGETS[2]
    with pytest.raises(ValueError, match="2 budgets of compute have a minimum, and an exponent needs 3"):
        fit_isoflop(compute[two], size[two], loss[two], np.ones(18))
    with pytest.raises(ValueError, match="through which a parabola always goes"):
        fit_isoflop(*points(surface, np.array([0.2, 1.0, 5.0])), np.ones(18))
