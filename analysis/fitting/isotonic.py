"""The reference without a form: a falling curve through its cells, and the data size at which it reaches an error.

In: reference cell errors [B, J] by growing size. Out: their non-increasing least-squares fit, or their running minimum
if more data made the reference worse; and the inverse D_ref(e) = inf{D : g_ref reaches e}, piecewise linear in
(log D, logit error), with censoring at both ends.
"""

import numpy as np
from numpy.typing import NDArray

_CLIP = 1e-6


def non_increasing(levels: np.ndarray) -> np.ndarray:
    """The non-increasing fit of levels [B, J] with equal weights, by the min-max formula of isotonic regression.

    Fit at j: the smallest, over starts i <= j, of the largest, over ends k >= j, of the mean of levels i to k.
    """
    num_replicates, num_sizes = levels.shape
    sums = np.concatenate([np.zeros((num_replicates, 1)), np.cumsum(levels, axis=1)], axis=1)
    fitted = np.empty_like(levels)
    for j in range(num_sizes):
        largest = [
            np.max([(sums[:, k + 1] - sums[:, i]) / (k + 1 - i) for k in range(j, num_sizes)], axis=0)
            for i in range(j + 1)
        ]
        fitted[:, j] = np.min(largest, axis=0)
    return fitted


def running_minimum(levels: np.ndarray) -> np.ndarray:
    """The smallest level so far [B, J]: the best with at most that much data."""
    return np.minimum.accumulate(levels, axis=1)


def fall_per_fourfold(levels: np.ndarray, log_size: np.ndarray, data_size: float) -> float:
    """How far falling levels [J] fall over a fourfold range of sizes around a data size.

    The range is moved to lie within the sizes. If these span less than fourfold, it is all of them.
    """
    half = np.log(2.0)
    middle = np.clip(np.log(data_size), log_size[0] + half, max(log_size[-1] - half, log_size[0] + half))
    before, after = np.interp([middle - half, middle + half], log_size, levels)
    return float(before - after)


def log_size_reaching(levels: np.ndarray, log_size: np.ndarray, error: np.ndarray) -> np.ndarray:
    """float64 [B], log of the smallest size at which the falling curve levels [B, J] reaches error [B].

    +inf if even the last level is above the error (right-censored), -inf if the first is already below it
    (left-censored: how little data would suffice is unknown). An error equal to the first level is at the first
    size.
    """
    below = levels <= error[:, None]  # [B, J]
    reached = below.any(axis=1)
    first = np.where(reached, below.argmax(axis=1), len(log_size) - 1)
    rows = np.arange(len(levels))
    high, low = _logit(levels[rows, np.maximum(first - 1, 0)]), _logit(levels[rows, first])
    drop = high - low
    share = np.divide(high - _logit(error), drop, out=np.ones_like(drop), where=drop > 0)
    before = log_size[np.maximum(first - 1, 0)]
    found = before + np.clip(share, 0.0, 1.0) * (log_size[first] - before)
    found = np.where(reached, found, np.inf)
    return np.where(error > levels[:, 0], -np.inf, found)


def _logit(value: np.ndarray) -> np.ndarray:
    inside = np.clip(value, _CLIP, 1 - _CLIP)
    logit: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return logit
