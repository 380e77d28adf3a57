"""The evidence on one algorithm against the reference, from which a verdict follows.

In: finished numbers. Out: `Evidence`, with what follows from these numbers: whether one multiplier describes the
curves, the interval to quote, and about how many more seeds an unresolved one needs. No other algorithm of the table
enters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from analysis.multipliers.inverse import Inversion
from analysis.verdicts.claims import EQUIVALENCE

Code = Literal[
    "NOT_ESTIMABLE",
    "AT_SIZES",
    "INVERSE",
    "LOWER_BOUND",
    "UPPER_BOUND",
    "VARIES",
    "DETERMINED",
    "NULL",
    "DIRECTION_ONLY",
    "NOT_RESOLVED",
]
MEANINGS: Mapping[Code, str] = MappingProxyType(  # for the reader of a table
    {
        "DETERMINED": "one number describes the curves, and it differs from 1",
        "NULL": "one number describes the curves, and it is 1 within 25 %",
        "VARIES": "m changes with D",
        "AT_SIZES": "m at one or two sizes",
        "LOWER_BOUND": "m is beyond the reference's data, so only a lower bound is known",
        "UPPER_BOUND": "m is before the reference's data, so only an upper bound is known",
        "DIRECTION_ONLY": "the errors differ, but m is not determined",
        "NOT_RESOLVED": "neither m nor a difference in error is determined",
        "INVERSE": "more data raised the error",
        "NOT_ESTIMABLE": "the data give no m",
    }
)
BOUNDS: tuple[Code, ...] = ("LOWER_BOUND", "UPPER_BOUND")
REJECTED = 0.05
NOT_CONSTANT = 0.025  # below this p of the fit, no single number is given; the hold-out has the same level
NO_SLOPE = 1e-4  # of log m in log D: the size of rounding errors
MIN_SIZES = 3  # an algorithm with fewer gets m at each size, not one number
MAX_EXTRAPOLATION = 4.0  # times the reference's largest size; a multiplier beyond it at every size is rejected


@dataclass(frozen=True)
class Evidence:
    """Multipliers are ratios of data sizes, errors are fractions, and triples are an estimate with its interval."""

    algorithm: str
    reference: str
    not_estimable: str | None = None  # why there is no multiplier with an interval; the fields below are then unused
    num_seeds: int = 0
    num_problems: int = 0
    sizes: tuple[int, ...] = (0, 0)  # data sizes of the algorithm at which m is given
    flat: str = ""  # why no m is given at its other sizes: the reference hardly improves there
    ceiling: float | None = None  # the largest m that the problems allow at any of its sizes, if known
    largest_reference: int = 0
    multiplier: float = math.nan
    low: float = math.nan
    high: float = math.nan
    right_censored: float = 0.0  # share of the algorithm's cells below every error of the reference
    left_censored: float = 0.0  # share of its cells above every error of the reference
    at_least: float = math.nan  # largest bound that a right-censored cell supports
    at_most: float = math.nan  # smallest bound that a left-censored cell supports
    mean: tuple[float, float, float] | None = None  # form-free mean multiplier with its interval, if ranges overlap
    at_sizes: tuple[tuple[float, float, float], ...] = ()  # point-wise m with limits that hold at all sizes at once
    lack_of_fit: float = 1.0  # p of the constant multiplier
    lack_of_fit_varying: float = 1.0  # p of the multiplier that varies with D
    delta: tuple[float, float, float] = (0.0, 0.0, 0.0)  # slope of log m in log D, under the form chosen
    slope_in_all_forms: bool = True  # whether all forms that fit about as well exclude a slope of 0 on that side
    slope_without_form: bool = True  # whether point-wise m does, too; False if fewer than two sizes have it
    form_spread: tuple[float, float] = (math.nan, math.nan)  # m under every form that fits about as well
    extrapolation: tuple[float, float] = (1.0, 1.0)  # m D over the reference's largest size, at both ends of the sizes
    held_out: bool | None = None  # whether the other sizes predict the largest one; None: cannot be tested
    difference: tuple[float, float, float] = (0.0, 0.0, 0.0)  # paired difference in error
    rise: tuple[float, float, float] = (0.0, 0.0, 0.0)  # error at the largest size minus the best before
    inversion: Inversion | None = None  # present if the rise exceeds its interval

    @property
    def forms_agree(self) -> bool:
        """Whether the joint fit agrees with the numbers that it summarises: the form-free mean, and m at every size.

        It lies within the limits at every size, and its own interval holds m of at least one of them.
        """
        inside = all(low <= self.multiplier <= high for _, low, high in self.at_sizes)
        points = [m for m, _, _ in self.at_sizes if 0 < m < math.inf]
        holds_one = not points or any(self.low <= m <= self.high for m in points)
        return inside and holds_one and (self.mean is None or (self.low <= self.mean[2] and self.mean[1] <= self.high))

    @property
    def varies(self) -> bool:
        """Whether the multiplier changes with D under all forms and without one, and a slope describes how."""
        apart = self.delta[1] > NO_SLOPE or self.delta[2] < -NO_SLOPE
        in_all = self.slope_in_all_forms and self.slope_without_form
        return apart and in_all and self.lack_of_fit_varying >= REJECTED

    @property
    def one_number(self) -> bool:
        """Whether a constant multiplier describes the curves."""
        return self.lack_of_fit >= NOT_CONSTANT and self.forms_agree

    def out_of_range(self, claim: float) -> bool:
        """Whether no algorithm could meet the claim on these problems; False if the data contradict the ceiling."""
        if self.ceiling is None or claim <= self.ceiling:
            return False
        return not any(low > self.ceiling for _, low, _ in self.at_sizes)

    @property
    def in_reach(self) -> bool:
        """Whether at least one size needs no more than four times the reference's data."""
        return not min(self.extrapolation) > MAX_EXTRAPOLATION

    @property
    def spread_inside(self) -> bool:
        """Whether all forms that fit about as well have their m in the interval."""
        return not (self.form_spread[0] < self.low or self.form_spread[1] > self.high)

    @property
    def quoted(self) -> tuple[float, float]:
        """The interval to quote: the 95 % interval, widened to hold the spread over forms if that exceeds it."""
        return min(self.low, self.form_spread[0]), max(self.high, self.form_spread[1])

    @property
    def more_seeds(self) -> int | None:
        """About how many more seeds distinguish m from 1, or show that it is within 25 % of 1; None: unknown.

        Widths are taken to shrink as 1 / sqrt(seeds), which holds when problems are added in proportion.
        """
        low, high = self.quoted
        if not (0 < low <= self.multiplier <= high < math.inf) or low == high:
            return None
        m, below, above = math.log(self.multiplier), math.log(self.multiplier / low), math.log(high / self.multiplier)
        apart = below / m if m > 0 else above / -m if m < 0 else math.inf
        rooms = [(above, math.log(EQUIVALENCE) - m), (below, math.log(EQUIVALENCE) + m)]
        equal = max(width / room if room > 0 else math.inf for width, room in rooms)
        factor = min(apart, equal)
        needed = self.num_seeds * min(factor, 1e3) ** 2
        return max(math.ceil(needed) - self.num_seeds, 1)
