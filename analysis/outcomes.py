"""The 0/1 outcome of every run on every problem, as one checked block of arrays.

In: a long table with the columns algorithm, data_size, seed, problem, wrong, one row for each (run, problem). Out:
`Outcomes`. Every fault of the table is an error that names the row or the cell and the cure; nothing is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

COLUMNS = ("algorithm", "data_size", "seed", "problem", "wrong")


class OutcomesError(ValueError):
    """A table of outcomes is wrong; the message names the row or cell and the cure."""


@dataclass(frozen=True)
class Outcomes:
    """P cells (algorithm, data size) x R seeds x N problems.

    A run that is missing has present = False and zeros in wrong, which nothing reads.
    """

    algorithm: np.ndarray  # str [P]
    data_size: np.ndarray  # int [P], unique synthetic problems
    seeds: tuple[int, ...]  # R
    problems: tuple[str, ...]  # N
    wrong: np.ndarray  # uint8 [P, R, N]
    present: np.ndarray  # bool [P, R]

    @property
    def algorithms(self) -> tuple[str, ...]:
        """In the order of the table."""
        return tuple(dict.fromkeys(self.algorithm))

    @property
    def num_problems(self) -> int:
        return len(self.problems)

    @property
    def num_missing(self) -> int:
        """Runs that some other cell's seed promises and that are not there."""
        return int((~self.present).sum())

    @property
    def run_errors(self) -> np.ndarray:
        """float64 [P, R], error of each run; a missing run's is NaN, so that no mean can forget it."""
        return np.where(self.present, self.wrong.mean(axis=2), np.nan)

    @property
    def errors(self) -> np.ndarray:
        """float64 [P], mean error of each cell over the runs that are present."""
        return np.nanmean(self.run_errors, axis=1)

    def cells_of(self, algorithm: str) -> np.ndarray:
        """int [J], indices of the algorithm's cells by growing data size."""
        (indices,) = np.nonzero(self.algorithm == algorithm)
        return indices[np.argsort(self.data_size[indices])]

    def index(self, algorithm: str, data_size: int) -> int:
        """The cell of an algorithm at a data size."""
        (found,) = np.nonzero((self.algorithm == algorithm) & (self.data_size == data_size))
        if len(found) == 0:
            raise OutcomesError(f"there is no cell ({algorithm}, data_size={data_size}).")
        return int(found[0])


def from_table(table: pd.DataFrame, algorithms: Sequence[str] | None = None) -> Outcomes:
    """Check a long table and arrange it. algorithms: their order; by default that of their first rows."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise OutcomesError(
            f"the table lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}, one row for each run and"
            f" problem, and has {', '.join(map(str, table.columns))}."
        )
    if table.empty:
        raise OutcomesError("the table has no rows.")
    table = table[list(COLUMNS)]
    _check_values(table)
    order = tuple(algorithms) if algorithms is not None else tuple(dict.fromkeys(table["algorithm"]))
    cells = sorted(
        set(zip(table["algorithm"], table["data_size"], strict=True)), key=lambda cell: (order.index(cell[0]), cell[1])
    )
    seeds = tuple(int(seed) for seed in sorted(set(table["seed"])))
    problems = tuple(sorted(set(table["problem"].astype(str))))
    cell_of = {cell: index for index, cell in enumerate(cells)}
    rows = np.array([cell_of[cell] for cell in zip(table["algorithm"], table["data_size"], strict=True)])
    columns = np.searchsorted(seeds, table["seed"].to_numpy())
    depth = pd.Categorical(table["problem"].astype(str), categories=list(problems)).codes
    wrong = np.zeros((len(cells), len(seeds), len(problems)), np.uint8)
    count = np.zeros(wrong.shape, np.uint8)
    wrong[rows, columns, depth] = table["wrong"].to_numpy()
    count[rows, columns, depth] = 1
    _check_problems(count, cells, seeds, problems)
    return Outcomes(
        algorithm=np.array([cell[0] for cell in cells], dtype=object),
        data_size=np.array([cell[1] for cell in cells], dtype=np.int64),
        seeds=seeds,
        problems=problems,
        wrong=wrong,
        present=count.any(axis=2),
    )


def _check_values(table: pd.DataFrame) -> None:
    for name in COLUMNS:
        empty = table[name].isna()
        if empty.any():
            raise OutcomesError(f"row {_first(empty)}: {name} is missing; a missing run has no rows at all.")
    for name in ("data_size", "seed", "wrong"):
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise OutcomesError(f"row 0: {name} is {table[name].iloc[0]!r}; the column holds numbers.")
    bad = ~table["wrong"].isin([0, 1])
    if bad.any():
        row = _first(bad)
        raise OutcomesError(
            f"row {row}: wrong is {table['wrong'].iloc[row]}; it is 1 for a wrong answer and 0 for a right one."
        )
    bad = (table["data_size"] < 1) | (table["data_size"] % 1 != 0)
    if bad.any():
        row = _first(bad)
        raise OutcomesError(
            f"row {row}: data_size is {table['data_size'].iloc[row]}; it counts unique synthetic problems, 1 or more."
        )
    repeated = table.duplicated(subset=list(COLUMNS[:-1]))
    if repeated.any():
        row = _first(repeated)
        what = ", ".join(f"{name}={table[name].iloc[row]}" for name in COLUMNS[:-1])
        raise OutcomesError(f"row {row} repeats {what}; keep one outcome for each run and problem.")


def _check_problems(count: np.ndarray, cells: Sequence, seeds: Sequence[int], problems: Sequence[str]) -> None:
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


def _first(mask: pd.Series) -> int:
    return int(np.argmax(mask.to_numpy()))
