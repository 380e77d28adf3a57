"""The joint model: one reference curve g, and for every other algorithm a multiplier, err_alg(D) = g(m_alg(D) D).

In: cell errors [B, P] of B replicates and how much each cell weighs. Out: `Fit`, B fits at once. H0 has m = 1, H1 a
constant multiplier, H2 a multiplier m0 x^delta. The objective is the binomial quasi-deviance of the cell means,
minimised by Fisher scoring with Levenberg-Marquardt damping; every start of the point fit is polished, and how many
agree is kept. Weak Gaussian priors, N(0, 7^2) on the floor's logit and the shift's logarithm and N(0, 3^2) on delta,
only keep unidentified parameters finite.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls

from analysis.forms import Form

Hypothesis = Literal["H0", "H1", "H2"]
_CLIP = 1e-6  # errors enter logarithms no closer than this to 0 and 1
_EXPONENTS = np.geomspace(0.02, 2.0, 24)  # starts for b
_NUM_POLISHED = 8
_AGREE = 1e-6  # relative difference in the objective under which two starts found the same minimum


@dataclass(frozen=True)
class Design:
    """What a joint model is fitted to, apart from the errors."""

    log_size: np.ndarray  # float64 [P], log of data_size
    arm: np.ndarray  # int [P], 0 for the reference, 1 .. K for the others
    weight: np.ndarray  # float64 [P], trials over overdispersion
    c_max: float  # the smallest observed error, which bounds the floor

    @property
    def num_arms(self) -> int:
        return int(self.arm.max()) + 1

    @property
    def log_center(self) -> float:
        """log D0, of the geometric mean of the distinct sizes."""
        return float(np.unique(self.log_size).mean())


@dataclass(frozen=True)
class Fit:
    """B fits of one form under one hypothesis."""

    form: Form
    hypothesis: Hypothesis
    theta: np.ndarray  # float64 [B, q], the form's parameters, then log m [K], then delta [K]
    objective: np.ndarray  # float64 [B], quasi-deviance and penalty
    deviance: np.ndarray  # float64 [B]
    fitted: np.ndarray  # float64 [B, P]
    converged: np.ndarray  # bool [B]
    num_starts: int = 1
    num_agree: int = 1  # starts whose objective is within 1e-6 of the best

    @property
    def num_parameters(self) -> int:
        return self.theta.shape[1]

    def log_multiplier(self, arm: int) -> np.ndarray:
        """float64 [B], log m at the centre D0; 0 for the reference and under H0."""
        if arm == 0 or self.hypothesis == "H0":
            return np.zeros(len(self.theta))
        return self.theta[:, self.form.num_parameters + arm - 1]

    def delta(self, arm: int) -> np.ndarray:
        """float64 [B], slope of log m in log D; 0 but under H2."""
        if arm == 0 or self.hypothesis != "H2":
            return np.zeros(len(self.theta))
        num_others = (self.theta.shape[1] - self.form.num_parameters) // 2
        return self.theta[:, self.form.num_parameters + num_others + arm - 1]

    def curve(self, log_size: np.ndarray, arm: int, design: Design) -> np.ndarray:
        """float64 [B, X], an arm's curve at other sizes."""
        centred = log_size - design.log_center
        shifted = centred + self.log_multiplier(arm)[:, None] + self.delta(arm)[:, None] * centred
        return self.form.evaluate(self.theta[:, : self.form.num_parameters], shifted, design.c_max).value


def fit_point(design: Design, errors: np.ndarray, form: Form, hypothesis: Hypothesis) -> Fit:
    """Fit one set of cell errors [P] from many starts. Raises ValueError where the design has too few sizes."""
    num_sizes = len(np.unique(design.log_size[design.arm == 0]))
    if num_sizes < form.min_sizes:
        raise ValueError(f"{form.name} needs {form.min_sizes} sizes of the reference, and there are {num_sizes}.")
    starts = _starts(design, errors, form, hypothesis)
    fit = polish(design, np.broadcast_to(errors, (len(starts), len(errors))), form, hypothesis, starts)
    best = int(np.argmin(fit.objective))
    agree = fit.objective <= fit.objective[best] * (1 + _AGREE) + 1e-9
    return Fit(
        form,
        hypothesis,
        fit.theta[best : best + 1],
        fit.objective[best : best + 1],
        fit.deviance[best : best + 1],
        fit.fitted[best : best + 1],
        fit.converged[best : best + 1],
        num_starts=len(starts),
        num_agree=int(agree.sum()),
    )


