"""The 0/1 outcome of every run on every problem, as one checked block of arrays.

In: a long table with the columns algorithm, data_size, seed, problem, wrong, one row for each (run, problem). Out:
`Outcomes`. Every fault of the table is an error that names the row or the cell and the cure; nothing is dropped.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.tables.cells import (
    Cells,
    OutcomesError,
    arrange,
    check_columns,
    first,
    with_whole_numbers,
)

COLUMNS = ("algorithm", "data_size", "seed", "problem", "wrong")
_UNSEEN = 2  # stands for an outcome that no row has given yet


@dataclass(frozen=True, kw_only=True)
class Outcomes(Cells):
    """P cells (algorithm, data size) x R seeds x N problems.

    A run that is missing has present = False and zeros in wrong, which nothing reads.
    """

    problems: tuple[str, ...]  # N
    wrong: np.ndarray  # uint8 [P, R, N]

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
        return replace(self, wrong=self.wrong[cells][:, seeds], **self._layout_of(cells, seeds))


def from_table(table: pd.DataFrame, algorithms: Sequence[str] | None = None) -> Outcomes:
    """Check a long table and arrange it. algorithms: their order; by default that of their first rows."""
    checked = list(_numbered([table]))
    return _from_checked(lambda: checked, algorithms)


def from_parts(parts: Callable[[], Iterable[pd.DataFrame]], algorithms: Sequence[str] | None = None) -> Outcomes:
    """The same for a table that comes in parts, so that it need not fit into memory; parts is called twice."""
    return _from_checked(lambda: _numbered(parts()), algorithms)


def _from_checked(parts: Callable[[], Iterable[pd.DataFrame]], algorithms: Sequence[str] | None) -> Outcomes:
    found, names = [], set()
    for part in parts():
        found.append(part[["algorithm", "data_size", "seed"]].drop_duplicates())
        names.update(part["problem"].cat.categories)
    if not found:
        raise OutcomesError("the table has no rows.")
    runs = pd.concat(found, ignore_index=True).drop_duplicates(ignore_index=True)
    layout, cells = arrange(
        runs, tuple(algorithms) if algorithms is not None else tuple(dict.fromkeys(runs["algorithm"]))
    )
    problems, present = tuple(sorted(names)), layout["present"]
    wrong = np.full((*present.shape, len(problems)), _UNSEEN, np.uint8)
    places = dict(zip(runs.itertuples(index=False, name=None), zip(*cells, strict=True), strict=True))
    _fill(wrong, parts(), places, problems)
    _check_problems(wrong, places, problems)
    wrong[~present] = 0
    return Outcomes(problems=problems, wrong=wrong, **layout)


def _numbered(parts: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Each part checked, with the columns that are read; its index counts the rows of the whole table."""
    start = 0
    for part in parts:
        try:
            yield _checked(part).set_index(pd.RangeIndex(start, start + len(part)))
        except OutcomesError as error:  # its message counts rows within this part
            raise OutcomesError(_moved(str(error), start)) from error
        start += len(part)


def _moved(message: str, start: int) -> str:
    return re.sub(r"^row (\d+)", lambda row: f"row {start + int(row[1])}", message)


def _checked(part: pd.DataFrame) -> pd.DataFrame:
    check_columns(part, COLUMNS, "run and problem")
    part = with_whole_numbers(part[list(COLUMNS)], {"data_size": 1, "seed": 0})
    numbers = pd.to_numeric(part["wrong"], errors="coerce")
    bad = ~numbers.isin([0, 1])
    if bad.any():
        row = first(bad)
        raise OutcomesError(
            f"row {row}: wrong is {part['wrong'].iloc[row]}; it is 1 for a wrong answer and 0 for a right one."
        )
    return part.assign(
        wrong=numbers.astype(np.uint8), algorithm=_categories(part["algorithm"]), problem=_categories(part["problem"])
    )


def _categories(names: pd.Series) -> pd.Series:
    """The names as a categorical with text categories, so that 10^8 rows need not be compared as text."""
    known = names.astype("category").cat.remove_unused_categories()
    return known.cat.rename_categories(known.cat.categories.astype(str))


def _fill(
    wrong: np.ndarray,
    parts: Iterable[pd.DataFrame],
    places: Mapping[tuple[str, int, int], tuple[int, int]],
    problems: Sequence[str],
) -> None:
    """Write every outcome into wrong [P, R, N]. places: run -> its cell and the column of its seed."""
    index = pd.Index(problems)
    for part in parts:
        part["place"] = index.get_indexer(part["problem"].cat.categories)[part["problem"].cat.codes]
        for run, rows in part.groupby(["algorithm", "data_size", "seed"], sort=False, observed=True):
            of_run, place = wrong[places[run]], rows["place"].to_numpy()
            repeated = rows["place"].duplicated().to_numpy() | (of_run[place] != _UNSEEN)
            if repeated.any():
                row = rows.iloc[int(np.argmax(repeated))]
                what = ", ".join(f"{name}={row[name]}" for name in COLUMNS[:-1])
                raise OutcomesError(f"row {row.name} repeats {what}; keep one row for each run and problem.")
            of_run[place] = rows["wrong"]


def _check_problems(
    wrong: np.ndarray, places: Mapping[tuple[str, int, int], tuple[int, int]], problems: Sequence[str]
) -> None:
    """Raise OutcomesError unless every run was measured on all problems: otherwise cells are not comparable."""
    for (algorithm, data_size, seed), place in sorted(places.items(), key=lambda item: item[1]):
        seen = wrong[place] != _UNSEEN
        if not seen.all():
            raise OutcomesError(
                f"the run ({algorithm}, data_size={data_size}, seed={seed}) has {seen.sum()} of {len(problems)}"
                f" problems; {problems[int(np.argmin(seen))]!r} is absent. All runs must be measured on the same"
                " problems: measure it again, or leave the run out."
            )
