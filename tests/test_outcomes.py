"""analysis.tables.outcomes: a table becomes one block of arrays, and every fault of it is an error that says where."""

import numpy as np
import pandas as pd
import pytest
from planted import planted

from analysis.tables.outcomes import OutcomesError, from_parts, from_table
from analysis.verdicts.outcome_file import read_outcomes


def table() -> pd.DataFrame:
    rows = [
        (algorithm, size, seed, problem, int(problem == "p1") if algorithm == "sft" else 0)
        for algorithm in ("sft", "rft")
        for size in (20, 10)
        for seed in (0, 1)
        for problem in ("p2", "p1", "p3", "p4")
    ]
    return pd.DataFrame(rows, columns=["algorithm", "data_size", "seed", "problem", "wrong"])


def test_a_table_becomes_cells_by_seeds_by_problems():
    outcomes = from_table(table())
    assert outcomes.wrong.shape == (4, 2, 4)
    assert outcomes.algorithms == ("sft", "rft")
    assert outcomes.data_size[outcomes.cells_of("sft")].tolist() == [10, 20]
    np.testing.assert_allclose(outcomes.errors, [0.25, 0.25, 0.0, 0.0])


def test_the_order_of_rows_changes_nothing():
    data = planted({"sft": 1.0, "rft": 2.0}, num_problems=20)
    shuffled = data.sample(frac=1.0, random_state=0)
    one, other = from_table(data), from_table(shuffled, algorithms=("sft", "rft"))
    assert (one.wrong == other.wrong).all()
    assert one.problems == other.problems


def test_a_missing_run_is_absent_not_zero():
    data = table()
    data = data[~((data["algorithm"] == "rft") & (data["data_size"] == 10) & (data["seed"] == 1))]
    outcomes = from_table(data)
    assert outcomes.num_missing == 1
    assert np.isnan(outcomes.run_errors[outcomes.index("rft", 10), 1])
    assert outcomes.errors[outcomes.index("rft", 10)] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.drop(columns="wrong"), "lacks the columns wrong"),
        (lambda data: data.iloc[:0], "no rows"),
        (lambda data: data.assign(wrong=[2, *data["wrong"].tolist()[1:]]), "row 0: wrong is 2"),
        (lambda data: data.assign(wrong=[np.nan, *data["wrong"].tolist()[1:]]), "row 0: wrong is missing"),
        (lambda data: data.assign(data_size="many"), "data_size is 'many'"),
        (lambda data: data.assign(data_size=0), "data_size is 0"),
        (lambda data: pd.concat([data, data.iloc[3:4]], ignore_index=True), "row 32 repeats algorithm=sft"),
        (lambda data: data.drop(index=5), r"\(sft, data_size=20, seed=1\) has 3 of 4 problems; 'p1' is absent"),
    ],
)
def test_a_fault_is_named_with_its_place(change, message):
    with pytest.raises(OutcomesError, match=message):
        from_table(change(table()))


def test_an_unknown_cell_is_an_error():
    with pytest.raises(OutcomesError, match="no cell"):
        from_table(table()).index("sft", 11)


def test_a_table_in_parts_is_the_table():
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=40, seed=5).sample(frac=1.0, random_state=0)
    rows = np.array_split(np.arange(len(table)), 7)
    whole, parted = from_table(table), from_parts(lambda: (table.iloc[part] for part in rows))
    for name in ("algorithm", "data_size", "seeds", "problems", "wrong", "present"):
        assert np.array_equal(getattr(whole, name), getattr(parted, name)), name


@pytest.mark.parametrize(("column", "value"), [("wrong", 2), ("data_size", 0)])
def test_a_fault_in_a_later_part_has_the_row_of_the_whole_table(column, value):
    table = planted({"sft": 1.0}, num_problems=20)
    table.loc[70, column] = value
    with pytest.raises(OutcomesError, match=rf"^row 70: {column} is {value}"):
        from_parts(lambda: (table.iloc[start : start + 32] for start in range(0, len(table), 32)))


def test_a_row_that_repeats_one_of_an_earlier_part_is_refused():
    table = planted({"sft": 1.0}, num_problems=20)
    table = pd.concat([table, table.iloc[[3]]], ignore_index=True)
    with pytest.raises(OutcomesError, match=rf"^row {len(table) - 1} repeats algorithm=sft"):
        from_parts(lambda: (table.iloc[start : start + 32] for start in range(0, len(table), 32)))


def test_a_parquet_file_without_rows_is_an_error_of_the_table(tmp_path):
    table().head(0).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(OutcomesError, match="the table has no rows"):
        read_outcomes(tmp_path / "empty.parquet", "sft")


def test_an_incomplete_run_is_named_by_its_own_seed_where_groups_share_none():
    rows = table()
    rows.loc[rows["algorithm"] == "rft", "seed"] += 7
    cut = rows[~((rows["algorithm"] == "rft") & (rows["seed"] == 8) & (rows["problem"] == "p3"))]
    with pytest.raises(OutcomesError, match=r"rft, data_size=10, seed=8\) has 3 of 4 problems; 'p3' is absent"):
        from_table(cut)
