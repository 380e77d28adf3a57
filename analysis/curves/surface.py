"""The loss surface L(N, D) = E + A / N^alpha + B / D^beta, N parameters and D tokens (Hoffmann et al. 2022,
arXiv 2203.15556, section 3.3).

In: points (N, D, loss). Out: `SurfaceFit`. The objective is Huber's loss with delta 1e-3 on differences of log losses,
the logarithm of the sum by logsumexp; or, on request, the sum of squares of losses. Its optimum lies in a flat valley:
unscaled, an optimiser with usual tolerances stops where it starts (Besiroglu et al. 2024, arXiv 2404.10102). Here the
parameters are centred and turned into directions in which the objective is round, the objective is of order one,
gradients are analytic, and starts come from a grid of exponents, A, B and E by non-negative least squares at each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize, nnls

Loss = Literal["huber", "squares"]
HUBER_DELTA = 1e-3
MIN_POINTS = 6  # one more than parameters
_EXPONENTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4)
_NUM_POLISHED = 8
_AGREE = 1e-6  # relative difference of objectives under which two starts found the same minimum
_SETTINGS = {"maxiter": 5000, "maxfun": 20000, "gtol": 1e-9, "maxcor": 20}
_MAX_ROUNDS = 20
_DRAW_TOLERANCE = 1e-9
# log of the three terms at the centre of the data over the mean loss, then the log exponents
_BOUNDS = np.array([(-30.0, 10.0)] * 3 + [(-9.0, 2.5)] * 2)


class Surface(NamedTuple):
    """The five numbers of the surface."""

    A: float
    B: float
    E: float
    alpha: float
    beta: float

    def predict(self, num_params: np.ndarray, data_size: np.ndarray) -> np.ndarray:
        """The loss at points."""
        return self.E + self.A * num_params**-self.alpha + self.B * data_size**-self.beta

    @property
    def compute_exponent(self) -> float:
        """a in N_opt ~ C^a, for a compute budget C ~ N D; D_opt ~ C^(1 - a)."""
        return self.beta / (self.alpha + self.beta)


@dataclass(frozen=True)
class SurfaceFit:
    """The best surface, and how sure the optimiser may be of it."""

    surface: Surface
    objective: float  # sum over points
    num_points: int
    num_starts: int
    num_agree: int  # starts whose objective is within 1e-6 of the best
    at_bounds: tuple[str, ...] = ()  # parameters at a bound of the search


class _Data(NamedTuple):
    """Points, centred."""

    log_n: np.ndarray  # float64 [P], mean 0
    log_d: np.ndarray
    log_loss: np.ndarray
    loss: np.ndarray  # float64 [P], over its geometric mean
    weight: np.ndarray  # float64 [P]
    shift: tuple[float, float, float]  # means of log N, log D and log loss
    kind: Loss

    @property
    def scale(self) -> float:
        """What the objective is multiplied with to be of order one near the optimum."""
        return 1 / (HUBER_DELTA * self.weight.sum()) if self.kind == "huber" else 1e3 / self.weight.sum()


def fit_surface(
    num_params: np.ndarray,
    data_size: np.ndarray,
    loss: np.ndarray,
    starts: Sequence[Surface] = (),
    kind: Loss = "huber",
) -> SurfaceFit:
    """Fit points [P]; from these starts only, where some are given. All values must be positive."""
    if len(loss) < MIN_POINTS:
        raise ValueError(f"there are {len(loss)} points, and a surface of five parameters needs {MIN_POINTS}.")
    data = _centred(num_params, data_size, loss, np.ones(len(loss)), kind)
    begin = [_theta(start, data) for start in starts] or _grid(data)
    found = [_polish(data, theta) for theta in begin]
    objectives = np.array([value for _, value in found])
    best = int(objectives.argmin())
    agree = objectives <= objectives[best] * (1 + _AGREE) + 1e-12
    surface = _surface(found[best][0], data)
    ends = (np.abs(found[best][0][:, None] - _BOUNDS) < 1e-2).any(axis=1)
    at_bounds = tuple(name for name, at_end in zip(("A", "B", "E", "alpha", "beta"), ends, strict=True) if at_end)
    return SurfaceFit(surface, float(objectives[best] / data.scale), len(loss), len(begin), int(agree.sum()), at_bounds)


def bootstrap_surface(
    num_params: np.ndarray,
    data_size: np.ndarray,
    loss: np.ndarray,
    fit: SurfaceFit,
    num_draws: int,
    seed: int,
    kind: Loss = "huber",
) -> np.ndarray:
    """float64 [draws, 5], A, B, E, alpha, beta of fits to points drawn with replacement, started at the fit."""
    generator = np.random.default_rng([seed, 0x5F17])
    data = _centred(num_params, data_size, loss, np.ones(len(loss)), kind)
    theta = _theta(fit.surface, data)
    weights = generator.multinomial(len(loss), np.full(len(loss), 1 / len(loss)), size=num_draws).astype(float)
    found = (_polish(data._replace(weight=weight), theta, _DRAW_TOLERANCE)[0] for weight in weights)
    return np.array([_surface(row, data) for row in found])


class HeldOut(NamedTuple):
    """How far the largest points, left out, were missed, in RMSLE."""

    num_left_out: int
    surface: float
    last1: float  # the mean loss of the largest points kept, repeated


def hold_out_surface(
    num_params: np.ndarray, data_size: np.ndarray, loss: np.ndarray, kind: Loss = "huber"
) -> HeldOut | None:
    """Leave out the tenth of the points with the largest N D, predict it; None where too few points would be left."""
    order = np.argsort(num_params * data_size, kind="stable")
    num_left_out = max(1, len(loss) // 10)
    kept, left = order[:-num_left_out], order[-num_left_out:]
    if len(kept) < MIN_POINTS:
        return None
    fit = fit_surface(num_params[kept], data_size[kept], loss[kept], kind=kind)
    log_loss = np.log(loss[left])
    misses = np.log(fit.surface.predict(num_params[left], data_size[left])) - log_loss
    last = np.log(loss[kept[-num_left_out:]]).mean() - log_loss
    return HeldOut(num_left_out, float(np.sqrt(np.mean(misses**2))), float(np.sqrt(np.mean(last**2))))


def _centred(num_params: np.ndarray, data_size: np.ndarray, loss: np.ndarray, weight: np.ndarray, kind: Loss) -> _Data:
    logs = [np.log(np.asarray(values, dtype=float)) for values in (num_params, data_size, loss)]
    means = tuple(float(values.mean()) for values in logs)
    log_n, log_d, log_loss = (values - mean for values, mean in zip(logs, means, strict=True))
    return _Data(log_n, log_d, log_loss, np.exp(log_loss), weight, means, kind)


def _theta(surface: Surface, data: _Data) -> np.ndarray:
    """log terms at the centre, then log exponents, from natural parameters."""
    n, d, level = data.shift
    return np.array(
        [
            np.log(surface.A) - surface.alpha * n - level,
            np.log(surface.B) - surface.beta * d - level,
            np.log(surface.E) - level,
            np.log(surface.alpha),
            np.log(surface.beta),
        ]
    )


def _surface(theta: np.ndarray, data: _Data) -> Surface:
    n, d, level = data.shift
    a, b, e = theta[:3]
    alpha, beta = np.exp(theta[3:])
    logs = (a + alpha * n + level, b + beta * d + level, e + level)
    return Surface(*(float(np.exp(min(value, 700.0))) for value in logs), float(alpha), float(beta))


def _grid(data: _Data) -> list[np.ndarray]:
    """The best starts over a grid of exponents; A, B and E by least squares of relative losses."""
    found = []
    for alpha in _EXPONENTS:
        for beta in _EXPONENTS:
            terms = np.stack([np.exp(-alpha * data.log_n), np.exp(-beta * data.log_d), np.ones(len(data.loss))], axis=1)
            linear, _ = nnls(terms / data.loss[:, None], np.ones(len(data.loss)))
            theta = np.log([*np.maximum(linear, 1e-6), alpha, beta])
            found.append((_objective(theta, data)[0], theta))
    found.sort(key=lambda item: item[0])
    return [theta for _, theta in found[:_NUM_POLISHED]]


def _polish(data: _Data, theta: np.ndarray, tolerance: float = 1e-14) -> tuple[np.ndarray, float]:
    """L-BFGS in directions in which the objective is round, anew from where it ends until that gains nothing."""
    value = np.inf
    settings = _SETTINGS | {"ftol": tolerance}
    for _ in range(_MAX_ROUNDS):
        axes = _round_axes(theta, data)

        def moved(u: np.ndarray, theta=theta, axes=axes) -> tuple[float, np.ndarray]:
            found, gradient = _objective(theta + axes @ u, data)
            return found, axes.T @ gradient

        fit = minimize(moved, np.zeros(5), jac=True, method="L-BFGS-B", options=settings)
        gained = value - fit.fun
        theta, value = np.clip(theta + axes @ fit.x, *_BOUNDS.T), float(fit.fun)
        if gained <= 1e4 * tolerance * abs(value):
            break
    return theta, value


def _round_axes(theta: np.ndarray, data: _Data) -> np.ndarray:
    """float64 [5, 5], M with M M' the inverse of the Gauss-Newton Hessian, ridged where a direction is flat."""
    _, pull, miss, shares = _parts(theta, data)
    exponents = np.exp(theta[3:])
    slopes = np.stack([*shares, -exponents[0] * shares[0] * data.log_n, -exponents[1] * shares[1] * data.log_d])
    steep = np.abs(pull) / np.maximum(np.abs(miss), 1e-12) if data.kind == "huber" else np.ones(len(miss))
    hessian = (slopes * (data.weight * steep * data.scale)) @ slopes.T
    values, vectors = np.linalg.eigh(hessian)
    return vectors / np.sqrt(np.maximum(values, 1e-9 * max(values[-1], 1e-12)))


