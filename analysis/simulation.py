"""Simulated studies with a known truth: 0/1 outcomes with shared problem difficulty and run effects.

In: the error of every cell, how many seeds and problems, and the spread of difficulty and of runs. Out: `Outcomes`. On
the logit scale an outcome is eta of the cell + difficulty of the problem + effect of the run, and eta is such that the
cell's error is as given on average over problems and runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.outcomes import Outcomes

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(61)


@dataclass(frozen=True)
class Noise:
    """What scatters in a study."""

    num_seeds: int = 4
    num_problems: int = 500
    item_sd: float = 2.0  # of problem difficulty, in logits
    run_sd: float = 0.12  # of run effects, in logits
    seed_share: float = 0.0  # of the run effect's variance, what all runs of a seed have in common


def simulate(
    multipliers: Mapping[str, float],
    sizes: Sequence[int],
    curve: Callable[[np.ndarray], np.ndarray],
    noise: Noise,
    generator: np.random.Generator,
) -> Outcomes:
    """One study in which the error of an algorithm with multiplier m at D is curve(m D) in expectation."""
    names = [name for name in multipliers for _ in sizes]
    data_size = np.tile(np.asarray(sizes, dtype=np.int64), len(multipliers))
    error = curve(np.array([multipliers[name] for name in names]) * data_size)
    eta = logit_of_mean(error, float(np.hypot(noise.item_sd, noise.run_sd)))
    difficulty = generator.normal(0, noise.item_sd, noise.num_problems)
    of_seed = generator.normal(0, noise.run_sd * np.sqrt(noise.seed_share), noise.num_seeds)
    of_run = generator.normal(0, noise.run_sd * np.sqrt(1 - noise.seed_share), (len(names), noise.num_seeds))
    logit = (eta[:, None] + of_seed + of_run)[..., None] + difficulty
    wrong = generator.random(logit.shape) < 1 / (1 + np.exp(-logit))
    return Outcomes(
        algorithm=np.array(names, dtype=object),
        data_size=data_size,
        seeds=tuple(range(noise.num_seeds)),
        problems=tuple(f"p{index:05d}" for index in range(noise.num_problems)),
        wrong=wrong.astype(np.uint8),
        present=np.ones(wrong.shape[:2], bool),
    )


def logit_of_mean(error: np.ndarray, spread: float) -> np.ndarray:
    """eta with E[sigmoid(eta + spread z)] = error, z standard normal; by bisection."""
    low, high = np.full(error.shape, -40.0), np.full(error.shape, 40.0)
    weights = _WEIGHTS / _WEIGHTS.sum()
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = (weights / (1 + np.exp(-(middle[..., None] + spread * _NODES)))).sum(axis=-1) > error
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return 0.5 * (low + high)
