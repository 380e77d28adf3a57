"""Multipliers: how many times more data the reference needs to match an algorithm, with intervals and censoring.

In: outcomes and bootstrap draws of their errors. Out: `Multiplier`s, point-wise m_alg(D) = D_ref(err_alg(D)) / D
without a form, and their mean over the sizes in the reference's range. A replicate below the reference's lowest error
counts as +inf, one above its highest as 0. Quantiles include both, so that an upper limit can be infinite. Such a
replicate says only that m is beyond the reference's range, so the other limit is the bound.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from analysis.fitting.isotonic import fall_per_fourfold, log_size_reaching, non_increasing
from analysis.tables.cells import Cells

LEVEL = 0.95
MIN_FALL = 0.01  # of the reference's error per fourfold of data; if it falls less, no m is given
MAX_CENSORED = 0.05  # a size with more censored replicates stays out of the mean multiplier; fewer count at the bound


@dataclass(frozen=True)
class Multiplier:
    """One estimate with its 95 % interval; low may be 0 and high inf, where replicates are censored."""

    algorithm: str
    kind: str  # "pointwise", "mean" of the point-wise ones, or "overall": one number for all sizes, where it holds
    data_size: int | None  # None unless point-wise
    estimate: float
    low: float
    high: float
    right_censored: float  # share of replicates that beat every reference cell
    left_censored: float  # share of replicates that every reference cell beats
    at_least: float  # the bound that data support: 2.5 % quantile of min(m, D_ref,max / D)
    extrapolation: float  # largest D_ref over the reference's largest size; above 1 it rests on the model, not on data
    low_at_once: float | None = None  # if point-wise: with high_at_once, a limit that holds at all its sizes
    high_at_once: float | None = None


@dataclass(frozen=True)
class Difference:
    """Paired difference in error between an algorithm and the reference, over the sizes that both have."""

    algorithm: str
    estimate: float  # negative: the algorithm errs less
    low: float
    high: float
    sizes: tuple[int, ...]


def flat_sizes(outcomes: Cells, reference: str, fitted: np.ndarray | None) -> dict[int, float]:
    """The data sizes at which the reference hardly improves, with its fall per fourfold: there, m can be anything.

    fitted: float64 [J], the reference's own curve at its sizes, which scatters less than its errors; None: it has no
    curve, and its isotonic fit is used. Both depend on the reference alone, so all algorithms and draws share them.
    """
    cells = outcomes.cells_of(reference)
    levels = non_increasing(outcomes.errors[None, cells])[0] if fitted is None else fitted
    log_size = np.log(outcomes.data_size[cells])
    falls = {int(size): fall_per_fourfold(levels, log_size, size) for size in np.unique(outcomes.data_size)}
    return {size: fall for size, fall in falls.items() if fall < MIN_FALL - 1e-12}


def pointwise(
    outcomes: Cells,
    reference: str,
    draws: np.ndarray,
    falling: Callable[[np.ndarray], np.ndarray] = non_increasing,
    flat: Collection[int] = (),
) -> list[Multiplier]:
    """m at every cell of every algorithm but the reference, and its mean over cells, with intervals from the draws.

    draws: float64 [B, P], replicates of the errors; falling: the isotonic fit, or the running minimum where the
    reference gets worse with more data; flat: data sizes without m.
    """
    curve, found = _falling(outcomes, reference, draws, falling), list[Multiplier]()
    for algorithm in outcomes.algorithms:
        if algorithm == reference:
            continue
        sizes = _at_sizes(outcomes, algorithm, draws, curve, flat)
        found += [_at_size(algorithm, at, len(sizes)) for at in sizes]
        # A few censored replicates enter the mean at the bound; many would turn it into a statement about the range.
        in_range = [(at.estimate, at.within) for at in sizes if at.in_range]
        if in_range:
            found.append(_mean(algorithm, in_range))
    return found


def slope_without_form(
    outcomes: Cells,
    names: tuple[str, str],
    draws: np.ndarray,
    falling: Callable[[np.ndarray], np.ndarray] = non_increasing,
    flat: Collection[int] = (),
) -> tuple[float, float, float] | None:
    """The slope of point-wise log m in log D with its 95 % interval, by least squares over the sizes in range.

    names: the reference and the algorithm; draws, falling and flat as for `pointwise`. None if fewer than two sizes are
    in the reference's range. The slope of a joint fit also absorbs what its form lacks; this one needs no form.
    """
    curve = _falling(outcomes, names[0], draws, falling)
    in_range = [at for at in _at_sizes(outcomes, names[1], draws, curve, flat) if at.in_range]
    if len(in_range) < 2:
        return None
    log_size = np.array([np.log(at.size) for at in in_range])
    centred = log_size - np.mean(log_size)
    log_m = np.stack([[at.estimate, *at.within] for at in in_range])
    slopes = centred @ log_m / (centred @ centred)
    return float(slopes[0]), *percentile_interval(slopes[1:])


@dataclass(frozen=True)
class _Falling:
    """The reference without a form."""

    log_size: np.ndarray  # [J], ascending
    at_data: np.ndarray  # [1, J]
    in_draws: np.ndarray  # [B, J]


@dataclass(frozen=True)
class _AtSize:
    """log m at a data size."""

    size: int
    estimate: float
    draws: np.ndarray  # [B], infinite where censored
    ends: tuple[float, float]  # logs of the reference's smallest and largest size

    @property
    def in_range(self) -> bool:
        censored = max(np.mean(np.isposinf(self.draws)), np.mean(np.isneginf(self.draws)))
        return bool(censored < MAX_CENSORED and np.isfinite(self.estimate))

    @property
    def range_of_m(self) -> tuple[float, float]:
        """Logs of the smallest and the largest m that the reference's sizes can show."""
        smallest, largest = (end - float(np.log(self.size)) for end in self.ends)
        return smallest, largest

    @property
    def within(self) -> np.ndarray:
        """The draws, censored ones at the bound."""
        clipped: np.ndarray = np.clip(self.draws, *self.range_of_m)
        return clipped


