"""Compute at equal error: how many times more FLOPs the reference needs for the error of another learner.

In: a `Study` and the FLOPs of a run of each of its cells. Out: `EqualError`s. A learner's curve joins all of its cells
by the cost of a run, no matter what sets their budget (problems, iterations, rounds, samples). The runs of every cell
were trained to their end at that budget, because a checkpoint within a schedule does not show the error at its compute.
Curves are isotonic in FLOPs. Each draw redraws whole runs and problems (`crossed_bootstrap`), and with them all
curves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.fitting.isotonic import non_increasing
from analysis.multipliers.estimates import FallingCurve, mean_in_range
from analysis.verdicts.study import Study

MIN_BUDGETS = 3  # of the reference; fewer make no curve
# Keys that only set a learner's budget; every other key makes another learner.
BUDGETS = {"iterations", "rounds", "samples_per_problem", "traces_per_problem", "negatives_per_problem"}
BUDGETS |= {"rollouts_per_prefix", "updates_per_iteration", "problems_per_update", "max_positives", "pairs_per_problem"}


@dataclass(frozen=True)
class EqualError:
    """One estimate with its 95 % interval, at one budget of a learner or on average over those in range."""

    learner: str  # an algorithm at all of its budgets
    kind: str  # "budget" or "mean"
    flops: float  # of one run; NaN for the mean
    error: float  # of the learner's curve there; NaN for the mean
    estimate: float  # FLOPs of the reference over these; inf: it does not reach the error, 0: its smallest budget does
    low: float
    high: float
    not_reached: float  # share of draws in which no budget of the reference reaches the error


def equal_errors(study: Study, flops: Mapping[tuple[str, int], float]) -> tuple[EqualError, ...]:
    """At every budget of every learner but the reference; empty without draws or a curve of the reference.

    flops: of one run of each cell; empty if unknown.
    """
    outcomes, draws = study.outcomes, study.draws
    if not flops or draws is None:
        return ()
    names = np.array([learner_of(str(name)) for name in outcomes.algorithm])
    cells = zip(outcomes.algorithm, outcomes.data_size, strict=True)
    log_flops = np.log([flops[str(name), int(size)] for name, size in cells])
    whose = learner_of(study.reference)
    of_reference = _by_cost(names == whose, log_flops)
    if len(np.unique(log_flops[of_reference])) < MIN_BUDGETS:
        return ()
    levels, drawn_levels = (non_increasing(errors[:, of_reference]) for errors in (outcomes.errors[None], draws))
    reference = FallingCurve(log_flops[of_reference], levels, drawn_levels)
    found = list[EqualError]()
    for learner in dict.fromkeys(names[names != whose].tolist()):
        own = _by_cost(names == learner, log_flops)
        errors, drawn = non_increasing(outcomes.errors[None, own])[0], non_increasing(draws[:, own])
        at = [reference.matched(log_flops[cell], errors[j], drawn[:, j]) for j, cell in enumerate(own)]
        for cell, error, one in zip(own, errors.tolist(), at, strict=True):
            spent = float(np.exp(log_flops[cell]))
            found.append(EqualError(learner, "budget", spent, error, *one.m, one.right_censored))
        if (mean := mean_in_range(at)) is not None:
            found.append(EqualError(learner, "mean", np.nan, np.nan, *mean, 0.0))
    return tuple(found)


def learner_of(name: str) -> str:
    """The algorithm's name without the settings that only set its budget; others make another learner of it."""
    algorithm, *settings = name.split(", ")
    return ", ".join([algorithm, *(one for one in settings if one.partition("=")[0] not in BUDGETS)])


def _by_cost(members: np.ndarray, log_flops: np.ndarray) -> np.ndarray:
    """int [J], the cells of a learner, the cheapest first."""
    cells = np.flatnonzero(members)
    ordered: np.ndarray = cells[np.argsort(log_flops[cells], kind="stable")]
    return ordered
