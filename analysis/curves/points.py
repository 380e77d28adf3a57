"""Points of a curve or a surface, checked: what cannot be fitted is an error that names the row and the cure.

In: a user's table and what they ask for, a `Request`. Out: columns of positive numbers, every row kept; or, from
counts of samples and right ones, `Passes`: unbiased estimates of pass@k.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gammaln

from analysis.curves.surface import MIN_POINTS, SURFACES, Loss
from analysis.tables.cells import ungrouped
from scaling.plugins import loaded_plugins

_TOO_ALIKE = 0.999  # correlation of log N and log D from which on their effects cannot be separated
NO_EFFECT = 2.0  # standard errors of a slope, below which the points show no effect of a column
_MIN_LEVELS = 3  # distinct sizes that show a slope
_ROUNDING = 1e-9  # differences of log y that the arithmetic alone leaves
MIN_PROBLEMS = 3  # of pass@k


class PointsError(ValueError):
    """A table of points is wrong; the message names the row and the cure."""


@dataclass(frozen=True)
class Request:
    """What the user asks for; the defaults are those of the command."""

    x: tuple[str, ...]  # columns; for pass@k, those of samples and of right samples
    y: str | None  # None: pass@k
    form: str = "auto"
    loss: Loss = "huber"
    weights: str | None = None
    predict: tuple[str, ...] = ()
    num_draws: int = 2000
    seed: int = 0

    def command(self, name: str) -> str:
        columns = ",".join(self.x)
        words = ["--pass-at-k", columns] if self.y is None else ["--x", columns, "--y", self.y]
        words += ["--form", self.form, *(["--loss", self.loss] if self.form in SURFACES else [])]
        words += ["--weights", self.weights] if self.weights else []
        words += [word for text in self.predict for word in ("--predict", text)]
        words += ["--draws", str(self.num_draws), "--seed", str(self.seed)]
        words += [word for plugin in loaded_plugins() for word in ("--import", f"{plugin.name}.py")]
        return f"python -m analysis.fit {shlex.join([name, *words])}"


class Passes(NamedTuple):
    """pass@k as points of a curve: errors at each k at which some error is left."""

    k: np.ndarray  # float64 [K]
    error: np.ndarray  # float64 [K], 1 - pass@k, the mean over problems
    draws: np.ndarray  # float64 [B, K], over problems drawn with replacement
    num_problems: int


def read_points(
    table: pd.DataFrame, x: Sequence[str], y: str, weights: str | None = None
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Columns x, each float64 [P], y [P], and weights [P], 1 without such a column. Raises PointsError."""
    names = [*x, y]
    _check_names(table, [*names, *([] if weights is None else [weights])], "--x, --y and --weights")
    found = [_column(table, name, "because the fit is in logarithms") for name in names]
    if weights is None:
        weight = np.ones(len(table))
    else:
        weight = _column(table, weights, "an inverse variance or a number of runs or problems; leave out rows without")
    repeated = table.duplicated().to_numpy()
    if repeated.any():
        row = int(np.argmax(repeated))
        what = ", ".join(f"{name}={table[name].iloc[row]}" for name in names)
        raise PointsError(
            f"row {row} repeats an earlier row in every column ({what}). Delete it; where it is another run, add a"
            " column, such as seed, that tells the runs apart."
        )
    if len(table) > 1 and is_flat(found[-1]):
        raise PointsError(
            f"{y} is {found[-1][0]:g} in every row, and a curve without a slope has nothing to fit. Name a column that"
            " falls with --y, or add sizes at which it does."
        )
    return found[:-1], found[-1], weight


