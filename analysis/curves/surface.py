"""The loss surface L(N, D) = E + A / N^alpha + B / D^beta, N parameters and D tokens (Hoffmann et al. 2022,
arXiv 2203.15556, section 3.3).

In: points (N, D, loss). Out: `SurfaceFit`. The objective is Huber's loss with delta 1e-3 on differences of log losses,
the logarithm of the sum by logsumexp; or, on request, the sum of squares of losses. Its optimum lies in a flat valley,
in which an optimiser with usual tolerances stops where it starts (Besiroglu et al. 2024, arXiv 2404.10102). Here
scipy's trust-region least squares works on centred parameters, with analytic derivatives and tight tolerances. Starts
come from a grid of exponents; at each, A, B and E follow by non-negative least squares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls
from scipy.special import huber

Loss = Literal["huber", "squares"]
HUBER_DELTA = 1e-3
MIN_POINTS = 6  # one more than parameters
_EXPONENTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4)
_NUM_POLISHED = 8
_AGREE = 1e-6  # relative difference of objectives under which two starts found the same minimum
_TOLERANCE, _DRAW_TOLERANCE = 1e-12, 1e-9
_MAX_EVALUATIONS = 2000
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
    shift: tuple[float, float, float]  # means of log N, log D and log loss
    kind: Loss

    @property
    def scale(self) -> float:
        """What the objective is multiplied with to be of order one near the optimum."""
        return (1 / HUBER_DELTA if self.kind == "huber" else 1e3) / len(self.loss)

    def repeated(self, counts: NDArray[np.int64]) -> "_Data":
        """Each point as often as `counts` [P] says."""
        rows = np.repeat(np.arange(len(self.loss)), counts)
        return _Data(self.log_n[rows], self.log_d[rows], self.log_loss[rows], self.loss[rows], self.shift, self.kind)


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
    data = _centred(num_params, data_size, loss, kind)
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
    data = _centred(num_params, data_size, loss, kind)
    theta = _theta(fit.surface, data)
    drawn = generator.multinomial(len(loss), np.full(len(loss), 1 / len(loss)), size=num_draws)
    found = (_polish(data.repeated(counts), theta, _DRAW_TOLERANCE)[0] for counts in drawn)
    return np.array([_surface(row, data) for row in found])


class SurfaceMiss(NamedTuple):
    """How far the largest points, left out, were missed, in RMSLE."""

    num_left_out: int
    surface: float
    last1: float  # the mean loss of the largest points kept, repeated


def hold_out_surface(
    num_params: np.ndarray, data_size: np.ndarray, loss: np.ndarray, kind: Loss = "huber"
) -> SurfaceMiss | None:
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
    return SurfaceMiss(num_left_out, float(np.sqrt(np.mean(misses**2))), float(np.sqrt(np.mean(last**2))))


def _centred(num_params: np.ndarray, data_size: np.ndarray, loss: np.ndarray, kind: Loss) -> _Data:
    logs = [np.log(np.asarray(values, dtype=float)) for values in (num_params, data_size, loss)]
    n, d, level = (float(values.mean()) for values in logs)
    log_loss = logs[2] - level
    return _Data(logs[0] - n, logs[1] - d, log_loss, np.exp(log_loss), (n, d, level), kind)


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
    big_a, big_b, big_e = (float(np.exp(min(value, 700.0))) for value in logs)
    return Surface(big_a, big_b, big_e, float(alpha), float(beta))


def _grid(data: _Data) -> list[np.ndarray]:
    """The best starts over a grid of exponents; A, B and E by least squares of relative losses."""
    found = []
    for alpha in _EXPONENTS:
        for beta in _EXPONENTS:
            terms = np.stack([np.exp(-alpha * data.log_n), np.exp(-beta * data.log_d), np.ones(len(data.loss))], axis=1)
            linear, _ = nnls(terms / data.loss[:, None], np.ones(len(data.loss)))
            theta = np.log([*np.maximum(linear, 1e-6), alpha, beta])
            found.append((_objective(theta, data), theta))
    found.sort(key=lambda item: item[0])
    return [theta for _, theta in found[:_NUM_POLISHED]]


def _polish(data: _Data, theta: np.ndarray, tolerance: float = _TOLERANCE) -> tuple[np.ndarray, float]:
    """The minimum nearest to a start, and its scaled objective."""
    low, high = _BOUNDS.T
    fit = least_squares(
        _residuals,
        np.clip(theta, low, high),
        _slopes,
        bounds=(low, high),
        loss="huber" if data.kind == "huber" else "linear",
        f_scale=HUBER_DELTA,
        x_scale="jac",
        xtol=tolerance,
        ftol=tolerance,
        gtol=tolerance,
        max_nfev=_MAX_EVALUATIONS,
        args=(data,),
    )
    return fit.x, _objective(fit.x, data)


def _objective(theta: np.ndarray, data: _Data) -> float:
    """The scaled objective."""
    miss = _residuals(theta, data)
    return float((huber(HUBER_DELTA, miss) if data.kind == "huber" else miss**2).sum()) * data.scale


def _residuals(theta: np.ndarray, data: _Data) -> np.ndarray:
    """[P], fitted less observed: log losses for Huber's loss, losses for squares."""
    miss, _ = _miss_and_shares(theta, data)
    return miss if data.kind == "huber" else _fitted(miss, data) - np.exp(data.shift[2]) * data.loss


def _slopes(theta: np.ndarray, data: _Data) -> np.ndarray:
    """[P, 5], the derivatives of the residuals by theta."""
    miss, shares = _miss_and_shares(theta, data)
    if data.kind == "squares":
        shares = shares * _fitted(miss, data)
    alpha, beta = np.exp(theta[3:])
    return np.stack([*shares, -alpha * shares[0] * data.log_n, -beta * shares[1] * data.log_d], axis=1)


def _fitted(miss: np.ndarray, data: _Data) -> np.ndarray:
    """Losses [P]; the clip keeps far-off trial steps finite."""
    fitted: NDArray[np.float64] = np.exp(data.shift[2]) * data.loss * np.exp(np.clip(miss, -50, 50))
    return fitted


def _miss_and_shares(theta: np.ndarray, data: _Data) -> tuple[np.ndarray, np.ndarray]:
    """By how much each log loss is missed [P], and the terms' shares of the fitted loss [3, P]."""
    a, b, e = theta[:3]
    alpha, beta = np.exp(theta[3:])
    terms = np.stack([a - alpha * data.log_n, b - beta * data.log_d, np.full(len(data.loss), e)])
    largest = terms.max(axis=0)
    shares = np.exp(terms - largest)
    total = shares.sum(axis=0)
    return largest + np.log(total) - data.log_loss, shares / total
