"""analysis.fitting.bootstrap: what is resampled, what is shared, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from planted import planted

from analysis.fitting.bootstrap import crossed_bootstrap, overdispersion
from analysis.tables.outcomes import from_table


def outcomes_of(**settings):
    return from_table(planted({"sft": 1.0, "rft": 2.0}, **settings))


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    outcomes = outcomes_of(num_problems=100)
    one, same, other = (crossed_bootstrap(outcomes, 50, seed).crossed for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_fewer_than_three_seeds_are_refused():
    with pytest.raises(ValueError, match="there are 2 seeds"):
        crossed_bootstrap(outcomes_of(num_seeds=2, num_problems=20), 10, 0)


def test_draws_centre_on_the_data():
    outcomes = outcomes_of(num_problems=200)
    draws = crossed_bootstrap(outcomes, 2000, 0)
    # Standard error of a mean of 2,000 draws with sd about 0.03 is 0.0007; five of them.
    np.testing.assert_allclose(draws.crossed.mean(axis=0), outcomes.errors, atol=0.004)
    np.testing.assert_allclose(draws.problems_only.mean(axis=0), outcomes.errors, atol=0.004)


def test_problems_are_shared_by_all_cells():
    # Two algorithms with equal outcomes have equal draws: their difference has no noise.
    table = planted({"sft": 1.0}, num_problems=100)
    twin = table.assign(algorithm="rft")
    outcomes = from_table(pd.concat([table, twin], ignore_index=True))
    draws = crossed_bootstrap(outcomes, 100, 0).crossed
    np.testing.assert_array_equal(draws[:, outcomes.cells_of("sft")], draws[:, outcomes.cells_of("rft")])


def test_one_way_draws_vary_in_one_way():
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=60)
    # Equal runs: resampling seeds changes nothing.
    first = table[table["seed"] == 0].drop(columns="seed")
    equal = pd.concat([first.assign(seed=seed) for seed in range(3)], ignore_index=True)
    outcomes = from_table(equal)
    draws = crossed_bootstrap(outcomes, 50, 0)
    np.testing.assert_allclose(draws.seeds_only, np.broadcast_to(outcomes.errors, draws.seeds_only.shape))
    assert draws.problems_only.std(axis=0).min() > 0


def test_a_cell_without_any_drawn_run_is_nan():
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=30)
    gone = (table["algorithm"] == "rft") & (table["data_size"] == 64) & (table["seed"] > 0)
    outcomes = from_table(table[~gone])
    drawn = crossed_bootstrap(outcomes, 400, 0).crossed[:, outcomes.index("rft", 64)]
    # Seed 0 is in none of three drawn with chance (2/3)^3 = 0.296.
    assert np.isnan(drawn).mean() == pytest.approx(8 / 27, abs=0.08)


def test_overdispersion_is_one_for_independent_binomial_runs_and_grows_with_run_noise():
    # No item difficulty and no run effect: between-run variance is binomial.
    calm = from_table(planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_seeds=8, item_sd=0.0, run_sd=1e-9))
    noisy = from_table(planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_seeds=8, item_sd=0.0, run_sd=0.5))
    # 105 degrees of freedom: the ratio's standard error is sqrt(2 / 105) = 0.14; the trend's ends have about twice it.
    np.testing.assert_allclose(overdispersion(calm), 1.0, atol=0.6)
    assert overdispersion(noisy).min() > 5
    assert overdispersion(calm).min() >= 0.3
