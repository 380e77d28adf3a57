"""Tests of the hierarchy of joint models: does a larger one describe the curves better than by chance?

In: the design, cell errors, bootstrap draws and a fit of the smaller model. Out: `Comparison`s. H0 is one curve, H1 has
constant multipliers, H2 multipliers that change with D, H3 a separate floor for each algorithm, H4 separate curves.
The statistic is the quasi-F, deviance saved per added parameter (weights include the overdispersion already). Its null
distribution comes from replicates recentred on the smaller fit, because no chi-square holds with few sizes and
parameters at bounds.
"""

from dataclasses import dataclass, replace

import numpy as np

from analysis.fitting.fits import Fit, fit_point, fit_replicates
from analysis.fitting.joint import Design, Hypothesis, own_floor_logit

NUM_REPLICATES = 500  # of the null distribution; p = 5 % is then known to 1 %


@dataclass(frozen=True)
class Comparison:
    """A smaller model against a larger one that contains it."""

    smaller: str
    larger: str
    statistic: float  # quasi-F
    num_added: int  # parameters
    p: float


def recentred(errors: np.ndarray, draws: np.ndarray, fit: Fit) -> np.ndarray:
    """float64 [B, P], data that truly follow the fit, with the replicates' scatter; NaN where errors are NaN."""
    moved: np.ndarray = np.clip(fit.fitted + draws[:NUM_REPLICATES] - errors, 0.0, 1.0)
    return moved


def lack_of_fit(design: Design, errors: np.ndarray, draws: np.ndarray, fit: Fit) -> float:
    """p: how often data that truly follow the fit would deviate from it by as much as the errors do."""
    deviances = fit_replicates(design, recentred(errors, draws, fit), fit).deviance
    return float(np.mean(deviances >= fit.deviance[0]))


def compare_models(design: Design, errors: np.ndarray, draws: np.ndarray, constant: Fit) -> tuple[Comparison, ...]:
    """H0 against H1, then H1 against all that contain it; H3 only if the form has a floor. constant: H1's point fit."""
    form = constant.form
    same = fit_point(design, errors, form, "H0", min_sizes=0)
    null = recentred(errors, draws, same)
    found = [_compare(design, errors, null, same, fit_replicates(design, null, same).deviance, "H1")]
    null = recentred(errors, draws, constant)
    missed = fit_replicates(design, null, constant).deviance
    for larger in ("H2", "H3") if form.has_floor else ("H2",):
        found.append(_compare(design, errors, null, constant, missed, larger))
    return (*found, _against_separate(design, errors, null, constant, missed))


def _compare(
    design: Design, errors: np.ndarray, null: np.ndarray, small: Fit, missed: np.ndarray, larger: Hypothesis
) -> Comparison:
    """null: data [B, P] that follow the smaller fit; missed: its deviances [B] from them."""
    large = fit_point(design, errors, small.form, larger, min_sizes=0)
    # Data made from the smaller fit are best fitted from that fit, written in the larger model's parameters.
    theta, added = small.theta, large.num_parameters - small.num_parameters
    if larger == "H3":
        floor = small.form.parameters.index("floor")
        tail = np.repeat(own_floor_logit(theta[:, floor : floor + 1], design.c_max), added, axis=1)
    else:
        tail = np.zeros((1, added))
    embedded = replace(large, theta=np.concatenate([theta, tail], axis=1))
    saved = missed - fit_replicates(design, null, embedded).deviance
    observed = float(small.deviance[0] - large.deviance[0])
    return Comparison(small.hypothesis, larger, observed / added, added, _p(saved, observed))


def _against_separate(
    design: Design, errors: np.ndarray, null: np.ndarray, constant: Fit, missed: np.ndarray
) -> Comparison:
    """H4: every algorithm has a curve of its own, so that each can be fitted separately."""
    observed, saved = float(constant.deviance[0]), missed
    num_separate = 0
    for arm in range(design.num_arms):
        cells = np.flatnonzero(design.arm == arm)
        own = Design(design.log_size[cells], np.zeros(len(cells), int), design.weight[cells], design.c_max)
        observed -= fit_point(own, errors[cells], constant.form, "H0", min_sizes=0).deviance[0]
        start = fit_point(own, constant.fitted[0, cells], constant.form, "H0", min_sizes=0)
        saved = saved - fit_replicates(own, null[:, cells], start).deviance
        num_separate += min(int((~np.isnan(errors[cells])).sum()), constant.form.num_parameters)
    added = max(num_separate - constant.num_parameters, 1)
    return Comparison(constant.hypothesis, "H4", float(observed) / added, added, _p(saved, float(observed)))


def _p(null: np.ndarray, observed: float) -> float:
    return float((1 + np.sum(null >= observed)) / (len(null) + 1))
