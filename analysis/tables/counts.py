"""How many problems every run got wrong, for tables that do not say which, so that no problems can be paired.

In: a long table with the columns algorithm, data_size, seed, num_problems, num_wrong, one row per run. Out:
`Counts`. Counts do not show whether two algorithms fail on the same hard problems, so problems are resampled for every
cell on its own. Intervals of multipliers are therefore wider than with item-level outcomes.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.tables.cells import (
    Cells,
    OutcomesError,
    arrange,
    check_columns,
    check_repeats,
    first,
    with_whole_numbers,
)

COLUMNS = ("algorithm", "data_size", "seed", "num_problems", "num_wrong")


@dataclass(frozen=True, kw_only=True)
class Counts(Cells):
    """P cells (algorithm, data size) x R seeds, each run with how many of its N problems it got wrong."""

    num_wrong: np.ndarray  # int [P, R]
    problems_per_run: int  # N

    @property
    def num_problems(self) -> int:
        return self.problems_per_run

    @property
    def run_errors(self) -> np.ndarray:
        return np.where(self.present, self.num_wrong / self.problems_per_run, np.nan)

    @property
    def contents(self) -> tuple[int, np.ndarray]:
        return self.problems_per_run, self.num_wrong

    def cut(self, cells: np.ndarray, seeds: np.ndarray) -> "Counts":
        return replace(self, num_wrong=self.num_wrong[cells][:, seeds], **self._layout_of(cells, seeds))


def from_counts(table: pd.DataFrame) -> Counts:
    """Check a table of counts and arrange it."""
    check_columns(table, COLUMNS, "run")
    least = {"data_size": 1, "seed": 0, "num_problems": 1, "num_wrong": 0}
    table = with_whole_numbers(table[list(COLUMNS)], least)
    bad = table["num_wrong"] > table["num_problems"]
    if bad.any():
        row = first(bad)
        raise OutcomesError(
            f"row {row}: num_wrong is {table['num_wrong'].iloc[row]} of {table['num_problems'].iloc[row]} problems; it"
            " counts the wrong ones among num_problems."
        )
    check_repeats(table, COLUMNS[:3], "run")
    num_problems = int(table["num_problems"].mode()[0])
    bad = table["num_problems"] != num_problems
    if bad.any():
        row = first(bad)
        where = f"{table['algorithm'].iloc[row]}, data_size={table['data_size'].iloc[row]}"
        raise OutcomesError(
            f"row {row}: the run ({where}, seed={table['seed'].iloc[row]}) has {table['num_problems'].iloc[row]}"
            f" problems, most have {num_problems}. All runs must be measured on the same problems: measure it again, or"
            " leave the run out."
        )
    layout, places = arrange(table, tuple(dict.fromkeys(table["algorithm"])))
    num_wrong = np.zeros(layout["present"].shape, np.int64)
    num_wrong[places] = table["num_wrong"].to_numpy()
    return Counts(num_wrong=num_wrong, problems_per_run=num_problems, **layout)
