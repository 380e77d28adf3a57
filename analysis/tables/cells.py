"""What every table of errors offers the analysis: cells (algorithm, data size), runs in them, and their errors.

In: the fields of `Outcomes`, which knows every problem, or of `Counts`, which knows only how many were wrong. Out: the
quantities that both provide, computed in the same way.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pandas as pd

_LARGEST = 1e15  # beyond it a float does not hold every whole number
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
_MEANINGS: Mapping[str, str] = MappingProxyType(
    {"data_size": "it counts unique synthetic problems", "num_problems": "it counts test problems"}
)


class OutcomesError(ValueError):
    """A table of outcomes is wrong; the message names the row or cell and the cure."""


@dataclass(frozen=True, kw_only=True)
class Cells(ABC):
    """P cells (algorithm, data size) x R seeds. A run that is missing has present = False and no number."""

    algorithm: np.ndarray  # str [P]
    data_size: np.ndarray  # int [P], unique synthetic problems
    seeds: tuple[int, ...]  # R
    present: np.ndarray  # bool [P, R]
    seed_group: np.ndarray | None = None  # int [P]; cells of different groups share no seed; None: one group

    @property
    @abstractmethod
    def num_problems(self) -> int:
        """Test problems of every run."""

    @property
    @abstractmethod
    def run_errors(self) -> np.ndarray:
        """float64 [P, R], error of each run; NaN for a missing run, so that no mean overlooks it."""

    @property
    @abstractmethod
    def contents(self) -> tuple[tuple[str, ...] | int, np.ndarray]:
        """The problems' names, or their number in a run; then what every run got wrong."""

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms in the order of the table."""
        return tuple(dict.fromkeys(self.algorithm))

    @property
    def groups(self) -> np.ndarray:
        """int [P], the group of every cell."""
        return np.zeros(len(self.data_size), int) if self.seed_group is None else self.seed_group

    @property
    def num_missing(self) -> int:
        """How many runs are missing: every cell should have one for each seed that occurs in its group."""
        promised = [self.present[self.groups == group] for group in np.unique(self.groups)]
        return sum(int((~part[:, part.any(axis=0)]).sum()) for part in promised)

    @property
    def errors(self) -> np.ndarray:
        """float64 [P], mean error of each cell over the runs that are present."""
        errors: np.ndarray = np.nanmean(self.run_errors, axis=1)
        return errors

    @abstractmethod
    def cut(self, cells: np.ndarray, seeds: np.ndarray) -> Self:
        """The table with these cells and seeds only, by their indices."""

    def _layout_of(self, cells: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
        """The fields common to all tables, cut to these cells and seeds."""
        groups = self.groups[cells]
        return {
            "algorithm": self.algorithm[cells],
            "data_size": self.data_size[cells],
            "seeds": tuple(self.seeds[index] for index in seeds),
            "present": self.present[cells][:, seeds],
            "seed_group": None if len(np.unique(groups)) == 1 else groups,
        }

    def part(self, algorithms: Sequence[str]) -> Self:
        """The table of these algorithms alone: their cells in this order, by growing size, and the seeds they have."""
        cells = np.concatenate([self.cells_of(name) for name in algorithms])
        return self.cut(cells, np.flatnonzero(self.present[cells].any(axis=0)))

    def cells_of(self, algorithm: str) -> np.ndarray:
        """int [J], indices of the algorithm's cells by growing data size."""
        (indices,) = np.nonzero(self.algorithm == algorithm)
        return indices[np.argsort(self.data_size[indices])]

    def sizes_of(self, algorithm: str) -> list[int]:
        """The algorithm's data sizes in ascending order."""
        return [int(size) for size in self.data_size[self.cells_of(algorithm)]]

    def index(self, algorithm: str, data_size: int) -> int:
        """The index of an algorithm's cell at a data size."""
        (found,) = np.nonzero((self.algorithm == algorithm) & (self.data_size == data_size))
        if len(found) == 0:
            raise OutcomesError(f"there is no cell ({algorithm}, data_size={data_size}).")
        return int(found[0])


def check_columns(table: pd.DataFrame, columns: Sequence[str], each: str) -> None:
    """Raise OutcomesError unless the table has rows and these columns, and no value in them is missing."""
    check_names(list(map(str, table.columns)))
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise OutcomesError(
            f"the table lacks the columns {', '.join(missing)}; it needs {', '.join(columns)}, one row for each {each},"
            f" and has {', '.join(map(str, table.columns))}."
        )
    if table.empty:
        raise OutcomesError("the table has no rows.")
    for name in columns:
        empty = table[name].isna()
        if empty.any():
            raise OutcomesError(f"row {first(empty)}: {name} is missing; a missing run has no rows at all.")


