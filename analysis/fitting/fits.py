"""Fits of the joint model: the best parameters for cell errors, many replicates at once.

In: cell errors [B, P] of B replicates and how much each cell weighs. Out: `Fit`, B fits at once. The objective is the
binomial quasi-deviance of the cell means, minimised by Fisher scoring with Levenberg-Marquardt damping; every start of
the point fit is polished, and the number that agree is kept. Weak Gaussian priors only keep unidentified parameters
finite.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.forms import Form
from analysis.fitting.joint import Design, Hypothesis, predict, prior_precision
from analysis.fitting.starts import starts

_CLIP = 1e-6  # errors enter logarithms no closer than this to 0 and 1
_TOLERANCE = 1e-9  # of a point fit
_REPLICATE_TOLERANCE = 1e-6  # one standard error adds 0.5 to the objective, so this is a 700th of one
_MAX_UPDATES = 1000  # a row that needs more has not converged
_OF_ROWS = ("theta", "objective", "deviance", "fitted", "converged")  # fields of a fit with one row per replicate
_AGREE = 1e-6  # relative difference in the objective under which two starts found the same minimum


@dataclass(frozen=True)
class Fit:
    """B fits of one form under one hypothesis."""

    form: Form
    hypothesis: Hypothesis
    theta: np.ndarray  # float64 [B, q], the form's parameters, then log m [K], then delta [K] or own floors [K]
    objective: np.ndarray  # float64 [B], quasi-deviance and penalty
    deviance: np.ndarray  # float64 [B]
    fitted: np.ndarray  # float64 [B, P]
    converged: np.ndarray  # bool [B]
    num_starts: int = 1
    num_agree: int = 1  # starts whose objective is within 1e-6 of the best

    @property
    def num_parameters(self) -> int:
        return int(self.theta.shape[1])

    def log_multiplier(self, arm: int) -> np.ndarray:
        """float64 [B], log m at the centre D0; 0 for the reference and under H0."""
        if arm == 0 or self.hypothesis == "H0":
            return np.zeros(len(self.theta))
        return self.theta[:, self.form.num_parameters + arm - 1]

    def delta(self, arm: int) -> np.ndarray:
        """float64 [B], slope of log m in log D; 0 except under H2."""
        if arm == 0 or self.hypothesis != "H2":
            return np.zeros(len(self.theta))
        num_others = (self.theta.shape[1] - self.form.num_parameters) // 2
        delta: np.ndarray = self.theta[:, self.form.num_parameters + num_others + arm - 1]
        return delta

    def curve(self, log_size: np.ndarray, arm: int, design: Design) -> np.ndarray:
        """float64 [B, X], an arm's curve at other sizes, under H0, H1 or H2."""
        centred = log_size - design.log_center
        shifted = centred + self.log_multiplier(arm)[:, None] + self.delta(arm)[:, None] * centred
        return self.form.evaluate(self.theta[:, : self.form.num_parameters], shifted, design.c_max).value


def fit_point(
    design: Design, errors: np.ndarray, form: Form, hypothesis: Hypothesis, min_sizes: int | None = None
) -> Fit:
    """Fit one set of cell errors [P], NaN where left out, from many starts. Raises ValueError with too few sizes."""
    num_sizes = len(np.unique(design.log_size[(design.arm == 0) & ~np.isnan(errors)]))
    needed = form.min_sizes if min_sizes is None else min_sizes
    if num_sizes < needed:
        raise ValueError(f"{form.name} needs {needed} sizes of the reference, and there are {num_sizes}.")
    return _best_of(design, errors, form, hypothesis, starts(design, errors, form, hypothesis))


def fit_again(design: Design, errors: np.ndarray, known: Fit) -> Fit:
    """Fit other errors [P] of the same cells, such as all but the largest size, starting at a fit to all."""
    return _best_of(design, errors, known.form, known.hypothesis, np.stack(_begin(known)))


def _best_of(design: Design, errors: np.ndarray, form: Form, hypothesis: Hypothesis, begin: np.ndarray) -> Fit:
    """The best fit over starts [S, q], each polished."""
    fit = polish(design, np.broadcast_to(errors, (len(begin), len(errors))), form, hypothesis, begin)
    best = int(np.argmin(fit.objective))
    agree = fit.objective <= fit.objective[best] * (1 + _AGREE) + 1e-9
    rows = {name: getattr(fit, name)[best : best + 1] for name in _OF_ROWS}
    return replace(fit, **rows, num_starts=len(begin), num_agree=int(agree.sum()))


def fit_replicates(design: Design, errors: np.ndarray, point: Fit) -> Fit:
    """Fit every row of errors [B, P], warm-started at the point fit and at a flatter floor; the better one stays."""
    found = []
    for start in _begin(point):
        theta = np.broadcast_to(start, (len(errors), len(start)))
        found.append(polish(design, errors, point.form, point.hypothesis, theta, _REPLICATE_TOLERANCE))
    best, *others = found
    for other in others:
        better = other.objective < best.objective - 1e-9
        for name in _OF_ROWS:
            getattr(best, name)[better] = getattr(other, name)[better]
    return replace(best, num_starts=len(found))


