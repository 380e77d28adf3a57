"""One-variable curves y(x), such as a loss or an error against size: power laws fitted in log space.

In: points (x, y), both positive. Out: `Curve`s. Forms: pow2 a x^-b; pow3 c + a x^-b (Hestness et al. 2017, arXiv
1712.00409); shift4 c + a (x + d)^-b, which is flat below d. The objective is the mean square of differences of log y,
so that RMSLE is what is minimised. Starts come from a grid of b and d, at each of which a and c follow by non-negative
least squares (variable projection); the best are polished by Levenberg-Marquardt steps with analytic gradients, many
fits at once. `choice` picks a form. `fitting.forms` has the learning curves of a study, whose x is relative to a mean
size and whose y is at most 1; there pow2 and pow3 have the same formulas, and shift4's a is the value at that size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.forms import FORMS, Form, registered
from analysis.fitting.joint import Design
from analysis.fitting.starts import starts

PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"pow2": ("a", "b"), "pow3": ("a", "b", "c"), "shift4": ("a", "b", "c", "d")}
)
FORMULAS: Mapping[str, str] = MappingProxyType({"pow2": "a x^-b", "pow3": "c + a x^-b", "shift4": "c + a (x + d)^-b"})
_EXPONENTS = np.geomspace(0.02, 4.0, 26)
_SHIFTS = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
_NUM_POLISHED = 8
_AGREE = 1e-6
_TOLERANCE = 1e-12  # what the next step may still promise to take off the objective, relative
_MAX_UPDATES = 500
STEEPEST = 5.0  # bound on b: beyond, a shifted power law turns into an exponential, which extrapolates worse
# log a at the centre, log b, log c, log d, with x and y over their geometric means
_LOW = np.array([-60.0, np.log(1e-4), -30.0, -12.0])
_NEARLY_LOW = np.array([-60.0 + 1e-6, np.log(1e-4) + 1e-6, -14.0, -9.0])  # c or d so small that it is 0 to the data
_FAR = 30.0  # of the parameters of a plug-in's form, which have no units
_HIGH = np.array([60.0, np.log(STEEPEST), 5.0, 7.0])


class Units(NamedTuple):
    """Geometric means of x and y, by which points are divided."""

    log_x: float
    log_y: float


@dataclass(frozen=True)
class Law:
    """A form as it is fitted to some points: log y at log x, both over their units."""

    form: str
    formula: str
    parameters: tuple[str, ...]  # theta's, as the formula writes them
    units: Units
    log_value: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    natural: Callable[[np.ndarray], np.ndarray]  # theta [B, q] -> the formula's parameters [B, q], in the units of x, y
    starts: np.ndarray  # float64 [S, q]
    low: np.ndarray  # float64 [q], bounds of theta
    nearly_low: np.ndarray  # so low that it is no different to the data
    high: np.ndarray
    lifted: Callable[[float], float]  # a floor's parameter, theta[2] -> one far from it


@dataclass(frozen=True)
class Curve:
    """B fits of one law."""

    law: Law
    theta: np.ndarray  # float64 [B, q]; of power laws log a at the centre, log b, log c, log d
    mean_square: np.ndarray  # float64 [B], of differences of log y
    num_points: int
    num_starts: int = 1
    num_agree: int = 1  # starts whose objective is within 1e-6 of the best

    @property
    def form(self) -> str:
        return self.law.form

    def predict(self, x: np.ndarray) -> np.ndarray:
        """float64 [B, X], y at x [X]."""
        units = self.law.units
        value: NDArray[np.float64] = np.exp(self.law.log_value(self.theta, np.log(x) - units.log_x)[0] + units.log_y)
        return value

    @property
    def natural(self) -> np.ndarray:
        """float64 [B, q], the parameters as the formula writes them, in the units of x and y."""
        return self.law.natural(self.theta)

    @property
    def at_bounds(self) -> tuple[str, ...]:
        """Parameters of the first fit at a bound: the data say only that they lie there or beyond."""
        ends = (self.theta[0] <= self.law.nearly_low) | (self.theta[0] >= self.law.high - 1e-6)
        return tuple(name for name, at_end in zip(self.law.parameters, ends, strict=True) if at_end)

    @property
    def aicc(self) -> float:
        """Of the first fit; the variance of the residuals counts as a parameter."""
        n, k = self.num_points, self.theta.shape[1] + 1
        if n <= k + 1:
            return float("inf")
        return float(n * np.log(max(self.mean_square[0], 1e-30)) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def form_names() -> tuple[str, ...]:
    """The power laws, and the forms that plug-ins have registered (docs/plugins.md)."""
    return (*PARAMETERS, *registered())


def num_parameters(form: str) -> int:
    return len(PARAMETERS[form]) if form in PARAMETERS else FORMS[form].num_parameters


def fit_curve(x: np.ndarray, y: np.ndarray, form: str) -> Curve:
    """Fit points [P] from many starts. Raises ValueError with fewer sizes than parameters."""
    num_sizes = len(np.unique(x))
    if num_sizes < num_parameters(form):
        raise ValueError(f"{form} has {num_parameters(form)} parameters and there are {num_sizes} distinct sizes.")
    law = _power_law(form, x, y) if form in PARAMETERS else _registered_law(FORMS[form], x, y)
    weights = np.broadcast_to(1 / len(x), (len(law.starts), len(x)))
    theta, objective = _polish(law, np.log(x) - law.units.log_x, np.log(y) - law.units.log_y, weights, law.starts)
    best = int(objective.argmin())
    agree = int((objective <= objective[best] * (1 + _AGREE) + 1e-15).sum())
    return Curve(law, theta[best : best + 1], objective[best : best + 1], len(x), len(law.starts), agree)


def bootstrap_curve(x: np.ndarray, y: np.ndarray, curve: Curve, num_draws: int, seed: int) -> Curve:
    """Fits to points drawn with replacement, started at the fit and at a far floor; the better one stays.

    A draw with fewer distinct sizes than parameters is drawn again: it decides nothing.
    """
    generator = np.random.default_rng([seed, 0xC0E5])
    sizes, place = np.unique(x, return_inverse=True)
    weights = np.zeros((0, len(x)))
    while len(weights) < num_draws:
        drawn = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=num_draws)
        held = np.stack([drawn[:, place == index].any(axis=1) for index in range(len(sizes))]).sum(axis=0)
        weights = np.concatenate([weights, drawn[held >= curve.theta.shape[1]] / len(x)])
    weights = weights[:num_draws]
    law = curve.law
    log_x, log_y = np.log(x) - law.units.log_x, np.log(y) - law.units.log_y
    begin = [curve.theta[0]]
    if "c" in law.parameters:
        other = curve.theta[0].copy()
        other[2] = law.lifted(other[2])
        begin.append(other)
    found = [_polish(law, log_x, log_y, weights, np.tile(start, (num_draws, 1)), 1e-8) for start in begin]
    objectives = np.stack([objective for _, objective in found])
    best = objectives.argmin(axis=0)
    theta = np.stack([theta for theta, _ in found])[best, np.arange(num_draws)]
    return Curve(law, theta, objectives.min(axis=0), len(x), num_starts=len(begin))


def rmsle(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Root mean square of differences of logarithms."""
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(observed)) ** 2)))


