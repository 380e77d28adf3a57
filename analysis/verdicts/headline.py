"""How an algorithm's multiplier is stated: one number, m at the ends of its sizes, or a bound.

In: `Evidence` and the verdict's code. Out: `Headline`, which tables, sentences, legends and the terminal share.
One number is given only if lack of fit, the form-free mean and m at every size allow it. Otherwise it is m(D) at the
smallest and the largest size, with limits that hold at all sizes at once; never a mean over the grid.
"""

import math
from dataclasses import dataclass
from typing import Literal

from analysis.verdicts.evidence import Code, Evidence

LARGEST = 10_000  # no curve supports a larger multiplier


@dataclass(frozen=True)
class Point:
    """m with its limits, at one data size or for all."""

    data_size: int | None
    estimate: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """As text: 2.05 (1.75 to 2.34) at D = 64."""
        where = "" if self.data_size is None else f" at D = {self.data_size:,}"
        if math.isinf(self.estimate) and self.low == 0:
            return f"above the reference's range (without limits){where}"
        if self.estimate == 0 and math.isinf(self.high):
            return f"below the reference's range (without limits){where}"
        if math.isinf(self.estimate):
            return f"at least {number(self.low)}{where}"
        if self.estimate == 0:
            return f"at most {number(self.high)}{where}"
        if math.isinf(self.high) and self.low == 0:
            return f"{number(self.estimate)} (without limits){where}"
        if math.isinf(self.high):
            return f"{number(self.estimate)} ({number(self.low)} and more){where}"
        if self.low == 0:
            return f"{number(self.estimate)} (up to {number(self.high)}){where}"
        return f"{number(self.estimate)} ({number(self.low)} to {number(self.high)}){where}"


@dataclass(frozen=True)
class Headline:
    """The statement; limits of m at single sizes hold at all of the algorithm's sizes at once."""

    kind: Literal["one number", "sizes", "lower bound", "upper bound"]
    points: tuple[Point, ...]  # one, or those of the smallest and the largest size

    @property
    def text(self) -> str:
        return ", ".join(point.text for point in self.points)


def headline(code: Code, e: Evidence) -> Headline | None:
    """None if nothing can be estimated."""
    if code == "NOT_ESTIMABLE":
        return None
    if code == "LOWER_BOUND":
        return Headline("lower bound", (Point(None, math.inf, e.at_least, math.inf),))
    if code == "UPPER_BOUND":
        return Headline("upper bound", (Point(None, 0.0, 0.0, e.at_most),))
    if code not in ("VARIES", "INVERSE", "AT_SIZES") and e.one_number and e.in_reach:
        return Headline("one number", (Point(None, e.multiplier, *e.quoted),))
    return Headline("sizes", ends(e)) if e.at_sizes else None


def ends(e: Evidence) -> tuple[Point, ...]:
    """m at the smallest and the largest size."""
    places = (0, -1)[: len(e.at_sizes)]
    return tuple(Point(e.sizes[place], *e.at_sizes[place]) for place in places)


def number(value: float) -> str:
    """A multiplier with two or three digits, never rounded to a power of two."""
    if math.isinf(value):
        return "unbounded"
    if value > LARGEST:
        return f"more than {LARGEST:,}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
