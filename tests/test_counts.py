"""analysis.tables.counts and cells: tables without items, and tables whose algorithms share no seeds."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted import planted

from analysis.fitting.bootstrap import crossed_bootstrap
from analysis.tables.cells import OutcomesError
from analysis.tables.counts import from_counts
from analysis.tables.outcomes import from_table


def items(**settings) -> pd.DataFrame:
    return planted({"sft": 1.0, "rft": 2.0}, sizes=(64, 256), num_problems=100, **settings)


def counted(table: pd.DataFrame) -> pd.DataFrame:
    groups = table.groupby(["algorithm", "data_size", "seed"], sort=False)["wrong"]
    return groups.agg(num_problems="size", num_wrong="sum").reset_index()


def test_counts_give_the_same_errors_as_the_items_they_count():
    data = items()
    one, other = from_table(data), from_counts(counted(data))
    np.testing.assert_allclose(one.run_errors, other.run_errors)
    assert one.num_problems == other.num_problems == 100
    assert one.algorithms == other.algorithms


def test_a_missing_run_of_counts_is_absent_not_zero():
    counts = from_counts(counted(items()).drop(index=4))
    assert counts.num_missing == 1
    assert np.isnan(counts.run_errors).sum() == 1


def test_without_pairing_differences_are_less_certain():
    data = items(num_seeds=4)
    spreads = []
    for outcomes in (from_table(data), from_counts(counted(data))):
        drawn = crossed_bootstrap(outcomes, 2000, 0)
        spreads.append((drawn[:, outcomes.index("sft", 64)] - drawn[:, outcomes.index("rft", 64)]).std())
    assert spreads[1] > 1.2 * spreads[0]


def test_a_cell_is_no_more_certain_for_having_more_runs_on_the_same_problems():
    counts = from_counts(counted(items(num_seeds=4)))
    equal = np.repeat(counts.num_wrong[:, :1], 4, axis=1)  # runs that do not differ: what is left are the problems
    counts = dataclasses.replace(counts, num_wrong=equal)
    drawn = crossed_bootstrap(counts, 4000, 0)
    binomial = np.sqrt(counts.errors * (1 - counts.errors) / 100)
    np.testing.assert_allclose(drawn.mean(axis=0), counts.errors, atol=0.005)
    np.testing.assert_allclose(drawn.std(axis=0), binomial, rtol=0.06)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.drop(columns="num_wrong"), "lacks the columns num_wrong"),
        (lambda data: data.assign(num_wrong=101), "row 0: num_wrong is 101 of 100 problems"),
        (lambda data: data.assign(num_wrong=-1), "row 0: num_wrong is -1"),
        (lambda data: data.assign(num_wrong=[1.5, *data["num_wrong"].tolist()[1:]]), "row 0: num_wrong is 1.5"),
        (lambda data: pd.concat([data, data.iloc[2:3]], ignore_index=True), "row 12 repeats algorithm=sft"),
        (
            lambda data: data.assign(num_problems=[100, 99, *data["num_problems"].tolist()[2:]]),
            r"row 1: the run \(sft, data_size=64, seed=1\) has 99 problems, most have 100",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(change, message):
    with pytest.raises(OutcomesError, match=message):
        from_counts(change(counted(items())))


def test_seeds_that_algorithms_do_not_share_are_numbered_anew_and_nothing_counts_as_missing():
    data = items()
    data.loc[data["algorithm"] == "rft", "seed"] += 10
    for outcomes in (from_table(data), from_counts(counted(data))):
        assert outcomes.seeds == (0, 1, 2)
        assert outcomes.num_missing == 0
        assert outcomes.groups.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(from_table(data).run_errors, from_table(items()).run_errors)


def test_cells_without_common_seeds_draw_seeds_of_their_own():
    data = items(num_seeds=4)
    for seed in range(4):  # a seed makes all runs equally bad
        worse = (data["seed"] == seed) & (data["problem"].str[1:].astype(int) < 20 * seed)
        data.loc[worse, "wrong"] = 1
    apart = data.assign(seed=data["seed"].where(data["algorithm"] == "sft", data["seed"] + 10))
    correlations = []
    for table in (counted(data), counted(apart)):
        outcomes = from_counts(table)
        drawn = crossed_bootstrap(outcomes, 4000, 0, "sft")
        correlations.append(np.corrcoef(*(drawn[:, outcomes.index(name, 64)] for name in ("sft", "rft")))[0, 1])
    assert correlations[0] > 0.3
    assert abs(correlations[1]) < 0.1


def test_groups_may_have_different_numbers_of_seeds():
    data = items(num_seeds=4)
    data.loc[data["algorithm"] == "rft", "seed"] += 10
    outcomes = from_table(data[data["seed"] != 13])
    assert outcomes.num_missing == 0
    assert np.isfinite(crossed_bootstrap(outcomes, 200, 0)).all()


def test_a_group_of_two_seeds_is_refused_by_name():
    data = items(num_seeds=4)
    data.loc[data["algorithm"] == "rft", "seed"] += 10
    with pytest.raises(ValueError, match="2 seeds of rft, which shares no seed with other cells"):
        crossed_bootstrap(from_table(data[data["seed"] < 12]), 200, 0)
