"""Multipliers: how many times more data the reference needs to match an algorithm, with intervals and censoring.

In: outcomes, bootstrap draws and joint fits. Out: `Multiplier`s, point-wise m_alg(D) = D_ref(err_alg(D)) / D without a
form, their mean over the sizes in the reference's range, and overall from H1. A replicate below the reference's lowest
error counts as +inf, one above its highest as 0, and quantiles are taken with them in, so that an upper limit can be
infinite: nothing censored is dropped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.fitting.bootstrap import Draws
from analysis.fitting.fits import Fit
from analysis.fitting.isotonic import log_size_reaching, non_increasing
from analysis.fitting.joint import Design
from analysis.tables.outcomes import Outcomes

LEVEL = 0.95
MAX_CENSORED = 0.05  # a size with more censored replicates stays out of the mean multiplier; fewer count at the bound


@dataclass(frozen=True)
class Multiplier:
    """One estimate with its 95 % percentile interval; low may be 0 and high inf, where replicates are censored."""

    algorithm: str
    kind: str  # "pointwise", "mean" of the point-wise ones, or "overall" from the joint fit
    data_size: int | None  # None but for a point-wise one
    estimate: float
    low: float
    high: float
    right_censored: float  # share of replicates that beat every reference cell
    left_censored: float  # share of replicates that every reference cell beats
    at_least: float  # the bound that data support: 2.5 % quantile of min(m, D_ref,max / D)
    extrapolation: float  # largest D_ref over the reference's largest size; above 1 the model, not data, carries it
    low_at_once: float | None = None  # of a point-wise one, as high_at_once: limits that hold at all its sizes
    high_at_once: float | None = None


@dataclass(frozen=True)
class Difference:
    """Paired difference in error between an algorithm and the reference, over the sizes that both have."""

    algorithm: str
    estimate: float  # negative: the algorithm errs less
    low: float
    high: float
    sizes: tuple[int, ...]


def pointwise(
    outcomes: Outcomes,
    reference: str,
    draws: Draws,
    falling: Callable[[np.ndarray], np.ndarray] = non_increasing,
) -> list[Multiplier]:
    """m at every cell of every other algorithm, from each replicate's falling reference, and its mean over cells.

    falling: the isotonic fit, or the running minimum where the reference gets worse with more data.
    """
    cells = outcomes.cells_of(reference)
    log_size = np.log(outcomes.data_size[cells])
    at_data = falling(outcomes.errors[None, cells])
    drawn = filled(draws.crossed, outcomes.errors)
    in_draws = falling(drawn[:, cells])
    found = []
    for algorithm in outcomes.algorithms:
        if algorithm == reference:
            continue
        in_range = []
        own_cells = outcomes.cells_of(algorithm)
        for cell in own_cells:
            size = int(outcomes.data_size[cell])
            (estimate,) = log_size_reaching(at_data, log_size, outcomes.errors[cell : cell + 1]) - np.log(size)
            log_m = log_size_reaching(in_draws, log_size, drawn[:, cell]) - np.log(size)
            low, high = percentile_interval(np.exp(log_m))
            # A censored replicate says no more than the reference's range.
            bounded = np.minimum(np.exp(log_m), np.exp(log_size[-1]) / size)
            at_once = 1 - (1 - LEVEL) / len(own_cells)  # Bonferroni
            low_at_once, _ = percentile_interval(bounded, at_once)
            _, high_at_once = percentile_interval(np.maximum(np.exp(log_m), np.exp(log_size[0]) / size), at_once)
            if max(np.mean(np.isposinf(log_m)), np.mean(np.isneginf(log_m))) < MAX_CENSORED and np.isfinite(estimate):
                in_range.append((estimate, np.clip(log_m, log_size[0] - np.log(size), log_size[-1] - np.log(size))))
            found.append(
                Multiplier(
                    algorithm,
                    "pointwise",
                    size,
                    float(np.exp(estimate)),
                    low,
                    high,
                    right_censored=float(np.mean(np.isposinf(log_m))),
                    left_censored=float(np.mean(np.isneginf(log_m))),
                    at_least=float(np.quantile(bounded, (1 - LEVEL) / 2)),
                    extrapolation=1.0,
                    low_at_once=low_at_once,
                    high_at_once=high_at_once,
                )
            )
        if in_range:
            found.append(_mean(algorithm, in_range))
    return found


def _mean(algorithm: str, in_range: list[tuple[float, np.ndarray]]) -> Multiplier:
    """The geometric mean of point-wise multipliers; in_range: log estimate and log draws [B] of each."""
    drawn = np.exp(np.mean([log_m for _, log_m in in_range], axis=0))
    estimate = float(np.exp(np.mean([value for value, _ in in_range])))
    low, high = percentile_interval(drawn)
    return Multiplier(algorithm, "mean", None, estimate, low, high, 0.0, 0.0, at_least=low, extrapolation=1.0)


def overall(outcomes: Outcomes, reference: str, design: Design, point: Fit, replicates: Fit) -> list[Multiplier]:
    """The constant multiplier of H1 for every other algorithm. It may extrapolate, which is stated."""
    largest = float(outcomes.data_size[outcomes.cells_of(reference)].max())
    smallest = float(outcomes.data_size[outcomes.cells_of(reference)].min())
    found = []
    for arm, algorithm in enumerate(arms(outcomes, reference)):
        if arm == 0:
            continue
        sizes = outcomes.data_size[outcomes.cells_of(algorithm)]
        estimate = float(np.exp(point.log_multiplier(arm)[0]))
        m = np.exp(replicates.log_multiplier(arm))
        low, high = percentile_interval(m)
        found.append(
            Multiplier(
                algorithm,
                "overall",
                None,
                estimate,
                low,
                high,
                right_censored=float(np.mean(m * sizes.min() > largest)),
                left_censored=float(np.mean(m * sizes.max() < smallest)),
                at_least=float(np.quantile(np.minimum(m, largest / sizes.min()), (1 - LEVEL) / 2)),
                extrapolation=float(estimate * sizes.max() / largest),
            )
        )
    return found


def two_way(
    estimate: float, crossed: np.ndarray, problems_only: np.ndarray, seeds_only: np.ndarray, num_seeds: int
) -> tuple[float, float]:
    """Interval of m from V = V_problems + V_seeds - V_noise, normal on log m, each from draws [B] of log m.

    The crossed draws hold the problem-by-run noise once more than either one-way kind does, which makes them
    conservative; taken out, the interval covers a little less than nominally (docs/coverage.md). seeds_only is scaled
    by sqrt(R / (R - 1)) already.
    """
    of_problems, of_seeds = np.var(problems_only), np.var(seeds_only)
    noise = max(np.var(crossed) - of_problems - of_seeds * (num_seeds - 1) / num_seeds, 0.0)
    half = 1.959964 * math.sqrt(max(of_problems + of_seeds - noise, of_problems, of_seeds))
    factor = math.exp(min(half, 700.0))  # beyond, a double overflows
    return estimate / factor, estimate * factor


def differences(outcomes: Outcomes, reference: str, draws: Draws) -> list[Difference]:
    """Mean difference in error over shared sizes; paired, because a replicate's problems and seeds are the same."""
    found = []
    errors = filled(draws.crossed, outcomes.errors)
    for algorithm in outcomes.algorithms:
        shared = sorted(set(_sizes(outcomes, algorithm)) & set(_sizes(outcomes, reference)))
        if algorithm == reference or not shared:
            continue
        ours = [outcomes.index(algorithm, size) for size in shared]
        theirs = [outcomes.index(reference, size) for size in shared]
        estimate = float(np.mean(outcomes.errors[ours] - outcomes.errors[theirs]))
        drawn = np.mean(errors[:, ours] - errors[:, theirs], axis=1)
        found.append(Difference(algorithm, estimate, *percentile_interval(drawn), sizes=tuple(shared)))
    return found


