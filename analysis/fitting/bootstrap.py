"""The bootstrap of a study: shared problems drawn again, crossed with run effects drawn from pooled variances.

In: `Outcomes`, or `Counts`. Out: replicates of the cell errors, [B, P]. One resample of the problems serves every cell
and keeps the runs as they are, which gives the spread by problems and by luck. On top of that, every cell gets the mean
of as many new run effects as it has runs. They are normal, with a variance that is itself drawn (`run_noise`), so that
they spread like a t distribution. Effects that the runs of a seed share are kept: one random sign and size for each
seed multiplies its part in all cells and algorithms, because sizes are nested in a seed's stream and algorithms share
its SFT policy. Resampling three seeds instead gives ten different resamples, and an interval that ends at the outermost
runs; if runs differ by more than luck, it covers only 80 % (docs/coverage.md).

Every random number belongs to a problem, a seed, or an algorithm and size by name. A cell's replicates are therefore
the same, bit by bit, regardless of the other algorithms in the table.
"""

import hashlib
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from analysis.fitting.run_noise import run_noise
from analysis.tables.cells import Cells
from analysis.tables.outcomes import Outcomes
from analysis.tables.selection import Moves

MIN_SEEDS = 3  # fewer do not determine the spread between runs
_CHUNK = 500  # replicates multiplied at once
_PROBLEMS, _SEED, _SCALE, _VARIANCE, _RUN, _CELL, _LEFT_OUT = range(7)  # what a random number is for


def crossed_bootstrap(
    outcomes: Cells,
    num_draws: int,
    seed: int,
    reference: str | None = None,
    selection: Moves = MappingProxyType({}),
) -> np.ndarray:
    """Replicates of the cell errors, float64 [B, P].

    reference: the algorithm that others are compared with, the first one by default. If a table has cells without
    common seeds, an algorithm that shares none with the reference draws its own seed effects. selection: how the cells'
    logits move where one selection seed is left out; every replicate leaves one out, the same in all cells. Raises
    ValueError below three seeds: no honest interval can be made from fewer runs.
    """
    _check_seeds(outcomes)
    paired = _on_shared_problems(outcomes, num_draws, seed) if isinstance(outcomes, Outcomes) else None
    drawn = np.empty((num_draws, len(outcomes.data_size)))
    shared = set(outcomes.groups[outcomes.cells_of(reference or outcomes.algorithms[0])].tolist())
    for algorithm in outcomes.algorithms:
        cells, own = outcomes.cells_of(algorithm), outcomes.part([algorithm])
        means = _on_problems_of_each_cell(own, algorithm, num_draws, seed) if paired is None else paired[:, cells].T
        whose = "" if shared & set(outcomes.groups[cells].tolist()) else algorithm
        effects = _run_effects(own, algorithm, whose, num_draws, seed) + _left_out(own, selection, num_draws, seed)
        drawn[:, cells] = _moved(means, effects).T
    return drawn


def _run_effects(own: Cells, algorithm: str, whose: str, num_draws: int, seed: int) -> np.ndarray:
    """float64 [J, B], the effect of new runs on the logit of each cell's mean error.

    own: the algorithm's table; whose: name of the algorithm whose seeds they are, "" for those of the reference.
    """
    noise = run_noise(own, algorithm)
    variance = noise.drawn_variances(_generator(seed, _VARIANCE, algorithm), num_draws)
    alone = np.stack([_generator(seed, _RUN, algorithm, size).standard_normal(num_draws) for size in own.data_size])
    freedom = max(len(own.seeds) - 1, 1)  # one scale for all, so that shared effects cancel
    scale = np.sqrt(_generator(seed, _SCALE, whose).chisquare(freedom, num_draws))
    of_seed = np.stack([_generator(seed, _SEED, whose, label).standard_normal(num_draws) for label in own.seeds])
    shared = (noise.of_seed[:, None] * of_seed).sum(axis=0) / scale
    errors, num_runs = own.errors, own.present.sum(axis=1)
    steep = noise.slope / np.maximum(errors * (1 - errors), 1e-12)  # derivative of the mean error's logit by the effect
    effects: np.ndarray = (steep / np.sqrt(num_runs))[:, None] * (np.sqrt(variance) * alone + shared)
    return effects


def _left_out(own: Cells, selection: Moves, num_draws: int, seed: int) -> np.ndarray:
    """float64 [J, B], how an algorithm's logits move with what selection chose without one of its seeds."""
    names = zip(own.algorithm.tolist(), own.data_size.tolist(), strict=True)
    of_cells = [np.array(selection.get(name, (0.0,))) for name in names]
    places = {len(one): _generator(seed, _LEFT_OUT, len(one)).integers(len(one), size=num_draws) for one in of_cells}
    return np.stack([one[places[len(one)]] for one in of_cells])


def _moved(means: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """means moved by effects on their logits; an error of 0 or 1 stays."""
    inside = (means > 0) & (means < 1)
    safe = np.where(inside, means, 0.5)
    return np.where(inside, 1 / (1 + (1 - safe) / safe * np.exp(-np.clip(effects, -50, 50))), means)


def _on_shared_problems(outcomes: Outcomes, num_draws: int, seed: int) -> np.ndarray:
    """float64 [B, P], mean errors of the existing runs, on problems drawn once for all cells."""
    generator, num_problems = _generator(seed, _PROBLEMS), outcomes.num_problems
    wrong = (outcomes.wrong * outcomes.present[..., None]).sum(axis=1, dtype=np.float32)  # [P, N]
    means = np.empty((num_draws, len(wrong)))
    for first in range(0, num_draws, _CHUNK):
        size = min(_CHUNK, num_draws - first)
        drawn = generator.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=size)
        means[first : first + size] = (wrong @ drawn.T.astype(np.float32)).T  # exact: whole numbers below 2^24
    means /= outcomes.present.sum(axis=1) * num_problems
    return means


def _on_problems_of_each_cell(own: Cells, algorithm: str, num_draws: int, seed: int) -> np.ndarray:
    """float64 [J, B], mean errors on problems drawn for each cell on its own: binomial, one quantile for all its runs.

    The runs of a cell saw the same problems, but how far their failures coincide is unknown. Drawing them separately
    would make intervals too narrow: of errors, and of multipliers if algorithms fail on different problems.
    """
    quantile = np.stack([_generator(seed, _CELL, algorithm, size).random(num_draws) for size in own.data_size])
    wrong = np.asarray(binom.ppf(np.maximum(quantile, 1e-12), own.num_problems, own.errors[:, None]))
    return wrong / own.num_problems


def _check_seeds(outcomes: Cells) -> None:
    for group in np.unique(outcomes.groups):
        cells = outcomes.groups == group
        one_group = outcomes.seed_group is None
        count = len(outcomes.seeds) if one_group else int(outcomes.present[cells].any(axis=0).sum())
        if count < MIN_SEEDS:
            where = "" if one_group else f" of {outcomes.algorithm[cells][0]}, which shares no seed with other cells"
            raise ValueError(
                f"there are {count} seeds{where}; an interval needs at least {MIN_SEEDS}, because the spread between"
                " runs cannot be measured with fewer. Add seeds."
            )


def _generator(seed: int, *key: int | str) -> np.random.Generator:
    """The random generator for a named purpose."""
    named = [int(hashlib.sha256(part.encode()).hexdigest()[:8], 16) if isinstance(part, str) else part for part in key]
    return np.random.default_rng([seed, 0xB007, *named])


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
    variance: NDArray[np.float64] = np.maximum(np.exp(intercept + slope * np.log(outcomes.data_size)), 0.3)
    return variance
