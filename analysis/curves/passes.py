"""pass@k from counts: unbiased estimates of the chance that one of k samples is right, as a curve of error against k.

In: the number of samples of each problem, and how many of them are right. Out: `Passes`: 1 - pass@k at k = 1, 2, 4, ...
up to the smallest number of samples, with bootstrap draws over problems. If c of n samples are right, k of them drawn
without replacement are all wrong with probability C(n - c, k) / C(n, k). Its mean over draws of the n samples is
(1 - p)^k (Chen et al. 2021, arXiv 2107.03374, eq. 1), so the estimate is unbiased; 1 - (1 - c / n)^k is biased.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln


class Passes(NamedTuple):
    """Errors at each k at which some error is left."""

    k: np.ndarray  # float64 [K]
    error: np.ndarray  # float64 [K], 1 - pass@k, the mean over problems
    draws: np.ndarray  # float64 [B, K], over problems drawn with replacement
    num_problems: int


def all_wrong(num_samples: np.ndarray, num_correct: np.ndarray, k: np.ndarray) -> np.ndarray:
    """float64 [P, K], the unbiased chance that k samples are all wrong; k at most num_samples [P]."""
    n, wrong = num_samples[:, None], (num_samples - num_correct)[:, None]
    left = np.maximum(wrong - k, 0)
    log_chance = gammaln(wrong + 1) - gammaln(left + 1) + gammaln(n - k + 1) - gammaln(n + 1)
    return np.where(wrong >= k, np.exp(log_chance), 0.0)


def passes(num_samples: np.ndarray, num_correct: np.ndarray, num_draws: int, seed: int) -> Passes:
    """The errors of P problems; num_samples, num_correct: float64 [P]."""
    largest = int(num_samples.min())
    doublings = 2.0 ** np.arange(int(np.log2(largest)) + 1)
    k = np.union1d(doublings, [largest])
    each = all_wrong(num_samples, num_correct, k)
    error = each.mean(axis=0)
    k, each, error = k[error > 0], each[:, error > 0], error[error > 0]
    generator = np.random.default_rng([seed, 0x9A55])
    num_problems = len(each)
    counts = generator.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=num_draws)
    return Passes(k, error, counts @ each / num_problems, num_problems)