def _begin(point: Fit) -> list[np.ndarray]:
    """Starts: a fit, and the same with another floor."""
    begin = [point.theta[0]]
    if point.form.has_floor:
        other = point.theta[0].copy()
        other[2] = -2.0 if other[2] > 0 else 2.0
        begin.append(other)
    return begin


def polish(
    design: Design,
    errors: np.ndarray,
    form: Form,
    hypothesis: Hypothesis,
    theta: np.ndarray,
    tolerance: float = _TOLERANCE,
) -> Fit:
    """Minimise from theta [B, q] for errors [B, P], all rows at once; an error of NaN has no weight.

    tolerance: a row is done when the next step promises to decrease the objective by less than this.
    """
    theta = np.array(theta, dtype=float)  # a copy: rows are replaced in place
    weights = np.where(np.isnan(errors), 0.0, design.weight)
    errors = np.nan_to_num(errors)
    precision = prior_precision(design, form, hypothesis)
    damping = np.full(len(theta), 1e-3)
    done = np.zeros(len(theta), bool)
    value, jacobian = predict(design, form, hypothesis, theta)
    objective = _objective(weights, errors, value, theta, precision)
    for _ in range(_MAX_UPDATES):
        active = np.flatnonzero(~done)
        if not len(active):
            break
        mean = np.clip(value[active], _CLIP, 1 - _CLIP)
        # A cell whose error is 0 or 1 and is fitted as such no longer pulls: its clipped deviance is 0 from there on,
        # but its weight 1 / (mean (1 - mean)) would be a million and stop every other parameter.
        settled = (value[active] == mean) | (np.abs(errors[active] - mean) > 2 * _CLIP)
        weight = weights[active] * settled / (mean * (1 - mean))
        j = jacobian[active]
        residual = (weight * (errors[active] - value[active]))[:, None, :]
        gradient = (residual @ j)[:, 0, :] - precision * theta[active]
        curvature = (j * weight[..., None]).transpose(0, 2, 1) @ j
        diagonal = np.einsum("bqq->bq", curvature) + precision
        # Damping is relative to each parameter's own curvature, since their scales differ by orders of magnitude; the
        # 1e-12 keeps the matrix regular where neither data nor prior inform a parameter.
        lifted = curvature + np.eye(theta.shape[1]) * (precision + damping[active, None] * diagonal + 1e-12)[:, None, :]
        step = np.linalg.solve(lifted, gradient[..., None])[..., 0]
        # At most 2 in any parameter, all of them on a log or logit scale: a longer step lands where the curves are flat
        # and no gradient leads back.
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
        trial = theta[active] + step
        trial_value, trial_jacobian = predict(design, form, hypothesis, trial)
        trial_objective = _objective(weights[active], errors[active], trial_value, trial, precision)
        accepted = trial_objective <= objective[active]
        decrease = np.einsum("bq,bq->b", gradient, step)  # twice what the quadratic model promises
        gain = (objective[active] - trial_objective) / np.maximum(0.5 * decrease, 1e-300)
        taken = active[accepted]
        theta[taken], value[taken], jacobian[taken] = trial[accepted], trial_value[accepted], trial_jacobian[accepted]
        objective[taken] = trial_objective[accepted]
        # Where the surface bends more than Fisher's information says, full steps overshoot: damping then stays.
        change = np.select([~accepted, gain < 0.25, gain > 0.75], [5.0, 2.0, 0.25], 1.0)
        damping[active] = np.maximum(damping[active] * change, 1e-10)
        # Converged: the promise is small, and the last step was accepted or the damping is heavy. Stuck: not even a
        # vanishing step is accepted, which counts as the minimum too.
        done[active] = (decrease < tolerance) & (accepted | (damping[active] > 1e6)) | (damping[active] > 1e12)
    deviance = _deviance(weights, errors, value)
    return Fit(form, hypothesis, theta, objective, deviance, value, done)


def _objective(
    weights: np.ndarray, errors: np.ndarray, value: np.ndarray, theta: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    penalty: NDArray[np.float64] = (precision * theta**2).sum(axis=1)
    return 0.5 * _deviance(weights, errors, value) + 0.5 * penalty


def _deviance(weights: np.ndarray, errors: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Binomial quasi-deviance [B] of errors [B, P], weighted [B, P], from fitted values; 0 where they agree."""
    y, f = np.clip(errors, _CLIP, 1 - _CLIP), np.clip(value, _CLIP, 1 - _CLIP)
    terms = y * np.log(y / f) + (1 - y) * np.log((1 - y) / (1 - f))
    deviance: NDArray[np.float64] = 2 * (weights * terms).sum(axis=1)
    return deviance


def by_qaicc(fits: list[Fit], num_cells: int) -> list[tuple[float, Fit]]:
    """The fits with their QAICc, the smallest first (weights hold the overdispersion already); one set of errors."""
    scored = []
    for fit in fits:
        q = fit.num_parameters + 1  # the overdispersion is estimated too
        correction = 2 * q * (q + 1) / max(num_cells - q - 1, 1e-9)
        scored.append((float(fit.deviance[0]) + 2 * q + correction, fit))
    return sorted(scored, key=lambda item: (item[0], item[1].form.name))
