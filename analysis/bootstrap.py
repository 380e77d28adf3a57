"""The crossed bootstrap: whole seeds and shared problems, resampled at once (Owen 2007, the pigeonhole bootstrap).

In: `Outcomes`. Out: cell errors of every replicate, [B, P]. One resample of the problems serves every cell, and a drawn
seed brings all of its sizes and algorithms, since sizes are nested in a seed's stream and algorithms share its SFT
policy. A cell of which a replicate draws no run that is present is NaN there, and counted.
"""

from dataclasses import dataclass

import numpy as np

from analysis.outcomes import Outcomes

MIN_SEEDS = 3  # below, the spread between runs cannot be told
_CHUNK = 500  # replicates multiplied at once


@dataclass(frozen=True)
class Draws:
    """Replicates of the cell errors."""

    crossed: np.ndarray  # float64 [B, P], seeds and problems resampled
    problems_only: np.ndarray  # float64 [B, P], every seed once
    seeds_only: np.ndarray  # float64 [B, P], every problem once; spread scaled by sqrt(R / (R - 1))


def crossed_bootstrap(outcomes: Outcomes, num_draws: int, seed: int) -> Draws:
    """Draw replicates. Raises ValueError below three seeds: no honest interval can be made from fewer runs."""
    num_cells, num_seeds, num_problems = outcomes.wrong.shape
    if num_seeds < MIN_SEEDS:
        raise ValueError(
            f"there are {num_seeds} seeds; an interval needs at least {MIN_SEEDS}, because the spread between runs"
            " cannot be told from fewer. Add seeds."
        )
    generator = np.random.default_rng([seed, 0xB007])
    seed_weights = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=num_draws)  # [B, R]
    flat = outcomes.wrong.reshape(-1, num_problems).astype(np.float32)
    run_errors = np.empty((num_draws, num_cells, num_seeds))
    for first in range(0, num_draws, _CHUNK):
        size = min(_CHUNK, num_draws - first)
        weights = generator.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=size)
        counts = flat @ weights.T.astype(np.float32)  # exact: whole numbers below 2^24
        run_errors[first : first + size] = counts.T.astype(float).reshape(size, num_cells, num_seeds) / num_problems
    present = outcomes.present.astype(float)
    ones = np.ones_like(seed_weights)
    at_data = np.broadcast_to(outcomes.wrong.mean(axis=2), run_errors.shape)
    seeds_only = _weighted_mean(at_data, seed_weights, present)
    center = outcomes.errors
    return Draws(
        crossed=_weighted_mean(run_errors, seed_weights, present),
        problems_only=_weighted_mean(run_errors, ones, present),
        seeds_only=np.clip(center + np.sqrt(num_seeds / (num_seeds - 1)) * (seeds_only - center), 0.0, 1.0),
    )


def _weighted_mean(run_errors: np.ndarray, seed_weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    """[B, P] from run errors [B, P, R], weights [B, R] and presence [P, R]; NaN where nothing is drawn."""
    weights = seed_weights[:, None, :] * present  # [B, P, R]
    total = weights.sum(axis=2)
    summed = (weights * run_errors).sum(axis=2)
    return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)


def overdispersion(outcomes: Outcomes) -> np.ndarray:
    """phi [P], variance of a run's error over the binomial one, as a trend log phi = r0 + r1 log D, at least 0.3.

    One constant would be wrong: on measured learning curves the ratio falls from about 10 at small sizes to below 1 at
    large ones, where runs share their problems. The trend is fitted to the ratio pooled over algorithms at each size.
    """
    sizes = np.unique(outcomes.data_size)
    errors = outcomes.errors
    binomial = np.clip(errors * (1 - errors), 1e-4, None) / outcomes.num_problems
    num_runs = outcomes.present.sum(axis=1)
    squares = np.nansum((outcomes.run_errors - errors[:, None]) ** 2, axis=1) / binomial
    freedom = np.array([(num_runs[outcomes.data_size == size] - 1).clip(0).sum() for size in sizes])
    ratio = np.array([squares[outcomes.data_size == size].sum() for size in sizes]) / np.maximum(freedom, 1)
    if (freedom == 0).any() or len(sizes) < 3:
        pooled = squares.sum() / max(freedom.sum(), 1)
        return np.full(len(errors), max(pooled, 0.3))
    slope, intercept = np.polyfit(np.log(sizes), np.log(np.maximum(ratio, 0.05)), 1, w=np.sqrt(freedom))
    return np.maximum(np.exp(intercept + slope * np.log(outcomes.data_size)), 0.3)
