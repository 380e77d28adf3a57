"""The crossed bootstrap: whole seeds and shared problems, resampled at once (Owen 2007, the pigeonhole bootstrap).

In: `Outcomes`, or `Counts`. Out: cell errors of every replicate, [B, P]. One resample of the problems serves every
cell, and a drawn seed brings all of its sizes and algorithms, since sizes are nested in a seed's stream and algorithms
share its SFT policy. Where a foreign table has cells without common seeds, each group of cells draws seeds of its own;
where it has counts only, each cell draws problems of its own. A cell of which a replicate draws no run that is present
is NaN there, and counted.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from analysis.tables.cells import Cells
from analysis.tables.outcomes import Outcomes

MIN_SEEDS = 3  # below, the spread between runs cannot be told
_CHUNK = 500  # replicates multiplied at once


@dataclass(frozen=True)
class Draws:
    """Replicates of the cell errors."""

    crossed: np.ndarray  # float64 [B, P], seeds and problems resampled
    problems_only: np.ndarray  # float64 [B, P], every seed once
    seeds_only: np.ndarray  # float64 [B, P], every problem once; spread scaled by sqrt(R / (R - 1))


def crossed_bootstrap(outcomes: Cells, num_draws: int, seed: int) -> Draws:
    """Draw replicates. Raises ValueError below three seeds: no honest interval can be made from fewer runs."""
    generator = np.random.default_rng([seed, 0xB007])
    seed_weights, spread = _seed_weights(outcomes, generator, num_draws)
    draw = _shared_problems if isinstance(outcomes, Outcomes) else _problems_of_each_cell
    run_errors = draw(outcomes, generator, num_draws)
    present = outcomes.present.astype(float)
    ones = np.ones((num_draws, 1, present.shape[1]))
    at_data = np.broadcast_to(np.where(outcomes.present, outcomes.run_errors, 0.0), run_errors.shape)
    seeds_only = _weighted_mean(at_data, seed_weights, present)
    center = outcomes.errors
    return Draws(
        crossed=_weighted_mean(run_errors, seed_weights, present),
        problems_only=_weighted_mean(run_errors, ones, present),
        seeds_only=np.clip(center + spread * (seeds_only - center), 0.0, 1.0),
    )


def _seed_weights(outcomes: Cells, generator: np.random.Generator, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each run is drawn, [B, 1 or P, R], and sqrt(R / (R - 1)) of every cell, [P]."""
    num_cells, num_seeds = outcomes.present.shape
    one_group = outcomes.seed_group is None
    weights = np.zeros((num_draws, 1 if one_group else num_cells, num_seeds), int)
    spread = np.ones(num_cells)
    for group in np.unique(outcomes.groups):
        cells = outcomes.groups == group
        count = num_seeds if one_group else int(outcomes.present[cells].any(axis=0).sum())
        if count < MIN_SEEDS:
            where = "" if one_group else f" of {outcomes.algorithm[cells][0]}, which shares no seed with other cells"
            raise ValueError(
                f"there are {count} seeds{where}; an interval needs at least {MIN_SEEDS}, because the spread between"
                " runs cannot be told from fewer. Add seeds."
            )
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=num_draws)  # [B, count]
        weights[:, slice(None) if one_group else cells, :count] = drawn[:, None, :]
        spread[cells] = np.sqrt(count / (count - 1))
    return weights, spread


def _shared_problems(outcomes: Outcomes, generator: np.random.Generator, num_draws: int) -> np.ndarray:
    """float64 [B, P, R], run errors on problems drawn once for all runs."""
    num_cells, num_seeds, num_problems = outcomes.wrong.shape
    flat = outcomes.wrong.reshape(-1, num_problems).astype(np.float32)
    run_errors = np.empty((num_draws, num_cells, num_seeds))
    for first in range(0, num_draws, _CHUNK):
        size = min(_CHUNK, num_draws - first)
        weights = generator.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=size)
        counts = flat @ weights.T.astype(np.float32)  # exact: whole numbers below 2^24
        run_errors[first : first + size] = counts.T.astype(float).reshape(size, num_cells, num_seeds) / num_problems
    return run_errors


def _problems_of_each_cell(counts: Cells, generator: np.random.Generator, num_draws: int) -> np.ndarray:
    """float64 [B, P, R], run errors on problems drawn for each cell on its own: binomial, one quantile for its runs.

    The runs of a cell saw the same problems, and how far their failures coincide is not known. Were they drawn apart,
    the intervals of errors would be too narrow, and those of multipliers where algorithms fail on different problems.
    """
    chance = np.where(counts.present, counts.run_errors, 0.0)
    quantile = np.maximum(generator.random((num_draws, len(chance), 1)), 1e-12)
    return binom.ppf(quantile, counts.num_problems, chance) / counts.num_problems


def _weighted_mean(run_errors: np.ndarray, seed_weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    """[B, P] from run errors [B, P, R], weights [B, 1 or P, R] and presence [P, R]; NaN where nothing is drawn."""
    weights = seed_weights * present  # [B, P, R]
    total = weights.sum(axis=2)
    summed = (weights * run_errors).sum(axis=2)
    return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)


def overdispersion(outcomes: Cells) -> np.ndarray:
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