def fit_replicates(design: Design, errors: np.ndarray, point: Fit) -> Fit:
    """Fit every row of errors [B, P], warm-started at the point fit and at a flatter floor; the better one stays."""
    starts = [point.theta[0]]
    if point.form.has_floor:
        other = point.theta[0].copy()
        other[2] = -2.0 if other[2] > 0 else 2.0
        starts.append(other)
    found = []
    for start in starts:
        theta = np.broadcast_to(start, (len(errors), len(start)))
        found.append(polish(design, errors, point.form, point.hypothesis, theta))
    if len(found) == 1:
        return found[0]
    first, second = found
    better = second.objective < first.objective - 1e-9

    def pick(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a)

    return Fit(
        point.form,
        point.hypothesis,
        pick(first.theta, second.theta),
        pick(first.objective, second.objective),
        pick(first.deviance, second.deviance),
        pick(first.fitted, second.fitted),
        pick(first.converged, second.converged),
        num_starts=2,
    )


def polish(design: Design, errors: np.ndarray, form: Form, hypothesis: Hypothesis, theta: np.ndarray) -> Fit:
    """Minimise from theta [B, q] for errors [B, P], all rows at once; an error that is NaN weighs nothing."""
    theta = np.array(theta, dtype=float)
    weights = np.where(np.isnan(errors), 0.0, design.weight)
    errors = np.nan_to_num(errors)
    precision = _prior_precision(design, form, hypothesis)
    damping = np.full(len(theta), 1e-3)
    done = np.zeros(len(theta), bool)
    value, jacobian = _predict(design, form, hypothesis, theta)
    objective = _objective(weights, errors, value, theta, precision)
    for _ in range(300):
        active = np.flatnonzero(~done)
        if not len(active):
            break
        mean = np.clip(value[active], _CLIP, 1 - _CLIP)
        weight = weights[active] / (mean * (1 - mean))
        j = jacobian[active]
        gradient = np.einsum("bpq,bp->bq", j, weight * (errors[active] - value[active])) - precision * theta[active]
        curvature = np.einsum("bpq,bp,bpr->bqr", j, weight, j)
        diagonal = np.einsum("bqq->bq", curvature) + precision
        lifted = curvature + np.eye(theta.shape[1]) * (precision + damping[active, None] * diagonal + 1e-12)[:, None, :]
        step = np.linalg.solve(lifted, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
        trial = theta[active] + step
        trial_value, trial_jacobian = _predict(design, form, hypothesis, trial)
        trial_objective = _objective(weights[active], errors[active], trial_value, trial, precision)
        accepted = trial_objective <= objective[active]
        decrease = np.einsum("bq,bq->b", gradient, step)
        taken = active[accepted]
        theta[taken], value[taken], jacobian[taken] = trial[accepted], trial_value[accepted], trial_jacobian[accepted]
        objective[taken] = trial_objective[accepted]
        damping[active] = np.where(accepted, np.maximum(damping[active] / 4, 1e-10), damping[active] * 5)
        done[active] = (decrease < 1e-9) & (accepted | (damping[active] > 1e6)) | (damping[active] > 1e12)
    deviance = _deviance(weights, errors, value)
    return Fit(form, hypothesis, theta, objective, deviance, value, done)


def _predict(design: Design, form: Form, hypothesis: Hypothesis, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [B, P] and their derivatives by theta [B, P, q]."""
    num_others, first = design.num_arms - 1, form.num_parameters
    centred = design.log_size - design.log_center
    shifted = np.broadcast_to(centred, (len(theta), len(centred)))
    member = (design.arm[:, None] == np.arange(1, num_others + 1)).astype(float)  # [P, K]
    columns = np.zeros((0, num_others, len(centred)))
    if hypothesis != "H0":
        shifted = shifted + theta[:, first : first + num_others] @ member.T
        columns = member.T
    if hypothesis == "H2":
        slopes = (member * centred[:, None]).T
        shifted = shifted + theta[:, first + num_others :] @ slopes
        columns = np.concatenate([columns, slopes])
    values = form.evaluate(theta[:, :first], shifted, design.c_max)
    if hypothesis == "H0":
        return values.value, values.by_theta
    return values.value, np.concatenate([values.by_theta, values.by_log_x[..., None] * columns.T[None]], axis=2)


def _prior_precision(design: Design, form: Form, hypothesis: Hypothesis) -> np.ndarray:
    num_others = design.num_arms - 1
    of_form = [1 / 49.0 if name in ("floor", "log_d") else 0.0 for name in form.parameters]
    of_arms = {"H0": [], "H1": [0.0] * num_others, "H2": [0.0] * num_others + [1 / 9.0] * num_others}[hypothesis]
    return np.array(of_form + of_arms)


def _objective(weights: np.ndarray, errors: np.ndarray, value: np.ndarray, theta: np.ndarray, precision: np.ndarray):
    return 0.5 * _deviance(weights, errors, value) + 0.5 * (precision * theta**2).sum(axis=1)


def _deviance(weights: np.ndarray, errors: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Binomial quasi-deviance [B] of errors [B, P], weighted [B, P], from fitted values; 0 where they agree."""
    y, f = np.clip(errors, _CLIP, 1 - _CLIP), np.clip(value, _CLIP, 1 - _CLIP)
    terms = y * np.log(y / f) + (1 - y) * np.log((1 - y) / (1 - f))
    return 2 * (weights * terms).sum(axis=1)


def _starts(design: Design, errors: np.ndarray, form: Form, hypothesis: Hypothesis) -> np.ndarray:
    """The best starts [8, q] of a grid in b (and d), a and c by non-negative least squares at each."""
    log_m = _rough_log_multipliers(design, errors) if hypothesis != "H0" else np.zeros(design.num_arms)
    centred = design.log_size - design.log_center
    log_x = centred + log_m[design.arm]
    root = np.sqrt(design.weight / np.clip(errors * (1 - errors), 1e-3, None))
    found = []
    for d in form.shifts or (0.0,):
        for b in _EXPONENTS:
            power = (np.exp(log_x) + d) ** -b
            columns = [power, np.ones_like(power)] if form.has_floor else [power]
            (a, *floor), residual = nnls(root[:, None] * np.stack(columns, axis=1), root * errors)
            theta = [np.log(max(a, 1e-8)), np.log(b)]
            if form.has_floor:
                share = np.clip(floor[0] / design.c_max, 0.02, 0.98)
                theta.append(np.log(share / (1 - share)))
            if form.shifts:
                theta.append(np.log(d))
            found.append((residual, theta))
    found.sort(key=lambda item: item[0])
    starts = np.array([theta for _, theta in found[:_NUM_POLISHED]])
    num_others = design.num_arms - 1
    extra = {"H0": [], "H1": log_m[1:], "H2": np.concatenate([log_m[1:], np.zeros(num_others)])}[hypothesis]
    return np.concatenate([starts, np.broadcast_to(extra, (len(starts), len(extra)))], axis=1)


def _rough_log_multipliers(design: Design, errors: np.ndarray) -> np.ndarray:
    """[1 + K] mean horizontal distance to the reference's polyline in log-log, clamped at its ends."""
    reference = np.flatnonzero(design.arm == 0)
    reference = reference[np.argsort(design.log_size[reference])]
    levels = np.minimum.accumulate(np.clip(errors[reference], _CLIP, None))
    log_m = np.zeros(design.num_arms)
    for arm in range(1, design.num_arms):
        cells = np.flatnonzero(design.arm == arm)
        wanted = np.log(np.clip(errors[cells], _CLIP, None))
        at = np.interp(-wanted, -np.log(levels), design.log_size[reference])
        log_m[arm] = np.mean(at - design.log_size[cells])
    return log_m


def by_qaicc(fits: list[Fit], num_cells: int) -> list[tuple[float, Fit]]:
    """The fits with their QAICc, the smallest first (weights hold the overdispersion already); one set of errors."""
    scored = []
    for fit in fits:
        q = fit.num_parameters + 1  # the overdispersion is estimated too
        correction = 2 * q * (q + 1) / max(num_cells - q - 1, 1e-9)
        scored.append((float(fit.deviance[0]) + 2 * q + correction, fit))
    return sorted(scored, key=lambda item: (item[0], item[1].form.name))
