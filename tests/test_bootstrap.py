"""analysis.fitting.bootstrap: what is resampled, what is shared, and what is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted import planted

from analysis.fitting.bootstrap import crossed_bootstrap, overdispersion
from analysis.fitting.run_noise import run_noise
from analysis.tables.outcomes import from_table


def outcomes_of(**settings):
    return from_table(planted({"sft": 1.0, "rft": 2.0}, **settings))


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    outcomes = outcomes_of(num_problems=100)
    one, same, other = (crossed_bootstrap(outcomes, 50, seed) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_fewer_than_three_seeds_are_refused():
    with pytest.raises(ValueError, match="there are 2 seeds"):
        crossed_bootstrap(outcomes_of(num_seeds=2, num_problems=20), 10, 0)


def test_draws_centre_on_the_data():
    outcomes = outcomes_of(num_problems=200)
    draws = crossed_bootstrap(outcomes, 2000, 0)
    # Standard error of a mean of 2,000 draws with sd about 0.03 is 0.0007; five of them.
    np.testing.assert_allclose(draws.mean(axis=0), outcomes.errors, atol=0.004)


def equal_runs(outcomes):
    """The same with the first run's outcomes in every run, so that there is no run noise to draw."""
    return dataclasses.replace(outcomes, wrong=np.repeat(outcomes.wrong[:, :1], outcomes.wrong.shape[1], axis=1))


def test_problems_are_shared_by_all_cells():
    # Two algorithms with equal outcomes and no run noise have equal draws: their difference has no noise.
    table = planted({"sft": 1.0}, num_problems=100)
    outcomes = equal_runs(from_table(pd.concat([table, table.assign(algorithm="rft")], ignore_index=True)))
    draws = crossed_bootstrap(outcomes, 100, 0)
    np.testing.assert_array_equal(draws[:, outcomes.cells_of("sft")], draws[:, outcomes.cells_of("rft")])
    assert draws.std(axis=0).min() > 0


def test_run_noise_is_told_from_luck():
    # Run effects of sd .4 in 2,000 problems: 27 cells x 3 runs know a variance to about a fifth of it.
    noisy = from_table(planted({"sft": 1.0}, np.geomspace(64, 4096, 27).astype(int), num_problems=2000, run_sd=0.4))
    found = run_noise(noisy, "sft")
    assert np.sqrt(found.variance + (found.of_seed**2).sum() / 2) == pytest.approx(0.4, rel=0.25)
    # slope about .1 and 2,000 problems: luck has a variance of 1 / 200 in logits, .4 is about 5.7 times its sd.
    assert 3.5 < found.over_luck < 8
    calm = from_table(planted({"sft": 1.0}, np.geomspace(64, 4096, 27).astype(int), num_problems=500, run_sd=1e-9))
    assert run_noise(calm, "sft").over_luck < 0.5


def test_a_mean_of_three_noisy_runs_has_the_spread_of_t_not_of_three_points():
    noisy = from_table(planted({"sft": 1.0}, num_problems=2000, item_sd=0.5, run_sd=0.4, seed=3))
    draws = crossed_bootstrap(noisy, 4000, 0)
    outermost = np.nanmin(noisy.run_errors, axis=1), np.nanmax(noisy.run_errors, axis=1)
    beyond = ((draws < outermost[0]) | (draws > outermost[1])).mean(axis=0)
    assert beyond.min() > 0.01  # resampled runs never leave their own range
    # Half the width of the 95 % interval over the sd of a mean of three: that of t, between 1.96 and t of 2, 4.3.
    half = np.diff(np.quantile(draws, [0.025, 0.975], axis=0), axis=0)[0] / 2
    assert 1.8 < np.median(half / (noisy.run_errors.std(axis=1, ddof=1).mean() / np.sqrt(3))) < 4.3


def test_what_the_runs_of_a_seed_share_cancels_between_algorithms():
    table = planted({"sft": 1.0, "rft": 1.0}, num_problems=2000, item_sd=0.5, run_sd=1e-9, seed=1)
    rng = np.random.default_rng(0)
    shared = np.zeros(len(table), int)
    for seed, lift in enumerate((0.0, 0.15, 0.3)):
        here = ((table["seed"] == seed) & (table["wrong"] == 0)).to_numpy()
        shared[here] = rng.random(int(here.sum())) < lift
    outcomes = from_table(table.assign(wrong=table["wrong"] + shared))
    draws = crossed_bootstrap(outcomes, 2000, 0)
    one, other = (draws[:, outcomes.cells_of(name)] for name in ("sft", "rft"))
    assert ((one - other).std(axis=0) < 0.4 * one.std(axis=0)).all()


def test_a_cells_draws_are_the_same_bits_in_any_company():
    table = planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_problems=60)
    alone, all_ = (from_table(part) for part in (table[table["algorithm"] != "dpo"], table))
    draws = [crossed_bootstrap(outcomes, 50, 0) for outcomes in (alone, all_)]
    for name in ("sft", "rft"):
        np.testing.assert_array_equal(draws[0][:, alone.cells_of(name)], draws[1][:, all_.cells_of(name)])


def test_a_missing_run_leaves_numbers_everywhere():
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=30)
    gone = (table["algorithm"] == "rft") & (table["data_size"] == 64) & (table["seed"] > 0)
    outcomes = from_table(table[~gone])
    drawn = crossed_bootstrap(outcomes, 400, 0)
    assert np.isfinite(drawn).all()
    one, three = (drawn[:, outcomes.index("rft", size)].std() for size in (64, 128))
    assert one > three  # a mean of one run scatters more than one of three


def test_overdispersion_is_one_for_independent_binomial_runs_and_grows_with_run_noise():
    # No item difficulty and no run effect: between-run variance is binomial.
    calm = from_table(planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_seeds=8, item_sd=0.0, run_sd=1e-9))
    noisy = from_table(planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_seeds=8, item_sd=0.0, run_sd=0.5))
    # 105 degrees of freedom: the ratio's standard error is sqrt(2 / 105) = 0.14; the trend's ends have about twice it.
    np.testing.assert_allclose(overdispersion(calm), 1.0, atol=0.6)
    assert overdispersion(noisy).min() > 5
    assert overdispersion(calm).min() >= 0.3