def _objective(theta: np.ndarray, data: _Data) -> tuple[float, np.ndarray]:
    """The scaled objective and its gradient."""
    bounded = np.clip(theta, *_BOUNDS.T)
    each, pull, _, shares = _parts(bounded, data)
    weighted = data.weight * pull * shares  # [3, P]
    by_exponent = -np.exp(bounded[3:]) * [weighted[0] @ data.log_n, weighted[1] @ data.log_d]
    gradient = np.concatenate([weighted.sum(axis=1), by_exponent]) * (theta == bounded)
    return float(data.weight @ each) * data.scale, gradient * data.scale


def _parts(theta: np.ndarray, data: _Data) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each point's loss of fit, its derivative by log L, the miss in log L, and the terms' shares of L [3, P]."""
    a, b, e = theta[:3]
    alpha, beta = np.exp(theta[3:])
    terms = np.stack([a - alpha * data.log_n, b - beta * data.log_d, np.full(len(data.loss), e)])
    largest = terms.max(axis=0)
    shares = np.exp(terms - largest)
    total = shares.sum(axis=0)
    miss = largest + np.log(total) - data.log_loss
    shares /= total
    if data.kind == "huber":
        size = np.abs(miss)
        each = np.where(size <= HUBER_DELTA, 0.5 * miss**2, HUBER_DELTA * (size - 0.5 * HUBER_DELTA))
        return each, np.clip(miss, -HUBER_DELTA, HUBER_DELTA), miss, shares
    level = np.exp(data.shift[2])
    value = data.loss * np.exp(np.clip(miss, -50, 50))
    return (level * (value - data.loss)) ** 2, 2 * level**2 * (value - data.loss) * value, miss, shares
