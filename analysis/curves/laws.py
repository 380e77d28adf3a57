"""One-variable curves y(x), such as a loss or an error against size: laws fitted in log space.

In: points (x, y), both positive, and how much each weighs. Out: `Curve`s. Laws: pow2 a x^-b; pow3 c + a x^-b (Hestness
et al. 2017, arXiv 1712.00409); shift4 c + a (x + d)^-b, which is flat below d; hill c + (e0 - c) / (1 + (x / x_mid)^b),
which leaves a ceiling e0 and falls to c (arXiv 2510.13786 against compute, arXiv 2402.02314 against data); bnsl1
c + a x^-b (1 + (x / d)^(1 / f))^(-c1 f), with one break (Caballero et al. 2022, arXiv 2210.14891). The objective is the
weighted mean square of differences of log y, so that RMSLE is minimised. Starts come from a grid of b and of the other
parameters that bend the curve. At each point of the grid, a and c follow by non-negative least squares (variable
projection). The best are polished by Levenberg-Marquardt steps with analytic gradients, many fits at once. `choice`
picks a form.
`fitting.forms` has the learning curves of a study, whose x is relative to a mean size and whose y is at most 1; some
formulas are the same there, with parameters in other units. Forms that plug-ins register there are laws here too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from analysis.curves.descent import DRAW_TOLERANCE, TOLERANCE, minimise
from analysis.fitting.forms import FORMS, Form, registered
from analysis.fitting.joint import Design
from analysis.fitting.starts import starts as study_starts

_EXPONENTS = np.geomspace(0.02, 4.0, 26)
_LOG_SHIFTS: np.ndarray = np.log([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
_NUM_POLISHED = 8
_AGREE = 1e-6
_FAR = 30.0  # bound on the parameters of a plug-in's form
STEEPEST = 5.0  # bound on b: beyond it, a shifted power law turns into an exponential, which extrapolates worse


class Units(NamedTuple):
    """Geometric means of x and y, by which points are divided."""

    log_x: float
    log_y: float


class Bounds(NamedTuple):
    """Where a parameter is searched, in centred units."""

    low: float
    high: float
    nearly_low: float  # here and below, the data see no difference
    nearly_high: float


# log of y above the floor at the centre, log b, log c, with x and y divided by their geometric means
_COMMON = (
    Bounds(-60.0, 60.0, -60.0, 60.0),
    Bounds(float(np.log(1e-4)), float(np.log(STEEPEST)), float(np.log(1e-4)), float(np.log(STEEPEST))),
    Bounds(-30.0, 5.0, -14.0, 5.0),  # c so small that it is 0 to the data
)
# log of y above the floor, up to a constant, at log x [B, P], and its derivatives by log b and by the bends
_Shape = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]


@dataclass(frozen=True)
class Law:
    """One family of curves: a floor, where it has one, and a shape above it."""

    formula: str
    parameters: tuple[str, ...]  # as the formula writes them: of the power, exponent, floor, bends
    shape: _Shape
    in_units: Callable[[np.ndarray, Units], np.ndarray]  # from theta with a in front of the shape as it stands
    bends: tuple[Bounds, ...] = ()
    bend_starts: Callable[[np.ndarray], np.ndarray] = lambda log_x: np.zeros((1, 0))

    @property
    def num_parameters(self) -> int:
        return len(self.parameters)

    @property
    def bounds(self) -> np.ndarray:
        """float64 [4, q], `Bounds` of all parameters."""
        return np.array((*_COMMON, *self.bends)[: self.num_parameters]).T

    def natural(self, theta: np.ndarray, units: Units) -> np.ndarray:
        """float64 [B, q], the parameters as the formula writes them, in the units of x and y."""
        theta = theta.copy()
        theta[:, 0] -= self._shape_and_slopes(theta, np.zeros(1))[0][:, 0]
        return self.in_units(theta, units)

    def log_value(self, theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log y [B, P] at log x [P], and its derivatives by theta [B, P, q]; the shape is 1 at the centre."""
        shape, by = self._shape_and_slopes(theta, np.append(log_x, 0.0))
        log_power = theta[:, :1] + shape[:, :-1] - shape[:, -1:]
        log_c = theta[:, 2:3] if self.num_parameters > 2 else np.full((len(theta), 1), -np.inf)
        value = np.logaddexp(log_power, log_c)
        share = np.exp(log_power - value)
        by_b, *by_bends = ((slope[:, :-1] - slope[:, -1:]) * share for slope in by)
        slopes = np.stack([share, by_b, 1 - share, *by_bends], axis=2)
        return value, slopes[:, :, : theta.shape[1]]

    def starts(self, log_x: np.ndarray, log_y: np.ndarray, share: np.ndarray) -> np.ndarray:
        """float64 [S, q], the best of the grid; relative differences of y stand in for those of log y."""
        bends = self.bend_starts(log_x)
        grid = np.array([[0.0, log_b, -30.0, *row] for log_b in np.log(_EXPONENTS) for row in bends])
        shape, _ = self._shape_and_slopes(grid, np.append(log_x, 0.0))
        root = np.sqrt(share)
        power = root * np.exp(shape[:, :-1] - shape[:, -1:] - log_y)  # a's column over y
        has_floor = self.num_parameters > 2
        level = np.broadcast_to(root * np.exp(-log_y), power.shape) if has_floor else np.zeros(power.shape)
        aa, ac, cc = (power**2).sum(axis=1), (power * level).sum(axis=1), (level**2).sum(axis=1)
        pa, pc = power @ root, level @ root
        determinant = np.maximum(aa * cc - ac**2, 1e-14 * aa * cc + 1e-300)
        a, c = (pa * cc - pc * ac) / determinant, (pc * aa - pa * ac) / determinant
        alone = (c <= 0) | (not has_floor)
        a, c = np.where(alone, pa / aa, a), np.where(alone, 0.0, c)
        grid[:, 0], grid[:, 2] = np.log(np.maximum(a, 1e-6)), np.log(np.maximum(c, 1e-4))
        theta = grid[:, : self.num_parameters]
        miss = self.log_value(theta, log_x)[0] - log_y
        order = np.argsort(miss**2 @ share, kind="stable")
        if len(self.bends) > 1:  # many valleys: the best b for each start of the bends
            return theta[order[np.sort(np.unique(order % len(bends), return_index=True)[1])]]
        return theta[order[:_NUM_POLISHED]]

    def far_floor(self, floor: float, lowest: float) -> float:
        """Another start for theta[2], far from this one; lowest: the smallest log y."""
        return lowest - (4.0 if floor > lowest - 2.0 else 0.3)

    def _shape_and_slopes(self, theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """The shape at log x [P], up to a constant [B, P], and its derivatives by log b and the bends."""
        return self.shape(log_x, np.exp(theta[:, 1:2]), theta.T[3:, :, None])


@dataclass(frozen=True)
class RegisteredLaw:
    """A plug-in's form at some points: as in a study, x is over the sizes' geometric mean, and y is not scaled."""

    form: Form
    units: Units  # of the points
    log_center: float  # mean log of the distinct sizes
    c_max: float  # the smallest y, which bounds the floor

    @property
    def formula(self) -> str:
        return f"{self.form.formula} with x = size / {np.exp(self.log_center):.4g}"

    @property
    def parameters(self) -> tuple[str, ...]:
        return self.form.natural_names

    @property
    def bounds(self) -> np.ndarray:
        """float64 [4, q]; theta has no units."""
        return np.repeat([[-_FAR], [_FAR], [-_FAR], [_FAR]], self.form.num_parameters, axis=1)

    def natural(self, theta: np.ndarray, units: Units) -> np.ndarray:
        """float64 [B, q], the parameters as the formula writes them."""
        found = [self.form.natural(row, self.c_max) for row in theta]
        return np.array([[row[name] for name in self.parameters] for row in found])

    def log_value(self, theta: np.ndarray, log_x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log y [B, P] at log x [P], and its derivatives by theta [B, P, q]."""
        centred = log_x + self.units.log_x - self.log_center
        found = self.form.evaluate(theta, np.broadcast_to(centred, (len(theta), len(log_x))), self.c_max)
        value = np.maximum(found.value, 1e-300)
        return np.log(value) - self.units.log_y, found.by_theta / value[..., None]

    def starts(self, log_x: np.ndarray, log_y: np.ndarray, share: np.ndarray) -> np.ndarray:
        """float64 [S, q], the same starts as in a study."""
        design = Design(log_x + self.units.log_x, np.zeros(len(log_x), int), share * len(share), self.c_max)
        return study_starts(design, np.exp(log_y + self.units.log_y), self.form, "H0")

    def far_floor(self, floor: float, lowest: float) -> float:
        """Another start for theta[2], the logit of the floor's share of c_max."""
        return -2.0 if floor > 0 else 2.0


def _power(log_x: np.ndarray, b: np.ndarray, bends: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    return -b * log_x, [-b * log_x]


def _shifted(log_x: np.ndarray, b: np.ndarray, bends: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    (log_d,) = bends
    log_sum = np.logaddexp(log_x, log_d)
    return -b * log_sum, [-b * log_sum, -b * np.exp(log_d - log_sum)]


def _hill(log_x: np.ndarray, b: np.ndarray, bends: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    (log_mid,) = bends
    u = b * (log_x - log_mid)
    past = expit(u)
    return -np.logaddexp(0.0, u), [-past * u, past * b]


def _broken(log_x: np.ndarray, b: np.ndarray, bends: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    turn, log_d, log_f = bends
    f = np.exp(log_f)
    u = (log_x - log_d) / f
    soft, past = np.logaddexp(0.0, u), expit(u)
    by_bends = [-f * soft, turn * past, -turn * f * (soft - u * past)]
    return -b * log_x - turn * f * soft, [-b * log_x, *by_bends]


def _power_units(theta: np.ndarray, units: Units) -> np.ndarray:
    """a, b, c and d in the units of x and y; log a takes up the means by which x and y were divided."""
    b = np.exp(theta[:, 1])
    log_a = theta[:, 0] + b * units.log_x + units.log_y
    columns = [np.exp(np.minimum(log_a, 700.0)), b, *_floors(theta[:, 2:3], units).T]
    return np.stack([*columns, *np.exp(theta[:, 3:] + units.log_x).T], axis=1)


def _floors(log_c: np.ndarray, units: Units) -> np.ndarray:
    """c in the units of y; 0 where the data see no difference."""
    return np.where(log_c <= _COMMON[2].nearly_low + 1e-6, 0.0, np.exp(log_c + units.log_y))


def _hill_units(theta: np.ndarray, units: Units) -> np.ndarray:
    floor = _floors(theta[:, 2], units)
    ceiling = floor + np.exp(np.minimum(theta[:, 0] + units.log_y, 700.0))
    return np.stack([ceiling, np.exp(theta[:, 1]), floor, np.exp(theta[:, 3] + units.log_x)], axis=1)


def _broken_units(theta: np.ndarray, units: Units) -> np.ndarray:
    bends = (theta[:, 3], np.exp(theta[:, 4] + units.log_x), np.exp(theta[:, 5]))
    return np.column_stack([_power_units(theta[:, :3], units), *bends])


def _middle_starts(log_x: np.ndarray) -> np.ndarray:
    return np.linspace(log_x.min() - 5.0, log_x.max() + 5.0, 13)[:, None]


def _break_starts(log_x: np.ndarray) -> np.ndarray:
    places = np.linspace(log_x.min(), log_x.max(), 9)[1:-1]
    return np.array(list(product((-1.0, -0.3, 0.5, 1.5), places, (-2.0, -0.5))))


_FORMS = {
    "pow2": Law("a x^-b", ("a", "b"), _power, _power_units),
    "pow3": Law("c + a x^-b", ("a", "b", "c"), _power, _power_units),
    "shift4": Law(
        "c + a (x + d)^-b",
        ("a", "b", "c", "d"),
        _shifted,
        _power_units,
        (Bounds(-12.0, 7.0, -9.0, 7.0),),
        lambda log_x: _LOG_SHIFTS[:, None],
    ),
    "hill": Law(
        "c + (e0 - c) / (1 + (x / x_mid)^b)",
        ("e0", "b", "c", "x_mid"),
        _hill,
        _hill_units,
        (Bounds(-40.0, 40.0, -40.0, 40.0),),
        _middle_starts,
    ),
    "bnsl1": Law(
        "c + a x^-b (1 + (x / d)^(1 / f))^(-c1 f)",
        ("a", "b", "c", "c1", "d", "f"),
        _broken,
        _broken_units,
        (Bounds(-8.0, 8.0, -8.0, 8.0), Bounds(-12.0, 12.0, -12.0, 12.0), Bounds(-4.0, 2.0, -4.0, 2.0)),
        _break_starts,
    ),
}
LAWS: Mapping[str, Law] = MappingProxyType(_FORMS)
AUTO = ("pow2", "pow3", "shift4")  # with plug-ins' forms, those that `choice` chooses among; others only on request


@dataclass(frozen=True)
class Curve:
    """B fits of one form."""

    form: str
    law: Law | RegisteredLaw
    units: Units
    theta: np.ndarray  # float64 [B, q], log of y above the floor at the centre, log b, log c, bends
    mean_square: np.ndarray  # float64 [B], weighted, of differences of log y
    num_points: int
    num_starts: int = 1
    num_agree: int = 1  # starts whose objective is within 1e-6 of the best

    def predict(self, x: np.ndarray) -> np.ndarray:
        """float64 [B, X], y at x [X]."""
        value, _ = self.law.log_value(self.theta, np.log(x) - self.units.log_x)
        predicted: NDArray[np.float64] = np.exp(value + self.units.log_y)
        return predicted

    @property
    def natural(self) -> np.ndarray:
        """float64 [B, q], the parameters as the formula writes them, in the units of x and y."""
        return self.law.natural(self.theta, self.units)

    @property
    def at_bounds(self) -> tuple[str, ...]:
        """Parameters of the first fit at a bound: the data say only that they lie there or beyond."""
        return tuple(name for name, at_end in zip(self.law.parameters, self._at_ends[0], strict=True) if at_end)

    @property
    def often_at_bounds(self) -> tuple[str, ...]:
        """Parameters at a bound in so many of the fits that a limit of their 95 % interval is that bound."""
        ends = self._at_ends
        return tuple(name for name, share in zip(self.law.parameters, ends.mean(axis=0), strict=True) if share > 0.025)

    @property
    def _at_ends(self) -> np.ndarray:
        """bool [B, q], parameters at a bound."""
        _, _, nearly_low, nearly_high = self.law.bounds
        at_ends: np.ndarray = (self.theta <= nearly_low + 1e-6) | (self.theta >= nearly_high - 1e-6)
        return at_ends

    @property
    def aicc(self) -> float:
        """AICc of the first fit; the variance of the residuals counts as a parameter."""
        n, k = self.num_points, self.theta.shape[1] + 1
        if n <= k + 1:
            return float("inf")
        return float(n * np.log(max(self.mean_square[0], 1e-30)) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def form_names() -> tuple[str, ...]:
    """The laws, and the forms that plug-ins have registered (docs/plugins.md)."""
    return (*LAWS, *registered())


def auto_names() -> tuple[str, ...]:
    """The forms among which `choice` chooses."""
    return (*AUTO, *registered())


def num_parameters(form: str) -> int:
    return LAWS[form].num_parameters if form in LAWS else FORMS[form].num_parameters


def fit_curve(x: np.ndarray, y: np.ndarray, form: str, weights: np.ndarray | None = None) -> Curve:
    """Fit points [P]; only the ratios of weights matter. Raises ValueError with fewer sizes than parameters."""
    num_sizes = len(np.unique(x))
    if num_sizes < num_parameters(form):
        raise ValueError(f"{form} has {num_parameters(form)} parameters and there are {num_sizes} distinct sizes.")
    units = Units(float(np.log(x).mean()), float(np.log(y).mean()))
    law: Law | RegisteredLaw
    if form in LAWS:
        law = LAWS[form]
    else:  # a plug-in's is made for these points
        law = RegisteredLaw(FORMS[form], units, float(np.unique(np.log(x)).mean()), float(y.min()))
    log_x, log_y = np.log(x) - units.log_x, np.log(y) - units.log_y
    share = np.full(len(x), 1 / len(x)) if weights is None else weights / weights.sum()
    begin = law.starts(log_x, log_y, share)
    theta, objective = _polish(law, log_x, log_y, np.broadcast_to(share, (len(begin), len(x))), begin, TOLERANCE)
    best = int(objective.argmin())
    agree = int((objective <= objective[best] * (1 + _AGREE) + 1e-15).sum())
    return Curve(form, law, units, theta[best : best + 1], objective[best : best + 1], len(x), len(begin), agree)


def bootstrap_curve(
    x: np.ndarray, y: np.ndarray, curve: Curve, num_draws: int, seed: int, weights: np.ndarray | None = None
) -> Curve:
    """Fits to points drawn with replacement, each with its weight.

    A draw with fewer distinct sizes than parameters determines no fit, so it is drawn again.
    """
    generator = np.random.default_rng([seed, 0xC0E5])
    sizes, place = np.unique(x, return_inverse=True)
    counts = np.zeros((0, len(x)))
    while len(counts) < num_draws:
        drawn = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=num_draws)
        held = np.stack([drawn[:, place == index].any(axis=1) for index in range(len(sizes))]).sum(axis=0)
        counts = np.concatenate([counts, drawn[held >= curve.theta.shape[1]] / len(x)])
    share = np.ones(len(x)) if weights is None else weights / weights.mean()
    return refit_curve(x, np.broadcast_to(y, (num_draws, len(x))), curve, counts[:num_draws] * share)


def refit_curve(x: np.ndarray, y: np.ndarray, curve: Curve, weights: np.ndarray) -> Curve:
    """B fits to y [B, P] with weights [B, P], started at a fit and at a far floor; the better one stays."""
    log_x, log_y = np.log(x) - curve.units.log_x, np.log(y) - curve.units.log_y
    begin = [curve.theta[0]]
    if "c" in curve.law.parameters:
        other = curve.theta[0].copy()
        other[2] = curve.law.far_floor(float(other[2]), float(log_y.min()))
        begin.append(other)
    law, num_draws = curve.law, len(y)
    found = [_polish(law, log_x, log_y, weights, np.tile(start, (num_draws, 1)), DRAW_TOLERANCE) for start in begin]
    objectives = np.stack([objective for _, objective in found])
    best = objectives.argmin(axis=0)
    theta = np.stack([theta for theta, _ in found])[best, np.arange(num_draws)]
    return Curve(curve.form, law, curve.units, theta, objectives.min(axis=0), len(x), num_starts=len(begin))


def rmsle(predicted: np.ndarray, observed: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Root of the weighted mean square of differences of logarithms."""
    return float(np.sqrt(np.average((np.log(predicted) - np.log(observed)) ** 2, weights=weights)))


def _polish(
    law: Law | RegisteredLaw,
    log_x: np.ndarray,
    log_y: np.ndarray,
    weights: np.ndarray,
    theta: np.ndarray,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the weighted mean square [B] from theta [B, q]; log_y, weights: float64 [B, P]."""
    low, high, *_ = law.bounds
    return minimise(lambda tried: law.log_value(tried, log_x), log_y, weights, theta, (low, high), tolerance)
