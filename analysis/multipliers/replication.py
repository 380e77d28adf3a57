"""One multiplier measured in several studies: their ratio, and a summary that lets true multipliers differ.

In: log multipliers of studies with their variances. Out: `Summary`. The variance between studies is that of Paule and
Mandel (1982), at which the weighted sum of squares equals its expectation; the interval is that of Hartung, Knapp,
Sidik and Jonkman, which holds with few studies (IntHout et al. 2014, doi 10.1186/1471-2288-14-25). A prediction
interval says where the multiplier of another such study lies (Higgins et al. 2009, doi
10.1111/j.1467-985X.2008.00552.x).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t


@dataclass(frozen=True)
class Summary:
    """The summary of K studies, on the scale of the input."""

    mean: float
    low: float  # 95 % interval of the mean
    high: float
    between: float  # variance of the studies' true values
    predicted_low: float  # 95 % interval of another study's true value; infinite with fewer than three studies
    predicted_high: float


def random_effects(values: np.ndarray, variances: np.ndarray) -> Summary:
    """values, variances: float64 [K]. Raises ValueError for fewer than two, or a variance that is not above 0."""
    count = len(values)
    if count < 2 or not (variances > 0).all():
        raise ValueError(f"a summary needs two studies with variances above 0; there are {count}: {variances}.")
    between = _between(values, variances)
    weight = 1 / (variances + between)
    mean = float(np.average(values, weights=weight))
    spread = float((weight * (values - mean) ** 2).sum() / (count - 1))
    error = math.sqrt(max(spread, 1.0) / weight.sum())  # never smaller than if the variance between studies were known
    half = float(t.ppf(0.975, count - 1)) * error
    apart = float(t.ppf(0.975, count - 2)) * math.hypot(error, math.sqrt(between)) if count > 2 else math.inf
    return Summary(mean, mean - half, mean + half, between, mean - apart, mean + apart)


def _between(values: np.ndarray, variances: np.ndarray) -> float:
    def excess(between: float) -> float:
        weight = 1 / (variances + between)
        return float((weight * (values - np.average(values, weights=weight)) ** 2).sum()) - (len(values) - 1)

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, float(np.ptp(values)) ** 2 * len(values)))
