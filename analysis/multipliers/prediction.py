"""m at any data size, and the m that one new run there would show.

In: the joint fit of an algorithm and the reference, and a data size. Out: `Predicted`. Its first interval is that of
m(D), from the draws of the fit: with one m for all sizes, or one that changes with D. The second adds the run. Every
draw gets a run effect, with the algorithm's pooled variance and what a seed's runs share, and luck with as many test
problems. The multiplier is then read from the draw's own reference curve at the error that results.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from analysis.fitting.run_noise import run_noise
from analysis.multipliers.estimates import LEVEL, censored_interval, percentile_interval
from analysis.multipliers.model import Model

_GRID = 400  # sizes at which a reference curve is inverted
_REACH = float(np.log(64.0))  # how far beyond the data and the size asked for, either way


@dataclass(frozen=True)
class Predicted:
    """m of one algorithm at one data size."""

    algorithm: str
    data_size: int
    estimate: float
    low: float  # 95 % interval of m(D)
    high: float
    new_run_low: float  # 95 % interval of the m that one new run would show
    new_run_high: float
    extrapolated: bool  # whether D or m D lies outside of the data


def predicted(model: Model, data_size: int, varies: bool, seed: int = 0) -> Predicted:
    """m at one data size; varies: take the multiplier that changes with D, else the one for all sizes."""
    point, draws = (model.varying, model.varying_draws) if varies else (model.constant, model.constant_draws)
    design, log_size = model.design, np.log(data_size)
    centred = log_size - design.log_center
    estimate, log_m = (fit.log_multiplier(1) + fit.delta(1) * centred for fit in (point, draws))
    expected = draws.curve(np.array([log_size]), 1, design)[:, 0]
    errors = np.clip(expected, 1e-6, 1 - 1e-6)
    generator = np.random.default_rng([seed, 0x9E77, data_size])
    error = _of_new_runs(model, errors, generator)
    matched = log_size + float(np.median(log_m))
    known = [*design.log_size, log_size, matched]
    ends = min(known) - _REACH, max(known) + _REACH
    grid = np.linspace(*ends, _GRID)
    curves = np.minimum.accumulate(draws.curve(grid, 0, design), axis=1)
    reached = np.array([np.interp(-one, -curve, grid) for one, curve in zip(error, curves, strict=True)])
    reached = np.where(error < curves[:, -1], np.inf, np.where(error > curves[:, 0], -np.inf, reached))
    range_of_m = ends[0] - log_size, ends[1] - log_size
    nowhere = expected != errors  # the curve leaves 0 to 1, so that the draw says nothing about a new run
    new_low, _ = censored_interval(np.where(nowhere, -np.inf, reached - log_size), range_of_m)
    _, new_high = censored_interval(np.where(nowhere, np.inf, reached - log_size), range_of_m)
    of_reference = design.log_size[design.arm == 0]
    outside = max(log_size, log_size + float(estimate[0])) > of_reference.max() or log_size < of_reference.min()
    at, low, high = (float(value) for value in np.exp([float(estimate[0]), *percentile_interval(log_m, LEVEL)]))
    return Predicted(model.algorithm, data_size, at, low, high, new_low, new_high, bool(outside))


def _of_new_runs(model: Model, errors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """float64 [B], the errors that new runs would show where errors [B] are expected."""
    outcomes = model.outcomes
    noise = run_noise(outcomes.part([model.algorithm]), model.algorithm)
    of_seeds = (noise.of_seed**2).sum() / max(len(noise.of_seed) - 1, 1)
    spread = np.sqrt(noise.drawn_variances(generator, len(errors)) + of_seeds)
    seen = outcomes.errors[outcomes.cells_of(model.algorithm)]
    # The effect is in logits of a problem; a run's mean error follows it less, the more problems differ in difficulty.
    follows = np.median(noise.slope / np.maximum(seen * (1 - seen), 1e-12))
    moved = expit(logit(errors) + follows * spread * generator.standard_normal(len(errors)))
    luck = np.sqrt(follows * moved * (1 - moved) / outcomes.num_problems)
    drawn: np.ndarray = np.clip(moved + luck * generator.standard_normal(len(errors)), 1e-9, 1 - 1e-9)
    return drawn
