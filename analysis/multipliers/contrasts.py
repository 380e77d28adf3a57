"""Contrasts between multipliers, from the same draws: ratios, the test of m > 1, and a band for m(D).

In: point fits and replicate fits of the joint model. Out: `Ratio` of two algorithms, which two separate intervals
cannot give; `MoreThanOne` with Holm's correction over the algorithms (Holm 1979); `Band`, which holds m(D) under H2 at
all of an algorithm's sizes at once, 95 % by the largest |t| over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

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
class MoreThanOne:
    """The one-sided test of m > 1, of the constant multiplier."""

    algorithm: str
    p: float  # bootstrap, of this algorithm alone
    p_holm: float  # adjusted for the number of algorithms


@dataclass(frozen=True)
class Band:
    """m(D) = m0 x^delta of one algorithm with limits that hold at all its sizes at once."""

    algorithm: str
    sizes: tuple[int, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def ratios(point: Fit, replicates: Fit, names: Sequence[str]) -> tuple[Ratio, ...]:
    """Every pair of algorithms, the larger multiplier above; names: the reference first."""
    found = []
    for pair in combinations(range(1, len(names)), 2):
        top, bottom = sorted(pair, key=lambda arm: -point.log_multiplier(arm)[0])
        drawn = replicates.log_multiplier(top) - replicates.log_multiplier(bottom)
        low, high = np.exp(np.quantile(drawn, [_TAIL, 1 - _TAIL]))
        estimate = np.exp(point.log_multiplier(top)[0] - point.log_multiplier(bottom)[0])
        found.append(Ratio(names[top], names[bottom], float(estimate), float(low), float(high)))
    return tuple(found)


def more_than_one(replicates: Fit, names: Sequence[str]) -> tuple[MoreThanOne, ...]:
    """p of every algorithm's m > 1: the share of draws at or below 1, never 0."""
    below = [float(np.sum(replicates.log_multiplier(arm) <= 0)) for arm in range(1, len(names))]
    p = [(1 + count) / (len(replicates.theta) + 1) for count in below]
    adjusted = holm(p)
    return tuple(MoreThanOne(*row) for row in zip(names[1:], p, adjusted, strict=True))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the given order."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def band(design: Design, point: Fit, replicates: Fit, arm: int, algorithm: str) -> Band:
    """From H2: log m at every size, plus and minus the 95 % quantile of the largest |t| times its sd."""
    log_size = np.sort(design.log_size[design.arm == arm])
    centred = log_size - design.log_center
    estimate = point.log_multiplier(arm)[0] + point.delta(arm)[0] * centred
    drawn = replicates.log_multiplier(arm)[:, None] + replicates.delta(arm)[:, None] * centred
    spread = np.maximum(drawn.std(axis=0), 1e-12)
    reach = np.quantile(np.abs((drawn - estimate) / spread).max(axis=1), 1 - 2 * _TAIL)

    def plain(log_m: np.ndarray) -> tuple[float, ...]:
        return tuple(float(value) for value in np.exp(np.clip(log_m, -700, 700)))

    sizes = tuple(round(float(size)) for size in np.exp(log_size))
    half = reach * spread
    return Band(algorithm, sizes, plain(estimate), plain(estimate - half), plain(estimate + half))
