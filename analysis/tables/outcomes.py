"""The 0/1 outcome of every run on every problem, as one checked block of arrays.

In: a long table with the columns algorithm, data_size, seed, problem, wrong, one row for each (run, problem). Out:
`Outcomes`. Every fault of the table is an error that names the row or the cell and the cure; nothing is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.tables.cells import (
    Cells,
    OutcomesError,
    arrange,
    check_columns,
    check_repeats,
    first,
    seed_groups,
    with_whole_numbers,
)

COLUMNS = ("algorithm", "data_size", "seed", "problem", "wrong")


@dataclass(frozen=True)
class Outcomes(Cells):
    """P cells (algorithm, data size) x R seeds x N problems.

    A run that is missing has present = False and zeros in wrong, which nothing reads.
    """

    algorithm: np.ndarray  # str [P]
    data_size: np.ndarray  # int [P], unique synthetic problems
    seeds: tuple[int, ...]  # R
    problems: tuple[str, ...]  # N
    wrong: np.ndarray  # uint8 [P, R, N]
    present: np.ndarray  # bool [P, R]
    seed_group: np.ndarray | None = None  # int [P], cells that have runs in common; None: all

    @property
    def num_problems(self) -> int:
        return len(self.problems)

    @property
    def run_errors(self) -> np.ndarray:
        return np.where(self.present, self.wrong.mean(axis=2), np.nan)

    @property
    def contents(self) -> tuple[tuple[str, ...], np.ndarray]:
        return self.problems, self.wrong

    def cut(self, cells: np.ndarray, seeds: np.ndarray) -> "Outcomes":
        return Outcomes(
            self.algorithm[cells],
            self.data_size[cells],
            tuple(self.seeds[index] for index in seeds),
            self.problems,
            self.wrong[cells][:, seeds],
            self.present[cells][:, seeds],
            self.group_of(cells),
        )


def from_table(table: pd.DataFrame, algorithms: Sequence[str] | None = None) -> Outcomes:
    """Check a long table and arrange it. algorithms: their order; by default that of their first rows."""
    check_columns(table, COLUMNS, "run and problem")
    table = with_whole_numbers(table[list(COLUMNS)], {"data_size": 1, "seed": 0})
    bad = ~pd.to_numeric(table["wrong"], errors="coerce").isin([0, 1])
    if bad.any():
        row = first(bad)
        raise OutcomesError(
            f"row {row}: wrong is {table['wrong'].iloc[row]}; it is 1 for a wrong answer and 0 for a right one."
        )
    table = table.assign(wrong=pd.to_numeric(table["wrong"]).astype(np.uint8))
    check_repeats(table, COLUMNS[:-1], "run and problem")
    order = tuple(algorithms) if algorithms is not None else tuple(dict.fromkeys(table["algorithm"]))
    cells, seeds, rows, columns = arrange(table, order)
    problems = tuple(sorted(set(table["problem"].astype(str))))
    depth = pd.Categorical(table["problem"].astype(str), categories=list(problems)).codes
    wrong = np.zeros((len(cells), len(seeds), len(problems)), np.uint8)
    count = np.zeros(wrong.shape, np.uint8)
    wrong[rows, columns, depth] = table["wrong"].to_numpy()
    count[rows, columns, depth] = 1
    _check_problems(count, cells, seeds, problems)
    group, places = seed_groups(count.max(axis=2) > 0)
    if group is not None:  # number the seeds anew within each group
        columns = places[group[rows], columns]
        seeds = tuple(range(int(columns.max()) + 1))
        wrong, count = np.zeros((2, len(cells), len(seeds), len(problems)), np.uint8)
        wrong[rows, columns, depth] = table["wrong"].to_numpy()
        count[rows, columns, depth] = 1
    return Outcomes(
        algorithm=np.array([cell[0] for cell in cells], dtype=object),
        data_size=np.array([cell[1] for cell in cells], dtype=np.int64),
        seeds=seeds,
        problems=problems,
        wrong=wrong,
        present=count.max(axis=2) > 0,
        seed_group=group,
    )


def _check_problems(
    count: np.ndarray, cells: Sequence[tuple[str, int]], seeds: Sequence[int], problems: Sequence[str]
) -> None:
    """Every run that is there was measured on all problems: otherwise cells do not compare."""
    incomplete = count.any(axis=2) & ~count.all(axis=2)
    if incomplete.any():
        cell, seed = np.argwhere(incomplete)[0]
        absent = problems[int(np.argmin(count[cell, seed]))]
        raise OutcomesError(
            f"the run ({cells[cell][0]}, data_size={cells[cell][1]}, seed={seeds[seed]}) has"
            f" {count[cell, seed].sum()} of {len(problems)} problems; {absent!r} is absent. All runs must be measured"
            " on the same problems: measure it again, or leave the run out."
        )
