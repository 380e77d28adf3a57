"""Multipliers: how many times more data the reference needs to match an algorithm, with intervals and censoring.

In: outcomes and bootstrap draws of their errors. Out: `Multiplier`s, point-wise m_alg(D) = D_ref(err_alg(D)) / D
without a form, and their mean over the sizes in the reference's range. A replicate below the reference's lowest error
counts as +inf, one above its highest as 0. Quantiles include both, so that an upper limit can be infinite. Such a
replicate says only that m is beyond the reference's range, so the other limit is the bound.
"""

from collections.abc import Callable, Collection, Iterable
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
class RatioAt:
    """m of one algorithm over m of another at a data size, with limits that hold at all their sizes at once."""

    data_size: int
    estimate: float
    low: float
    high: float


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
    curve, found = falling_curve(outcomes, reference, draws, falling), list[Multiplier]()
    for algorithm in outcomes.algorithms:
        if algorithm == reference:
            continue
        sizes = _at_sizes(outcomes, algorithm, draws, curve, flat)
        found += [_at_size(algorithm, size, at, len(sizes)) for size, at in sizes.items()]
        if (mean := mean_in_range(sizes.values())) is not None:
            found.append(Multiplier(algorithm, "mean", None, *mean, 0.0, 0.0, at_least=mean[1], extrapolation=1.0))
    return found


def ratios_at_sizes(
    outcomes: Cells,
    names: tuple[str, str, str],
    draws: np.ndarray,
    falling: Callable[[np.ndarray], np.ndarray] = non_increasing,
    flat: Collection[int] = (),
) -> tuple[RatioAt, ...]:
    """Ratios of two algorithms' point-wise multipliers, paired in every draw; no size beyond the reference's range.

    names: the reference, the numerator and the denominator; draws, falling and flat as for `pointwise`. Against a third
    curve, since of two curves over the same sizes each ends where the other would have to be read.
    """
    curve = falling_curve(outcomes, names[0], draws, falling)
    above, below = (_at_sizes(outcomes, name, draws, curve, flat) for name in names[1:])
    sizes = [size for size in above if size in below and above[size].in_range and below[size].in_range]
    found = []
    for size in sizes:
        estimate = above[size].estimate - below[size].estimate
        limits = percentile_interval(above[size].within - below[size].within, 1 - (1 - LEVEL) / len(sizes))
        found.append(RatioAt(size, *map(float, np.exp([estimate, *limits]))))
    return tuple(found)


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
    curve = falling_curve(outcomes, names[0], draws, falling)
    in_range = {s: at for s, at in _at_sizes(outcomes, names[1], draws, curve, flat).items() if at.in_range}
    if len(in_range) < 2:
        return None
    log_size = np.array([np.log(size) for size in in_range])
    centred = log_size - np.mean(log_size)
    log_m = np.stack([[at.estimate, *at.within] for at in in_range.values()])
    slopes = centred @ log_m / (centred @ centred)
    return float(slopes[0]), *percentile_interval(slopes[1:])


@dataclass(frozen=True)
class Matched:
    """log m at a data size, or at the cost of a run."""

    estimate: float
    draws: np.ndarray  # [B], infinite where censored
    range_of_m: tuple[float, float]  # logs of the smallest and the largest m that the reference's sizes can show

    @property
    def right_censored(self) -> float:
        """Share of draws that beat every reference cell."""
        return float(np.mean(np.isposinf(self.draws)))

    @property
    def left_censored(self) -> float:
        """Share of draws that every reference cell beats."""
        return float(np.mean(np.isneginf(self.draws)))

    @property
    def in_range(self) -> bool:
        few = max(self.right_censored, self.left_censored) < MAX_CENSORED
        return few and bool(np.isfinite(self.estimate))

    @property
    def within(self) -> np.ndarray:
        """The draws, censored ones at the bound."""
        clipped: np.ndarray = np.clip(self.draws, *self.range_of_m)
        return clipped

    @property
    def m(self) -> tuple[float, float, float]:
        """m with its 95 % interval."""
        return float(np.exp(self.estimate)), *censored_interval(self.draws, self.range_of_m)


@dataclass(frozen=True)
class FallingCurve:
    """The reference without a form, by data size or by the cost of a run."""

    log_size: np.ndarray  # [J], ascending
    at_data: np.ndarray  # [1, J]
    in_draws: np.ndarray  # [B, J]

    def matched(self, log_size: float, error: float, draws: np.ndarray) -> Matched:
        """log m at a size with this error, whose draws are [B]."""
        (reached,) = log_size_reaching(self.at_data, self.log_size, np.array([error]))
        in_draws = log_size_reaching(self.in_draws, self.log_size, draws)
        ends = float(self.log_size[0]) - log_size, float(self.log_size[-1]) - log_size
        return Matched(float(reached) - log_size, in_draws - log_size, ends)


def falling_curve(
    outcomes: Cells, reference: str, draws: np.ndarray, falling: Callable[[np.ndarray], np.ndarray]
) -> FallingCurve:
    """The reference's levels by data size; falling: as for `pointwise`."""
    cells = outcomes.cells_of(reference)
    levels, drawn = falling(outcomes.errors[None, cells]), falling(draws[:, cells])
    return FallingCurve(np.log(outcomes.data_size[cells]), levels, drawn)


def mean_in_range(found: Iterable[Matched]) -> tuple[float, float, float] | None:
    """The geometric mean of m with its interval, over where the reference's range has it; None if nowhere.

    A few censored draws enter at the bound; many would turn the mean into a statement about the range.
    """
    in_range = [at for at in found if at.in_range]
    if not in_range:
        return None
    drawn = np.exp(np.mean([at.within for at in in_range], axis=0))
    return float(np.exp(np.mean([at.estimate for at in in_range]))), *percentile_interval(drawn)


def _at_sizes(
    outcomes: Cells, algorithm: str, draws: np.ndarray, curve: FallingCurve, flat: Collection[int]
) -> dict[int, Matched]:
    """log m at every size of an algorithm but the flat ones."""
    cells = {int(outcomes.data_size[cell]): cell for cell in outcomes.cells_of(algorithm)}
    return {
        size: curve.matched(float(np.log(size)), outcomes.errors[cell], draws[:, cell])
        for size, cell in cells.items()
        if size not in flat
    }


def _at_size(algorithm: str, size: int, at: Matched, num_sizes: int) -> Multiplier:
    """The point-wise multiplier with its limits."""
    low_at_once, high_at_once = censored_interval(at.draws, at.range_of_m, 1 - (1 - LEVEL) / num_sizes)  # Bonferroni
    return Multiplier(
        algorithm,
        "pointwise",
        size,
        *at.m,
        at.right_censored,
        at.left_censored,
        at_least=float(np.quantile(np.minimum(np.exp(at.draws), np.exp(at.range_of_m[1])), (1 - LEVEL) / 2)),
        extrapolation=1.0,
        low_at_once=low_at_once,
        high_at_once=high_at_once,
    )


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
