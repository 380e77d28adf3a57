"""Checks of the joint fit of an algorithm and its reference: larger models, and other ways of fitting.

In: a `Model`. Out: `Questions`, always shown beside the headline and never in its place; no verdict depends on them.
Larger models are those of `hierarchy`. `Variant`s are three other ways of fitting H1. The first is Huber's loss with
delta 1e-3 on log errors, as Hoffmann et al. 2022 (arXiv 2203.15556) fit losses. Errors of a few hundred problems
scatter far more than that, so here it is nearly least absolute deviations. The second is least squares of log errors.
The third is the same objective without the smallest size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares

from analysis.fitting.fits import Fit, fit_point
from analysis.fitting.joint import Design, predict, prior_precision
from analysis.multipliers.hierarchy import Comparison, compare_models
from analysis.multipliers.model import Model

HUBER_DELTA = 1e-3
_CLIP = 1e-6
_FAR = 15.0  # bound on every unconstrained parameter
_STEEPEST = 2.5  # bound on log b, and on log s


@dataclass(frozen=True)
class Variant:
    """One way of fitting."""

    name: str
    multiplier: float  # m of H1


@dataclass(frozen=True)
class Questions:
    """The checks of one algorithm."""

    comparisons: tuple[Comparison, ...]  # H0 to H4
    variants: tuple[Variant, ...]


def questions(model: Model) -> Questions:
    """All checks of one algorithm's model."""
    known = (model.design, model.errors)
    return Questions(compare_models(*known, model.draws, model.constant), variants(*known, model.constant))


def variants(design: Design, errors: np.ndarray, constant: Fit) -> tuple[Variant, ...]:
    """H1 of one algorithm and its reference in the same form, fitted in other ways; errors [P], NaN where not used."""
    found = {
        "Huber, log error": _in_logs(design, errors, constant, "huber"),
        "least squares, log error": _in_logs(design, errors, constant, "linear"),
        "without the smallest D": _without_smallest(design, errors, constant),
    }
    return tuple(Variant(name, float(np.exp(log_m[0]))) for name, log_m in found.items())


def spread(found: Sequence[Variant]) -> tuple[float, float]:
    """Smallest and largest m over the variants."""
    values = [variant.multiplier for variant in found]
    return min(values), max(values)


def _in_logs(design: Design, errors: np.ndarray, constant: Fit, loss: Literal["huber", "linear"]) -> np.ndarray:
    """log m [K] by a loss on the differences of log errors."""
    used = ~np.isnan(errors)
    # No error counts as less than half a wrong answer among all that the cell has seen.
    target = np.log(np.maximum(errors[used], 0.5 / np.maximum(design.weight[used], 1.0)))
    # As strong a prior as the headline's, against residuals of about 0.05.
    pull = 0.05 * np.sqrt(prior_precision(design, constant.form, "H1"))

    def residuals(theta: np.ndarray) -> np.ndarray:
        value, _ = predict(design, constant.form, "H1", theta[None])
        return np.concatenate([np.log(np.clip(value[0, used], _CLIP, None)) - target, pull * theta])

    def jacobian(theta: np.ndarray) -> np.ndarray:
        value, by_theta = predict(design, constant.form, "H1", theta[None])
        inside = value[0, used] > _CLIP
        slopes = by_theta[0, used] / np.clip(value[0, used], _CLIP, None)[:, None] * inside[:, None]
        return np.concatenate([slopes, np.diag(pull)])

    upper = np.full(pull.shape, _FAR)
    (steepness,) = (index for index, name in enumerate(constant.form.parameters) if name in ("log_b", "log_s"))
    upper[steepness] = _STEEPEST
    start = np.clip(constant.theta[0], -_FAR + 1e-3, upper - 1e-3)
    fit = least_squares(
        residuals, start, jacobian, (-_FAR, upper), ftol=1e-12, xtol=1e-12, gtol=1e-12, x_scale="jac", loss=loss,
        f_scale=HUBER_DELTA, max_nfev=2000,
    )  # fmt: skip
    return fit.x[constant.form.num_parameters :]


def _without_smallest(design: Design, errors: np.ndarray, constant: Fit) -> np.ndarray:
    """log m [K] without the smallest size of every algorithm that has three."""
    kept = errors.copy()
    for arm in range(design.num_arms):
        cells = design.cells_of(arm, errors)
        if len(cells) > 2:
            kept[cells[0]] = np.nan
    fit = fit_point(design, kept, constant.form, "H1", min_sizes=0)
    return fit.theta[0, constant.form.num_parameters :]
