"""Simulated studies with a known truth: 0/1 outcomes with shared problem difficulty and run effects.

In: the error of every cell, how many seeds and problems, and the spread of difficulty and of runs. Out: `Outcomes`. On
the logit scale an outcome is eta of the cell + difficulty of the problem + effect of the run, and eta is such that the
cell's error is as given on average over problems and runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from analysis.tables.outcomes import Outcomes

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
_MAX_ITEM_SD = 6.0  # in logits; beyond this, problems are either always or never missed


Assumed = float | tuple[tuple[int, float], ...]  # one m, or (size, m) pairs with log m linear between them


@dataclass(frozen=True)
class Noise:
    """The sources of scatter in a study."""

    num_seeds: int = 4
    num_problems: int = 500
    item_sd: float = 2.0  # of problem difficulty, in logits
    run_sd: float = 0.12  # of run effects, in logits
    seed_share: float = 0.0  # share of the run effects' variance that all runs of a seed have in common


def multiplier_at(assumed: Assumed, sizes: np.ndarray) -> np.ndarray:
    """m at data sizes; beyond the sizes at which it is known, the m of the nearest one."""
    if not isinstance(assumed, tuple):
        return np.full(len(sizes), assumed)
    at, m = zip(*assumed, strict=True)
    found: np.ndarray = np.exp(np.interp(np.log(sizes), np.log(at), np.log(m)))
    return found


def simulate(
    multipliers: Mapping[str, Assumed],
    sizes: Sequence[int] | Mapping[str, Sequence[int]],
    curve: Callable[[np.ndarray], np.ndarray],
    noise: Noise,
    generator: np.random.Generator,
) -> Outcomes:
    """One study in which the error of an algorithm with multiplier m at D is curve(m D) in expectation.

    sizes: those of every algorithm, or each one's own.
    """
    own = sizes if isinstance(sizes, Mapping) else dict.fromkeys(multipliers, sizes)
    names = [name for name in multipliers for _ in own[name]]
    data_size = np.array([size for name in multipliers for size in own[name]], dtype=np.int64)
    m = np.concatenate([multiplier_at(multipliers[name], np.array(own[name])) for name in multipliers])
    error = curve(m * data_size)
    eta = logit_of_mean(error, float(np.hypot(noise.item_sd, noise.run_sd)))
    difficulty = generator.normal(0, noise.item_sd, noise.num_problems)
    of_seed = generator.normal(0, noise.run_sd * np.sqrt(noise.seed_share), noise.num_seeds)
    of_run = generator.normal(0, noise.run_sd * np.sqrt(1 - noise.seed_share), (len(names), noise.num_seeds))
    logit = (eta[:, None] + of_seed + of_run)[..., None] + difficulty
    wrong = generator.random(logit.shape) < expit(logit)
    return Outcomes(
        algorithm=np.array(names, dtype=object),
        data_size=data_size,
        seeds=tuple(range(noise.num_seeds)),
        problems=tuple(f"p{index:05d}" for index in range(noise.num_problems)),
        wrong=wrong.astype(np.uint8),
        present=np.ones(wrong.shape[:2], bool),
    )


def noise_of(outcomes: Outcomes) -> Noise:
    """The noise of a measured study, by moments pooled over its cells.

    Problems that two runs of a cell both miss show the spread of difficulty: E[Y Y'] = E[p^2]. Given E[p^2], the
    variance of a run's error splits into two parts. Luck is (E[p] - E[p^2]) / N; the rest is the run effect's variance
    times (E[p] - E[p^2])^2, the square of an error's slope in the logit. Luck differs between cells, so what the runs
    of a seed have in common across cells is due to their seed. Raises ValueError without a cell of two runs.
    """
    num_runs = outcomes.present.sum(axis=1)
    cells = np.flatnonzero((num_runs > 1) & (outcomes.errors > 0) & (outcomes.errors < 1))
    if not len(cells):
        raise ValueError("no cell has two runs and an error between 0 and 1, so the noise is unknown.")
    count, error = num_runs[cells], outcomes.errors[cells]
    misses = (outcomes.wrong[cells] * outcomes.present[cells][..., None]).sum(axis=1, dtype=float)  # [P, N]
    both = (misses * (misses - 1)).mean(axis=1) / (count * (count - 1))
    low, high = 0.0, _MAX_ITEM_SD
    for _ in range(40):
        middle = 0.5 * (low + high)
        chance = expit(logit_of_mean(error, middle)[:, None] + middle * _NODES)
        enough = (chance**2 @ _WEIGHTS).sum() / _WEIGHTS.sum() > both.sum()
        low, high = (low, middle) if enough else (middle, high)
    slope = np.maximum(error - both, 1e-9)
    excess = np.nanvar(outcomes.run_errors[cells], axis=1) * count / (count - 1) - slope / outcomes.num_problems
    run_variance = max(float(excess.sum() / (slope**2).sum()), 0.0)
    share = _seed_variance(outcomes.run_errors[cells] - error[:, None], slope) / run_variance if run_variance else 0.0
    item_sd, shared = 0.5 * (low + high), min(max(share, 0.0), 1.0)
    return Noise(len(outcomes.seeds), outcomes.num_problems, item_sd, run_variance**0.5, shared)


def luck_sd(error: np.ndarray, num_problems: int, item_sd: float) -> float:
    """Standard deviation of luck with N problems, in logits of a run's effect; root mean square over errors [P]."""
    chance = expit(logit_of_mean(error, item_sd)[:, None] + item_sd * _NODES)
    slope = (chance * (1 - chance)) @ _WEIGHTS / _WEIGHTS.sum()
    return float(np.sqrt((1 / (slope * num_problems)).mean()))


def _seed_variance(deviation: np.ndarray, slope: np.ndarray) -> float:
    """Variance of what a seed's runs share, in logits: the mean product of two cells' deviations.

    deviation: [P, R], a run's error minus its cell's, NaN if the run is missing; slope: [P].
    """
    scaled = np.nan_to_num(deviation / slope[:, None]) * slope[:, None] ** 2  # weighted as the run variance is
    weight = np.where(np.isnan(deviation), 0.0, slope[:, None] ** 2)
    products = (scaled.sum(axis=0) ** 2 - (scaled**2).sum(axis=0)).sum()
    weights = (weight.sum(axis=0) ** 2 - (weight**2).sum(axis=0)).sum()
    if weights == 0:
        return 0.0
    num_seeds = len(deviation[0])
    return float(products / weights) * num_seeds / (num_seeds - 1)


def logit_of_mean(error: np.ndarray, spread: float) -> np.ndarray:
    """eta with E[sigmoid(eta + spread z)] = error, z standard normal; by bisection."""
    low, middle, high = np.full(error.shape, -40.0), np.zeros(error.shape), np.full(error.shape, 40.0)
    weights = _WEIGHTS / _WEIGHTS.sum()
    for _ in range(60):
        above = (weights * expit(middle[..., None] + spread * _NODES)).sum(axis=-1) > error
        low, high = np.where(above, low, middle), np.where(above, middle, high)
        middle = 0.5 * (low + high)
    return middle