def read_counts(table: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of samples and of right samples of each problem, each float64 [P]. Raises PointsError."""
    if len(columns) != 2:
        raise PointsError(f"--pass-at-k names {len(columns)} columns; it takes two, SAMPLES,CORRECT.")
    _check_names(table, columns, "--pass-at-k")
    found = [pd.to_numeric(table[name].map(ungrouped), errors="coerce").to_numpy(dtype=float) for name in columns]
    (samples, correct), (n, c) = columns, found
    bad = ~((n >= 1) & (c >= 0) & (c <= n) & (n % 1 == 0) & (c % 1 == 0) & np.isfinite(n))
    if bad.any():
        row = int(np.argmax(bad))
        raise PointsError(
            f"row {row}: {samples} is {table[samples].iloc[row]} and {correct} is {table[correct].iloc[row]}; these are"
            f" whole numbers, {samples} at least 1 and {correct} from 0 to {samples}, one row per problem."
        )
    if len(n) < MIN_PROBLEMS:
        raise PointsError(
            f"the table has {len(n)} problems; an interval over problems needs {MIN_PROBLEMS}. Add a row for each other"
            " problem."
        )
    if c.max() == 0 or (c == n).all():
        raise PointsError(
            "no problem is ever solved, so that there is no curve. Draw more samples, or measure on easier problems."
            if c.max() == 0
            else "every sample is right, so that there is no curve. Measure on harder problems."
        )
    return n, c


def passes(num_samples: np.ndarray, num_correct: np.ndarray, num_draws: int, seed: int) -> Passes:
    """The errors of P problems at k = 1, 2, 4, ... up to the fewest samples; num_samples, num_correct: float64 [P]."""
    largest = int(num_samples.min())
    doublings = 2.0 ** np.arange(int(np.log2(largest)) + 1)
    k = np.union1d(doublings, [largest])
    each = all_wrong(num_samples, num_correct, k)
    error = each.mean(axis=0)
    k, each, error = k[error > 0], each[:, error > 0], error[error > 0]
    generator = np.random.default_rng([seed, 0x9A55])
    num_problems = len(each)
    counts = generator.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=num_draws)
    return Passes(k, error, counts @ each / num_problems, num_problems)


def all_wrong(num_samples: np.ndarray, num_correct: np.ndarray, k: np.ndarray) -> np.ndarray:
    """float64 [P, K], the unbiased chance that k samples are all wrong; k at most num_samples [P].

    If c of n samples are right, k of them drawn without replacement are all wrong with probability C(n - c, k) /
    C(n, k). Its mean over draws of the n samples is (1 - p)^k (Chen et al. 2021, arXiv 2107.03374, eq. 1); 1 - (1 - c /
    n)^k is biased.
    """
    n, wrong = num_samples[:, None], (num_samples - num_correct)[:, None]
    left = np.maximum(wrong - k, 0)
    log_chance = gammaln(wrong + 1) - gammaln(left + 1) + gammaln(n - k + 1) - gammaln(n + 1)
    return np.where(wrong >= k, np.exp(log_chance), 0.0)


def is_flat(y: np.ndarray) -> bool:
    """Whether positive values differ by no more than rounding."""
    return bool(np.ptp(np.log(y)) < _ROUNDING)


def slopes(x: Sequence[np.ndarray], y: np.ndarray, variance: float | None = None) -> list[tuple[float, float]]:
    """Slope of log y in the log of each column, by least squares, and how many standard errors it is from 0.

    variance: of log y about a better fit than a plane, which leaves curvature in its misses.
    """
    columns = np.column_stack([np.ones(len(y)), *(np.log(values) for values in x)])
    if np.linalg.matrix_rank(columns) < columns.shape[1]:
        return [(0.0, 0.0)] * len(x)
    found, *_ = np.linalg.lstsq(columns, np.log(y), rcond=None)
    miss = np.log(y) - columns @ found
    scatter = (miss @ miss) / max(len(y) - columns.shape[1], 1) if variance is None else variance
    error = np.sqrt(np.maximum(np.diag(np.linalg.inv(columns.T @ columns)) * scatter, 1e-30))
    return [(float(value), float(value / one)) for value, one in zip(found[1:], error[1:], strict=True)]


def before_turning(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """bool [P], the points up to the size of the smallest y; all of them if those sizes are too few to show a fall."""
    falling: np.ndarray = x <= x[np.argmin(y)]
    return falling if len(np.unique(x[falling])) >= _MIN_LEVELS else np.ones(len(x), bool)


def check_falls(x: Sequence[np.ndarray], names: Sequence[str], y: np.ndarray, y_name: str) -> None:
    """Raise PointsError if y rises with a column, as an accuracy does: a falling form would be fitted flat."""
    for values, name, (slope, distance) in zip(x, names, slopes(x, y), strict=True):
        if slope > 0 and distance > NO_EFFECT:
            first, last = (float(np.exp(np.log(y[values == end]).mean())) for end in (values.min(), values.max()))
            cure = f"1 - {y_name}" if y.max() < 1 else f"1 / {y_name}"
            raise PointsError(
                f"{y_name} rises with {name}, from about {first:.3g} to {last:.3g}, and these forms describe what"
                f" falls, such as an error or a loss. If it is an accuracy or another score, add a column of {cure} and"
                " name that with --y."
            )


def check_surface(x: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Raise PointsError unless N and D vary enough, and apart from each other."""
    if len(x[0]) < MIN_POINTS:
        raise PointsError(f"there are {len(x[0])} points; the surface has five parameters and needs {MIN_POINTS}.")
    for values, name in zip(x, names, strict=True):
        levels = len(np.unique(values))
        if levels < _MIN_LEVELS:
            raise PointsError(f"{name} has {levels} distinct values; its exponent needs {_MIN_LEVELS}. Add sizes.")
    if abs(np.corrcoef(np.log(x[0]), np.log(x[1]))[0, 1]) > _TOO_ALIKE:
        raise PointsError(
            f"{names[0]} and {names[1]} grow together in every row, so that their effects cannot be told apart. Vary"
            f" {names[1]} at the same {names[0]}."
        )


def _check_names(table: pd.DataFrame, names: Sequence[str], options: str) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise PointsError(
            f"the table lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table.columns))}."
            f" Name its columns with {options}."
        )
    if len(set(names)) < len(names):
        raise PointsError(f"{options} name {', '.join(names)}; each column can be used once.")
    if table.empty:
        raise PointsError("the table has no rows.")


def _column(table: pd.DataFrame, name: str, why: str) -> np.ndarray:
    numbers: np.ndarray = pd.to_numeric(table[name].map(ungrouped), errors="coerce").to_numpy(dtype=float)
    bad = ~(np.isfinite(numbers) & (numbers > 0))
    if bad.any():
        row = int(np.argmax(bad))
        value = table[name].iloc[row]
        if pd.isna(value):
            raise PointsError(f"row {row}: {name} is missing; fill it in, or leave the row out.")
        if np.isnan(numbers[row]):
            raise PointsError(f"row {row}: {name} is {value}; the column holds numbers, without units.")
        raise PointsError(f"row {row}: {name} is {value}; it is a finite number above 0, {why}.")
    return numbers
