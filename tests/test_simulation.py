"""analysis.planner.simulation: the planted error is the mean of what is drawn, and what seeds share they share."""

import numpy as np
import pytest
from planted import power_law

from analysis.planner.simulation import Noise, logit_of_mean, simulate

SIZES = (64, 256, 1024)


def test_cells_have_the_planted_error_on_average():
    noise = Noise(num_seeds=20, num_problems=4000)
    found = simulate({"sft": 1.0, "rft": 4.0}, SIZES, power_law, noise, np.random.default_rng(0))
    expected = [power_law(m * size) for m in (1.0, 4.0) for size in SIZES]
    # Shared difficulty of sd 2 in 4,000 problems: a standard error of about 0.005; three of them.
    np.testing.assert_allclose(found.errors, expected, atol=0.015)
    assert found.algorithms == ("sft", "rft")
    assert found.wrong.shape == (6, 20, 4000)


def test_the_same_generator_gives_the_same_study():
    pair = [simulate({"sft": 1.0}, SIZES, power_law, Noise(3, 50), np.random.default_rng(1)).wrong for _ in range(2)]
    assert (pair[0] == pair[1]).all()


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_share_of_a_seed_decides_how_its_runs_agree(share, expected):
    noise = Noise(num_seeds=200, num_problems=400, item_sd=0.0, run_sd=1.5, seed_share=share)
    runs = simulate({"sft": 1.0, "rft": 1.0}, (64,), power_law, noise, np.random.default_rng(0)).run_errors
    # A correlation over 200 seeds has a standard error of 0.07; binomial noise takes a little off 1.
    assert np.corrcoef(runs)[0, 1] == pytest.approx(expected, abs=0.2)


def test_without_spread_it_is_the_logit():
    assert logit_of_mean(np.array([0.2]), 0.0)[0] == pytest.approx(np.log(0.25))
