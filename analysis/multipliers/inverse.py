"""Inverse scaling: whether more data raise the error, from what size on, and what multiplier remains.

In: outcomes and bootstrap draws. Out: `Inversion`. An algorithm is flagged if its error at the largest size exceeds the
best one before by more than the interval. Its curve is then fitted up to the turning point D* only. Its multiplier at
the last D is given twice: for the best policy from at most that much data, and for the last one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.multipliers.estimates import falling_curve, percentile_interval, rise_after_best
from analysis.tables.cells import Cells


@dataclass(frozen=True)
class Inversion:
    """One algorithm that more data make worse, or the reference, which has no multipliers."""

    algorithm: str
    rise: tuple[float, float, float]  # error at the largest size minus the best before, with its interval
    turning_point: int  # D*, the data size of the smallest error
    turning_low: int  # its 95 % interval
    turning_high: int
    envelope: tuple[float, float, float] | None = None  # m at the last D of the best error so far, with its interval
    last: tuple[float, float, float] | None = None  # m at the last D of the error there


def inversions(
    outcomes: Cells, reference: str, draws: np.ndarray, falling: Callable[[np.ndarray], np.ndarray]
) -> tuple[Inversion, ...]:
    """Every flagged algorithm, the reference included; falling: makes the reference's levels non-increasing."""
    found, curve = [], falling_curve(outcomes, reference, draws, falling)
    for name in outcomes.algorithms:
        rise = rise_after_best(outcomes, name, draws)
        if rise[1] <= 0:
            continue
        cells = outcomes.cells_of(name)
        sizes, errors, drawn = outcomes.data_size[cells], outcomes.errors[cells], draws[:, cells]
        low, high = (int(value) for value in percentile_interval(sizes[drawn.argmin(axis=1)]))
        envelope = last = None
        if name != reference:
            log_last = float(np.log(sizes[-1]))
            envelope = curve.matched(log_last, errors.min(), drawn.min(axis=1)).m
            last = curve.matched(log_last, errors[-1], drawn[:, -1]).m
        found.append(Inversion(name, rise, int(sizes[errors.argmin()]), low, high, envelope, last))
    return tuple(found)


def before_turning(outcomes: Cells, found: tuple[Inversion, ...]) -> np.ndarray:
    """bool [P], the cells that a falling curve may describe: all but those beyond a turning point."""
    used = np.ones(len(outcomes.data_size), bool)
    for item in found:
        used &= (outcomes.algorithm != item.algorithm) | (outcomes.data_size <= item.turning_point)
    return used
