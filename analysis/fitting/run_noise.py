"""How much runs differ beyond luck: the variance of run effects of one algorithm, with its own uncertainty.

In: the runs of one algorithm. Out: `RunNoise`. Effects are in logits of a problem: an effect v moves a run's error by
`slope` v, with slope = E[p (1 - p)] over problems, the disagreement of a cell's runs on one problem. Part of
the spread between runs is luck, slope / N for N problems. The rest is pooled over the algorithm's cells, because
three runs hardly determine a variance, but not over other algorithms, so no interval depends on the other algorithms
in the table. The pooled variance is drawn by inverting Q(s) = sum v^2 / (s + luck), which is chi-square
with the pooled degrees of freedom (the Q-profile of meta-analysis: Viechtbauer 2007, doi 10.1002/sim.2514).
"""

import math
from dataclasses import dataclass

import numpy as np

from analysis.tables.cells import Cells
from analysis.tables.outcomes import Outcomes

_GRID = np.concatenate([[0.0], np.geomspace(1e-7, 1e4, 600)])  # of the variance of run effects
_NO_LUCK = 1e-9  # variance of an effect if no luck is subtracted


@dataclass(frozen=True)
class RunNoise:
    """The run effects of an algorithm with J cells and R seeds."""

    slope: np.ndarray  # float64 [J], derivative of a run's error by its effect
    luck: np.ndarray  # float64 [J], variance of an observed effect due to luck alone; inf if unobserved
    of_seed: np.ndarray  # float64 [R], effect shared by the runs of a seed, shrunk by the share that luck explains
    squares: np.ndarray  # float64 [J], sums of squares of the rest
    freedom: float  # degrees of freedom of the rest

    @property
    def variance(self) -> float:
        """Variance of the run effects without those that a seed's runs share: where Q equals its mean."""
        return float(self._where(np.array([self.freedom]))[0])

    @property
    def over_luck(self) -> float:
        """Standard deviation of run effects over that of luck, in the error of a run; root mean square over cells."""
        seen = np.isfinite(self.luck)
        if not seen.any():
            return 0.0
        if (self.luck[seen] <= _NO_LUCK).all():  # counts do not separate the two
            return math.nan
        num_seeds = len(self.of_seed)
        total = self.variance + float((self.of_seed**2).sum()) / max(num_seeds - 1, 1)
        return float(np.sqrt(total / self.luck[seen].mean()))

    def drawn_variances(self, generator: np.random.Generator, num_draws: int) -> np.ndarray:
        """float64 [B], variances that could explain the squares; 0 if luck alone could."""
        if self.freedom <= 0:
            return np.zeros(num_draws)
        return self._where(generator.chisquare(self.freedom, num_draws))

    def _where(self, q: np.ndarray) -> np.ndarray:
        """The variance at which Q is q; 0 if Q(0) is already less."""
        seen = np.isfinite(self.luck)
        if not seen.any() or self.freedom <= 0:
            return np.zeros(len(q))
        falling = (self.squares[seen, None] / (_GRID + self.luck[seen, None])).sum(axis=0)
        variance: np.ndarray = np.interp(-q, -falling, _GRID)
        return variance


def run_noise(outcomes: Cells, algorithm: str) -> RunNoise:
    """The run noise of one algorithm, from its own runs."""
    cells = outcomes.cells_of(algorithm)
    present = outcomes.present[cells]
    num_runs = present.sum(axis=1)
    slope, luck = _luck(outcomes, cells)
    seen = (num_runs > 1) & np.isfinite(luck)
    luck = np.where(seen, luck, np.inf)
    gap = np.where(present, outcomes.run_errors[cells] - outcomes.errors[cells, None], 0.0)
    effect = np.where(seen[:, None], gap / slope[:, None], 0.0)
    freedom = float((num_runs[seen] - 1).sum())
    alone = RunNoise(slope, luck, np.zeros(present.shape[1]), (effect**2).sum(axis=1), freedom)
    if seen.sum() < 2:
        return alone
    # The effect that a seed's runs share: their mean, weighted by the precision of each cell.
    weight = np.where(seen, 1 / (alone.variance + luck), 0.0)
    each = weight[:, None] * (present & seen[:, None])
    total = each.sum(axis=0)
    common = np.divide((each * effect).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
    num_common = max(int((total > 0).sum()) - 1, 1)
    between = float((total * common**2).sum())
    within = max(float((each * effect**2).sum()) - between, 0.0) / max(freedom - num_common, 1.0)
    share = max(0.0, 1 - within * num_common / between) if between > 0 else 0.0
    # The rest is measured without the seeds' means, even if these are luck. Keeping small means and subtracting large
    # ones would make it too small in both cases.
    left = np.where(present & seen[:, None], effect - common, 0.0)
    freedom_left, known = freedom - num_common, freedom - share * num_common
    if freedom_left < 1:
        return alone
    return RunNoise(slope, luck, np.sqrt(share) * common, (left**2).sum(axis=1) * known / freedom_left, known)


def _luck(outcomes: Cells, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """slope [J] and luck [J] of every cell; luck is inf if run effects cannot be observed.

    Counts do not show how much runs disagree on a problem. The slope is then the binomial one, the largest possible,
    and no luck is subtracted from the spread between runs, which widens intervals.
    """
    errors = outcomes.errors[cells]
    binomial = errors * (1 - errors)
    if not isinstance(outcomes, Outcomes):
        return np.maximum(binomial, 1e-12), np.where(binomial > 0, _NO_LUCK, np.inf)
    num_runs = outcomes.present[cells].sum(axis=1)
    share = np.stack([outcomes.wrong[cell][outcomes.present[cell]].mean(axis=0) for cell in cells])  # [J, N]
    disagree = (share * (1 - share)).mean(axis=1) * num_runs / np.maximum(num_runs - 1, 1)
    several = num_runs > 1
    part = np.divide(disagree, binomial, out=np.ones_like(binomial), where=several & (binomial > 0))
    usual = float(np.median(part[several])) if several.any() else 1.0
    slope = np.where(several, disagree, usual * binomial)
    return np.maximum(slope, 1e-12), np.where(slope > 0, 1 / (np.maximum(slope, 1e-12) * outcomes.num_problems), np.inf)