def check_names(names: Sequence[str]) -> None:
    """Raise OutcomesError if two columns have the same name."""
    for name in names:
        if name and names.count(name) > 1:
            raise OutcomesError(f"it has {names.count(name)} columns {name}; rename or delete all but one.")


def with_whole_numbers(table: pd.DataFrame, least: Mapping[str, int]) -> pd.DataFrame:
    """The table with these columns as int; raises OutcomesError for any other value.

    least: the smallest value of each column.
    """
    converted = {}
    for name, smallest in least.items():
        numbers = pd.to_numeric(table[name].map(ungrouped), errors="coerce")
        if numbers.isna().any():
            row = first(numbers.isna())
            raise OutcomesError(f"row {row}: {name} is {table[name].iloc[row]!r}; the column holds numbers.")
        bad = (numbers < smallest) | (numbers % 1 != 0) | (numbers > _LARGEST)
        if bad.any():
            row = first(bad)
            meaning = _MEANINGS.get(name, "it is a whole number")
            limit = f"{smallest} or more" if numbers.iloc[row] <= _LARGEST else f"at most {_LARGEST:.0e}"
            raise OutcomesError(f"row {row}: {name} is {table[name].iloc[row]}; {meaning}, {limit}.")
        converted[name] = numbers.astype(np.int64)
    return table.assign(**converted)


def ungrouped(value: object) -> object:
    """1024 for the text 1,024; any other value unchanged."""
    return value.replace(",", "") if isinstance(value, str) and _GROUPED.fullmatch(value.strip()) else value


def check_repeats(table: pd.DataFrame, keys: Sequence[str], each: str) -> None:
    """Raise OutcomesError where two rows have the same keys."""
    repeated = table.duplicated(subset=list(keys))
    if repeated.any():
        row = first(repeated)
        what = ", ".join(f"{name}={table[name].iloc[row]}" for name in keys)
        raise OutcomesError(f"row {row} repeats {what}; keep one row for each {each}.")


def first(mask: pd.Series) -> int:
    """Position of the first True."""
    return int(np.argmax(mask.to_numpy()))


def arrange(runs: pd.DataFrame, order: Sequence[str]) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """Arrange n runs, one per row: the fields of `Cells`, and int [n] twice, each run's cell and its seed's place.

    Where there are several groups of cells, seeds are numbered anew within each.
    """
    pairs = list(zip(runs["algorithm"], runs["data_size"].tolist(), strict=True))
    cells = sorted(set(pairs), key=lambda cell: (order.index(cell[0]), cell[1]))
    place = {cell: index for index, cell in enumerate(cells)}
    seeds = tuple(int(seed) for seed in sorted(set(runs["seed"])))
    rows, columns = np.array([place[pair] for pair in pairs]), np.searchsorted(seeds, runs["seed"].to_numpy())
    present = _present(rows, columns, (len(cells), len(seeds)))
    group, places = seed_groups(present)
    if group is not None:
        columns = places[group[rows], columns]
        seeds = tuple(range(int(columns.max()) + 1))
        present = _present(rows, columns, (len(cells), len(seeds)))
    layout = {
        "algorithm": np.array([name for name, _ in cells], dtype=object),
        "data_size": np.array([size for _, size in cells], dtype=np.int64),
        "seeds": seeds,
        "present": present,
        "seed_group": group,
    }
    return layout, (rows, columns)


def _present(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    present = np.zeros(shape, bool)
    present[rows, columns] = True
    return present


def seed_groups(present: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Which cells share runs, from present [P, R]: the group of every cell, None for one group, and new places [G, R].

    Cells that share a seed, directly or through others, form a group. Where algorithms were run on seeds of their own,
    seeds of different groups do not correspond. The places number the seeds within each group.
    """
    group = np.arange(len(present))
    for column in present.T:
        joined = np.unique(group[column])
        group[np.isin(group, joined)] = joined.min(initial=len(present))
    names, group = np.unique(group, return_inverse=True)
    used = np.array([present[group == index].any(axis=0) for index in range(len(names))])
    return (group if len(names) > 1 else None), np.cumsum(used, axis=1) - 1
