"""Contrasts between multipliers, from the same draws: ratios, adjusted tests, and a band for m(D).

In: point fits and replicate fits of joint models. Out: `Ratio` of two algorithms, which two separate intervals cannot
give. `Adjusted`, p values with Holm's correction over the algorithms of a table; no verdict depends on them. `Band`,
limits that hold m(D) under H2 at all of an algorithm's sizes at once, with 95 % by the largest |t| over the sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fitting.fits import Fit
from analysis.fitting.joint import Design

_TAIL = 0.025


@dataclass(frozen=True)
class Ratio:
    """m of one algorithm over m of another."""

    numerator: str
    denominator: str
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Adjusted:
    """Two tests of one algorithm, each with p by itself and p adjusted for all algorithms of the table (Holm 1979)."""

    algorithm: str
    p: float  # of m = 1, two-sided, from the draws of the constant multiplier
    p_holm: float
    slope_p: float  # of a slope of 0, from the draws of the multiplier that varies
    slope_p_holm: float


@dataclass(frozen=True)
class Band:
    """m(D) = m0 x^delta of one algorithm with limits that hold at all its sizes at once."""

    algorithm: str
    sizes: tuple[int, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def ratio(numerator: str, denominator: str, points: tuple[float, float], draws: tuple[np.ndarray, np.ndarray]) -> Ratio:
    """From two log multipliers, whose replicates share the reference and the problems; the larger is the numerator."""
    if points[0] < points[1]:
        return ratio(denominator, numerator, points[::-1], draws[::-1])
    low, high = np.exp(np.quantile(draws[0] - draws[1], [_TAIL, 1 - _TAIL]))
    return Ratio(numerator, denominator, float(np.exp(points[0] - points[1])), float(low), float(high))


def adjusted(names: Sequence[str], log_ms: Sequence[np.ndarray], slopes: Sequence[np.ndarray]) -> tuple[Adjusted, ...]:
    """Tests of m = 1 and of a slope of 0; log_ms, slopes: draws [B] of log m and of its slope in log D, by name."""
    p, of_slope = ([two_sided(drawn) for drawn in family] for family in (log_ms, slopes))
    return tuple(Adjusted(*row) for row in zip(names, p, holm(p), of_slope, holm(of_slope), strict=True))


def two_sided(drawn: np.ndarray) -> float:
    """p of a value of 0: twice the smaller share of draws beyond it, never 0."""
    return min(1.0, 2 * (1 + min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))) / (len(drawn) + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def band(design: Design, errors: np.ndarray, point: Fit, replicates: Fit, algorithm: str) -> Band:
    """From H2: log m at every size, plus and minus the 95 % quantile of the largest |t| times its sd.

    errors: float64 [P] of the reference and the algorithm, NaN where not fitted.
    """
    log_size = design.log_size[design.cells_of(1, errors)]
    centred = log_size - design.log_center
    estimate = point.log_multiplier(1)[0] + point.delta(1)[0] * centred
    drawn = replicates.log_multiplier(1)[:, None] + replicates.delta(1)[:, None] * centred
    spread = np.maximum(drawn.std(axis=0), 1e-12)
    reach = np.quantile(np.abs((drawn - estimate) / spread).max(axis=1), 1 - 2 * _TAIL)
    sizes = tuple(round(float(size)) for size in np.exp(log_size))
    limits = (estimate, estimate - reach * spread, estimate + reach * spread)
    return Band(algorithm, sizes, *(tuple(np.exp(np.clip(log_m, -700, 700)).tolist()) for log_m in limits))