def _power_law(form: str, x: np.ndarray, y: np.ndarray) -> Law:
    units = Units(float(np.log(x).mean()), float(np.log(y).mean()))
    log_x, log_y, size = np.log(x) - units.log_x, np.log(y) - units.log_y, len(PARAMETERS[form])

    def natural(short: np.ndarray) -> np.ndarray:
        theta = _full(short)
        b, d = np.exp(theta[:, 1]), np.exp(theta[:, 3]) if size > 3 else np.zeros(len(theta))
        log_a = theta[:, 0] + b * (np.log1p(d) + units.log_x) + units.log_y
        columns = (np.exp(np.minimum(log_a, 700.0)), b, np.exp(theta[:, 2] + units.log_y))
        return np.stack([*columns, d * np.exp(units.log_x)], axis=1)[:, :size]

    def lifted(floor: float) -> float:
        return float(log_y.min() - (4.0 if floor > log_y.min() - 2.0 else 0.3))

    bounds = (_LOW[:size], _NEARLY_LOW[:size], _HIGH[:size])
    begin = _starts(log_x, log_y, size)
    return Law(form, FORMULAS[form], PARAMETERS[form], units, _log_value, natural, begin, *bounds, lifted)


def _registered_law(form: Form, x: np.ndarray, y: np.ndarray) -> Law:
    """A plug-in's form, with x over its geometric mean, as in a study, and y as it is."""
    design = Design(np.log(x), np.zeros(len(x), int), np.ones(len(x)), float(y.min()))
    names = form.natural_names

    def log_value(theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = form.evaluate(theta, np.broadcast_to(log_x, (len(theta), len(log_x))), design.c_max)
        value = np.maximum(values.value, 1e-300)
        return np.log(value), values.by_theta / value[..., None]

    def natural(theta: np.ndarray) -> np.ndarray:
        found = [form.natural(row, design.c_max) for row in theta]
        return np.array([[row[name] for name in names] for row in found])

    formula = f"{form.formula} with x = size / {np.exp(design.log_center):.4g}"
    low, high = np.full(len(names), -_FAR), np.full(len(names), _FAR)
    units, begin = Units(design.log_center, 0.0), np.clip(starts(design, y, form, "H0"), low, high)
    bounds = (low, low + 1e-6, high)
    return Law(form.name, formula, names, units, log_value, natural, begin, *bounds, lambda c: -2.0 if c > 0 else 2.0)


def _starts(log_x: np.ndarray, log_y: np.ndarray, num_parameters: int) -> np.ndarray:
    """float64 [S, q], the best of the grid; relative differences of y stand in for those of log y."""
    shifts = np.log(_SHIFTS) if num_parameters > 3 else np.array([-np.inf])
    log_b, log_d = (grid.ravel() for grid in np.meshgrid(np.log(_EXPONENTS), shifts, indexing="ij"))
    centred = np.logaddexp(log_x, log_d[:, None]) - np.logaddexp(0.0, log_d)[:, None]
    power = np.exp(-np.exp(log_b)[:, None] * centred - log_y)  # a's column over y
    level = np.broadcast_to(np.exp(-log_y), power.shape) if num_parameters > 2 else np.zeros(power.shape)
    aa, ac, cc = (power**2).sum(axis=1), (power * level).sum(axis=1), (level**2).sum(axis=1)
    pa, pc = power.sum(axis=1), level.sum(axis=1)
    determinant = np.maximum(aa * cc - ac**2, 1e-300)
    a, c = (pa * cc - pc * ac) / determinant, (pc * aa - pa * ac) / determinant
    alone = (c <= 0) | (num_parameters == 2)
    a, c = np.where(alone, pa / aa, a), np.where(alone, 0.0, c)
    theta = np.stack([np.log(np.maximum(a, 1e-6)), log_b, np.log(np.maximum(c, 1e-4)), log_d], axis=1)
    theta = theta[:, :num_parameters]
    miss = _log_value(theta, log_x)[0] - log_y
    return theta[np.argsort((miss**2).sum(axis=1), kind="stable")[:_NUM_POLISHED]]


def _full(theta: np.ndarray) -> np.ndarray:
    """theta [B, 4]; what a form lacks is as good as absent."""
    return np.concatenate([theta, np.full((len(theta), 4 - theta.shape[1]), -np.inf)], axis=1)


def _log_value(theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log y [B, P] at log x [P], and its derivatives by theta [B, P, q]."""
    log_a, log_b, log_c, log_d = (column[:, None] for column in _full(theta).T)
    b = np.exp(log_b)
    log_sum = np.logaddexp(log_x, log_d)
    centred = log_sum - np.logaddexp(0.0, log_d)
    log_power = log_a - b * centred
    value = np.logaddexp(log_power, log_c)
    share = np.exp(log_power - value)
    by_d = -b * (np.exp(log_d - log_sum) - np.exp(log_d - np.logaddexp(0.0, log_d)))
    slopes = np.stack([share, -b * centred * share, 1 - share, by_d * share], axis=2)
    return value, slopes[:, :, : theta.shape[1]]


def _polish(
    law: Law,
    log_x: np.ndarray,
    log_y: np.ndarray,
    weights: np.ndarray,
    theta: np.ndarray,
    tolerance: float = _TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the weighted mean square [B] from theta [B, q], all rows at once; weights: float64 [B, P]."""
    low, high = law.low, law.high
    theta = np.clip(theta, low, high)
    damping = np.full(len(theta), 1e-3)
    value, slopes = law.log_value(theta, log_x)
    objective = (weights * (value - log_y) ** 2).sum(axis=1)
    active = np.arange(len(theta))
    for _ in range(_MAX_UPDATES):
        if not len(active):
            break
        weighted = weights[active, :, None] * slopes[active]
        gradient = np.einsum("bpq,bp->bq", weighted, value[active] - log_y)
        hessian = np.einsum("bpq,bpr->bqr", weighted, slopes[active])
        diagonal = np.einsum("bqq->bq", hessian)
        scale = np.maximum(diagonal, 1e-10 * diagonal.max(axis=1, keepdims=True) + 1e-300)
        held = ((theta[active] <= low) & (gradient > 0)) | ((theta[active] >= high) & (gradient < 0))
        gradient = np.where(held, 0.0, gradient)
        matrix = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
        ridge = (1e-9 + damping[active, None] + held) * scale
        matrix = matrix + np.eye(theta.shape[1]) * ridge[:, :, None]
        step = -np.linalg.solve(matrix, gradient[..., None])[..., 0]
        tried = np.clip(theta[active] + np.clip(step, -3.0, 3.0), low, high)
        tried_value, tried_slopes = law.log_value(tried, log_x)
        tried_objective = (weights[active] * (tried_value - log_y) ** 2).sum(axis=1)
        better = tried_objective <= objective[active]
        promised = -(gradient * step).sum(axis=1)
        done = (promised <= tolerance * np.maximum(objective[active], 1e-18)) | (damping[active] > 1e12)
        rows = active[better]
        theta[rows], value[rows], slopes[rows] = tried[better], tried_value[better], tried_slopes[better]
        objective[rows] = tried_objective[better]
        damping[active] = np.where(better, np.maximum(damping[active] / 5, 1e-10), damping[active] * 4)
        active = active[~done]
    return theta, objective
