"""surface: the published optimum of Chinchilla's data, planted surfaces, and starts far from the optimum."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.curves.surface import Surface, bootstrap_surface, fit_surface, hold_out_surface

EPOCH = Path(__file__).parents[2] / "shared" / "known_answers" / "epoch_chinchilla" / "svg_extracted_data.csv"
HOFFMANN = Surface(406.4, 410.7, 1.6934, 0.33917, 0.28491)
PLANTED = Surface(480.0, 2100.0, 1.82, 0.347, 0.367)
needs_epoch = pytest.mark.skipif(not EPOCH.exists(), reason="the digitised points of Hoffmann et al. are not here")


def chinchilla(dropped: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """N, D, loss and FLOPs without the rows of highest loss, as Besiroglu et al. 2024 prepare them."""
    table = pd.read_csv(EPOCH)
    loss = table["loss"].to_numpy()
    table = table[loss < np.sort(loss)[-dropped]]
    num_params, flops = table["Model Size"].to_numpy(), table["Training FLOP"].to_numpy()
    return num_params, flops / (6 * num_params), table["loss"].to_numpy(), flops


def planted(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    grid = np.meshgrid(np.geomspace(5e7, 1e10, 8), np.geomspace(1e9, 3e11, 8))
    num_params, data_size = (axis.ravel() for axis in grid)
    loss = PLANTED.predict(num_params, data_size)
    return num_params, data_size, loss * np.exp(np.random.default_rng(seed).normal(0, noise, len(loss)))


@needs_epoch
def test_chinchilla_data_give_the_published_optimum():
    num_params, data_size, loss, _ = chinchilla()
    assert len(loss) == 240
    fit = fit_surface(num_params, data_size, loss)
    assert fit.objective <= 1.01827403e-3 * (1 + 1e-6)
    assert abs(fit.surface.alpha - 0.34731) < 3e-4
    assert abs(fit.surface.beta - 0.36717) < 3e-4
    assert abs(fit.surface.E - 1.81722) < 3e-4
    assert fit.num_agree == fit.num_starts


@needs_epoch
def test_from_hoffmanns_values_it_does_not_stop_where_it_starts():
    num_params, data_size, loss, _ = chinchilla()
    fit = fit_surface(num_params, data_size, loss, starts=[HOFFMANN])
    assert fit.objective < 1.02e-3


@needs_epoch
def test_least_squares_on_217_points_agrees_to_four_digits():
    num_params, data_size, loss, flops = chinchilla()
    kept = flops < 1e21
    assert kept.sum() == 217
    fit = fit_surface(num_params[kept] / 1e6, data_size[kept] / 1e9, loss[kept], kind="squares")
    np.testing.assert_allclose(fit.surface, (4.0005, 1.0509, 1.9051, 0.3511, 0.4587), atol=1e-4)
    assert fit.objective == pytest.approx(0.062414, abs=1e-6)


@needs_epoch
def test_keeping_the_outliers_moves_beta_as_published():
    table = pd.read_csv(EPOCH)
    num_params = table["Model Size"].to_numpy()
    data_size = table["Training FLOP"].to_numpy() / (6 * num_params)
    fit = fit_surface(num_params, data_size, table["loss"].to_numpy())
    assert fit.objective == pytest.approx(1.8260105e-3, rel=1e-6)
    assert fit.surface.beta == pytest.approx(0.453049, abs=3e-4)


@needs_epoch
def test_bootstrap_intervals_are_near_the_published_ones():
    num_params, data_size, loss, _ = chinchilla()
    fit = fit_surface(num_params, data_size, loss)
    draws = np.concatenate(list(bootstrap_surface(num_params, data_size, loss, fit, 200, 0)))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(low[2:], (1.769, 0.317, 0.331), atol=0.015)
    np.testing.assert_allclose(high[2:], (1.871, 0.373, 0.415), atol=0.015)


@pytest.mark.parametrize("kind", ["huber", "squares"])
def test_a_planted_surface_is_found_exactly(kind):
    fit = fit_surface(*planted(), kind=kind)
    np.testing.assert_allclose(fit.surface, PLANTED, rtol=1e-4)


@pytest.mark.parametrize("kind", ["huber", "squares"])
def test_a_planted_shared_exponent_is_found_exactly(kind):
    shared = Surface(480.0, 2100.0, 1.82, 0.36, 0.36)
    num_params, data_size, _ = planted()
    fit = fit_surface(num_params, data_size, shared.predict(num_params, data_size), kind=kind, shared=True)
    np.testing.assert_allclose(fit.surface, shared, rtol=1e-4)
    assert fit.surface.compute_exponent == 0.5


def test_one_exponent_never_fits_better_than_two():
    data = planted(noise=0.01)
    assert fit_surface(*data, shared=True).objective >= fit_surface(*data).objective


@pytest.mark.parametrize("kind", ["huber", "squares"])
def test_whole_weights_count_as_repeated_points(kind):
    data = planted(noise=0.01)
    counts = np.random.default_rng(1).integers(1, 4, len(data[0]))
    repeated = fit_surface(*(np.repeat(values, counts) for values in data), kind=kind)
    once = fit_surface(*data, kind=kind, weights=counts.astype(float))
    np.testing.assert_allclose(once.surface, repeated.surface, rtol=1e-4)
    assert once.objective * counts.mean() == pytest.approx(repeated.objective, rel=1e-8)


def test_a_far_start_ends_in_the_same_flat_valley():
    data = planted(noise=0.01)
    best, far = fit_surface(*data), fit_surface(*data, starts=[HOFFMANN])
    assert far.objective == pytest.approx(best.objective, rel=1e-6)
    assert best.num_agree >= 2


def test_units_of_n_and_d_do_not_matter():
    num_params, data_size, loss = planted(noise=0.01)
    one, other = fit_surface(num_params, data_size, loss), fit_surface(num_params / 1e6, data_size / 1e9, loss)
    assert one.objective == pytest.approx(other.objective, rel=1e-8)
    assert one.surface.alpha == pytest.approx(other.surface.alpha, abs=1e-5)


def test_the_interval_holds_planted_exponents_and_repeats_with_its_seed():
    data = planted(noise=0.01)
    fit = fit_surface(*data)
    draws = np.concatenate(list(bootstrap_surface(*data, fit, 100, seed=3)))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    assert ((low < PLANTED) & (PLANTED < high)).all()
    np.testing.assert_array_equal(draws, np.concatenate(list(bootstrap_surface(*data, fit, 100, seed=3))))


def test_the_largest_points_are_predicted_better_than_by_the_last_losses():
    held = hold_out_surface(*planted(noise=0.003))
    assert held.num_left_out == 6
    assert held.surface < held.last1 / 2


def test_the_compute_exponent_follows_from_both():
    assert PLANTED.compute_exponent == pytest.approx(0.367 / (0.347 + 0.367))


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="needs 6"):
        fit_surface(*(values[:5] for values in planted()))
