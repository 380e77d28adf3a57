"""The best size for each compute budget, and how it grows with the budget (Hoffmann et al. 2022, arXiv 2203.15556,
section 3.2).

In: points (compute, size, loss), several sizes at each budget, and how much each weighs. Out: `IsoFlop`: for each
budget, the minimum of a parabola of the loss in log size; and the exponent a in best size ~ C^a. A budget without a
minimum between its sizes is left out and named. Intervals draw residuals of the parabolas, pooled over budgets; a
minimum that leaves its sizes in a draw is put at their end. If the loss is steeper on one side of the minimum, the
position of the sizes biases a parabola, but not the surface L(N, D).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.curves.points import PointsError

MIN_BUDGETS = 3


class _Parabola(NamedTuple):
    """Loss against log size at one budget."""

    budget: float
    rows: np.ndarray  # of its points
    center: float  # mean log size, which the parabola takes as 0
    ends: tuple[float, float]  # log sizes
    solve: np.ndarray  # float64 [3, P], from losses to coefficients
    fitted: np.ndarray  # float64 [P]


@dataclass(frozen=True)
class IsoFlop:
    """Minima of budgets, and their power law."""

    budgets: np.ndarray  # float64 [K], those with a minimum
    sizes: np.ndarray  # float64 [K], the best
    losses: np.ndarray  # float64 [K], at the best
    exponent: float
    log_coefficient: float
    fitted: np.ndarray  # float64 [P], NaN at budgets left out
    left_out: tuple[str, ...]  # budgets without a minimum, and why
    parabolas: tuple[_Parabola, ...]
    scatter: float  # sd of the loss about the parabolas, for a point of mean weight
    freedom: int

    def size(self, compute: float) -> float:
        """The best size at a budget."""
        return float(np.exp(self.log_coefficient + self.exponent * np.log(compute)))


class IsoFlopDraws(NamedTuple):
    """B draws."""

    sizes: np.ndarray  # float64 [B, K]
    exponents: np.ndarray  # float64 [B]
    log_coefficients: np.ndarray  # float64 [B]
    at_ends: float  # share of all minima that left their sizes


def fit_isoflop(compute: np.ndarray, size: np.ndarray, loss: np.ndarray, weights: np.ndarray) -> IsoFlop:
    """Fit points [P]. Raises PointsError with the cure if fewer than three budgets have a minimum."""
    weights = weights / weights.mean()
    kept, minima, left_out = [], [], []
    fitted = np.full(len(loss), np.nan)
    for budget in np.unique(compute):
        rows = np.flatnonzero(compute == budget)
        log_size = np.log(size[rows])
        num_sizes = len(np.unique(log_size))
        if num_sizes < 3:
            left_out.append(f"{budget:g} has {num_sizes} sizes, and a parabola needs 3")
            continue
        center = float(log_size.mean())
        root = np.sqrt(weights[rows])
        columns = np.vander(log_size - center, 3, increasing=True)
        solve = np.linalg.pinv(columns * root[:, None]) * root
        ends = (float(log_size.min()), float(log_size.max()))
        parabola = _Parabola(float(budget), rows, center, ends, solve, columns @ (solve @ loss[rows]))
        (log_best,), (least,), (outside,) = _minimum(parabola, loss[rows][None])
        if outside:
            left_out.append(f"{budget:g} has no minimum between its sizes")
            continue
        fitted[rows] = parabola.fitted
        kept.append(parabola)
        minima.append((log_best, least))
    if len(kept) < MIN_BUDGETS:
        reasons = "; ".join(left_out[:3]) + ("; and so on" if len(left_out) > 3 else "")
        raise PointsError(
            f"{len(kept)} budgets of compute have a minimum, and an exponent needs {MIN_BUDGETS}"
            + (f" ({reasons})" if reasons else "")
            + ". Rows of one budget need the same value of compute: round it. Add sizes on both sides of the minimum."
        )
    rows = np.concatenate([parabola.rows for parabola in kept])
    freedom = len(rows) - 3 * len(kept)
    if freedom < 1:
        raise PointsError("every budget has 3 points, through which a parabola always goes: add sizes for an interval.")
    budgets = np.array([parabola.budget for parabola in kept])
    log_sizes, losses = (np.array(values) for values in zip(*minima, strict=True))
    exponent, log_coefficient = np.polyfit(np.log(budgets), log_sizes, 1).tolist()
    squares = weights[rows] @ (loss[rows] - fitted[rows]) ** 2
    return IsoFlop(
        budgets, np.exp(log_sizes), losses, exponent, log_coefficient, fitted, tuple(left_out), tuple(kept),
        float(np.sqrt(squares / freedom)), freedom,
    )  # fmt: skip


def bootstrap_isoflop(fit: IsoFlop, loss: np.ndarray, weights: np.ndarray, num_draws: int, seed: int) -> IsoFlopDraws:
    """Draw losses about the parabolas, and fit everything again."""
    generator = np.random.default_rng([seed, 0x150F])
    root = np.sqrt(weights / weights.mean())
    rows = np.concatenate([parabola.rows for parabola in fit.parabolas])
    residuals = (root * (loss - fit.fitted))[rows] * np.sqrt(len(rows) / fit.freedom)
    found, at_ends = [], []
    for parabola in fit.parabolas:
        drawn = generator.choice(residuals, size=(num_draws, len(parabola.rows))) / root[parabola.rows]
        log_best, _, outside = _minimum(parabola, parabola.fitted + drawn)
        found.append(log_best)
        at_ends.append(outside)
    log_best = np.stack(found, axis=1)
    exponents, log_coefficients = np.polyfit(np.log(fit.budgets), log_best.T, 1)
    return IsoFlopDraws(np.exp(log_best), exponents, log_coefficients, float(np.mean(at_ends)))


def _minimum(parabola: _Parabola, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log of the best size between the ends, the loss there, and whether an end is best; losses: float64 [B, P]."""
    level, slope, bend = parabola.solve @ losses.T
    low, high = (end - parabola.center for end in parabola.ends)
    vertex = -slope / (2 * np.where(bend > 0, bend, np.nan))
    far = np.where(slope + bend * (low + high) < 0, high, low)  # the end with the smaller loss
    best = np.where(bend > 0, np.clip(vertex, low, high), far)
    return parabola.center + best, level + slope * best + bend * best**2, ~((low < vertex) & (vertex < high))