def _falling(
    outcomes: Cells, reference: str, draws: np.ndarray, falling: Callable[[np.ndarray], np.ndarray]
) -> _Falling:
    cells = outcomes.cells_of(reference)
    return _Falling(np.log(outcomes.data_size[cells]), falling(outcomes.errors[None, cells]), falling(draws[:, cells]))


def _at_sizes(
    outcomes: Cells, algorithm: str, draws: np.ndarray, curve: _Falling, flat: Collection[int]
) -> list[_AtSize]:
    """log m at every size of an algorithm but the flat ones."""
    found = []
    for cell in outcomes.cells_of(algorithm):
        size = int(outcomes.data_size[cell])
        if size in flat:
            continue
        own = np.log(size)
        (estimate,) = log_size_reaching(curve.at_data, curve.log_size, outcomes.errors[cell : cell + 1]) - own
        log_m = log_size_reaching(curve.in_draws, curve.log_size, draws[:, cell]) - own
        found.append(_AtSize(size, float(estimate), log_m, (curve.log_size[0], curve.log_size[-1])))
    return found


def _at_size(algorithm: str, at: _AtSize, num_sizes: int) -> Multiplier:
    """The point-wise multiplier with its limits."""
    log_m = at.draws
    low, high = censored_interval(log_m, at.range_of_m)
    low_at_once, high_at_once = censored_interval(log_m, at.range_of_m, 1 - (1 - LEVEL) / num_sizes)  # Bonferroni
    return Multiplier(
        algorithm,
        "pointwise",
        at.size,
        float(np.exp(at.estimate)),
        low,
        high,
        right_censored=float(np.mean(np.isposinf(log_m))),
        left_censored=float(np.mean(np.isneginf(log_m))),
        at_least=float(np.quantile(np.minimum(np.exp(log_m), np.exp(at.range_of_m[1])), (1 - LEVEL) / 2)),
        extrapolation=1.0,
        low_at_once=low_at_once,
        high_at_once=high_at_once,
    )


def _mean(algorithm: str, in_range: list[tuple[float, np.ndarray]]) -> Multiplier:
    """The geometric mean of point-wise multipliers; in_range: log estimate and log draws [B] of each."""
    drawn = np.exp(np.mean([log_m for _, log_m in in_range], axis=0))
    estimate = float(np.exp(np.mean([value for value, _ in in_range])))
    low, high = percentile_interval(drawn)
    return Multiplier(algorithm, "mean", None, estimate, low, high, 0.0, 0.0, at_least=low, extrapolation=1.0)


def differences(outcomes: Cells, reference: str, draws: np.ndarray) -> list[Difference]:
    """Mean difference in error over shared sizes; paired, because a replicate's problems and seeds are the same."""
    found = []
    for algorithm in outcomes.algorithms:
        shared = sorted(set(outcomes.sizes_of(algorithm)) & set(outcomes.sizes_of(reference)))
        if algorithm == reference or not shared:
            continue
        ours = [outcomes.index(algorithm, size) for size in shared]
        theirs = [outcomes.index(reference, size) for size in shared]
        estimate = float(np.mean(outcomes.errors[ours] - outcomes.errors[theirs]))
        drawn = np.mean(draws[:, ours] - draws[:, theirs], axis=1)
        found.append(Difference(algorithm, estimate, *percentile_interval(drawn), sizes=tuple(shared)))
    return found


def rise_after_best(outcomes: Cells, algorithm: str, draws: np.ndarray) -> tuple[float, float, float]:
    """(estimate, low, high) of error at the largest size minus the smallest error before it; above 0: inverse scaling.

    The minimum is selected, so the test leans a little towards flagging.
    """
    cells = outcomes.cells_of(algorithm)
    if len(cells) < 2:
        return 0.0, 0.0, 0.0
    errors = outcomes.errors[cells]
    drawn = draws[:, cells]
    best = int(np.argmin(errors[:-1]))
    return float(errors[-1] - errors[best]), *percentile_interval(drawn[:, -1] - drawn[:, best])


def interval_of_errors(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), each float64 [P]: the 95 % interval of every cell's error."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def censored_interval(log_m: np.ndarray, range_of_m: tuple[float, float], level: float = LEVEL) -> tuple[float, float]:
    """Limits of m from draws of log m, infinite where censored; range_of_m: logs of what the reference can show.

    A censored draw says only that m is beyond that range. So the low limit counts +inf at the end of the range, and
    the high one as infinite; likewise below.
    """
    smallest, largest = range_of_m
    low, _ = percentile_interval(np.where(np.isposinf(log_m), largest, log_m), level)
    _, high = percentile_interval(np.where(np.isneginf(log_m), smallest, log_m), level)
    return float(np.exp(low)), float(np.exp(high))


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval, infinite values included; its limits are drawn values, never interpolated towards inf."""
    tail = (1 - level) / 2
    low = np.quantile(values, tail, method="lower")
    high = np.quantile(values, 1 - tail, method="higher")
    return float(low), float(high)