def rise_after_best(outcomes: Outcomes, algorithm: str, draws: Draws) -> tuple[float, float, float]:
    """(estimate, low, high) of error at the largest size minus the smallest error before it; above 0: inverse scaling.

    The minimum is selected, so the test leans a little towards flagging.
    """
    cells = outcomes.cells_of(algorithm)
    if len(cells) < 2:
        return 0.0, 0.0, 0.0
    errors = outcomes.errors[cells]
    drawn = filled(draws.crossed, outcomes.errors)[:, cells]
    best = int(np.argmin(errors[:-1]))
    return float(errors[-1] - errors[best]), *percentile_interval(drawn[:, -1] - drawn[:, best])


def arms(outcomes: Outcomes, reference: str) -> tuple[str, ...]:
    """The reference first, then the others in their order."""
    return (reference, *(name for name in outcomes.algorithms if name != reference))


def interval_of_errors(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), each float64 [P]: the 95 % interval of every cell's error."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(draws.crossed, [tail, 1 - tail], axis=0)
    return low, high


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval, infinite values included; its limits are drawn values, never between one and inf."""
    tail = (1 - level) / 2
    low = np.quantile(values, tail, method="lower")
    high = np.quantile(values, 1 - tail, method="higher")
    return float(low), float(high)


def filled(drawn: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Replicates that drew no present run of a cell keep the cell's own error there: only with missing runs."""
    return np.where(np.isnan(drawn), errors, drawn)


def _sizes(outcomes: Outcomes, algorithm: str) -> list[int]:
    return [int(size) for size in outcomes.data_size[outcomes.cells_of(algorithm)]]
