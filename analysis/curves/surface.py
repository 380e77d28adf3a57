"""The loss surface L(N, D) = E + A / N^alpha + B / D^beta, N parameters and D tokens (Hoffmann et al. 2022,
arXiv 2203.15556, section 3.3).

In: points (N, D, loss), and how much each weighs. Out: `SurfaceFit`. The objective is Huber's loss with delta 1e-3 on
differences of log losses, the logarithm of the sum by logsumexp; or, on request, the sum of squares of losses. On
request alpha and beta are one exponent. The optimum lies in a flat valley, in which an optimiser with usual tolerances
stops where it starts (Besiroglu et al. 2024, arXiv 2404.10102): here parameters are centred, derivatives analytic and
tolerances tight. Starts come from a grid of exponents; at each, A, B and E follow by non-negative least squares.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import nnls

from analysis.curves.descent import DRAW_TOLERANCE, TOLERANCE, minimise
from analysis.curves.laws import rmsle

Loss = Literal["huber", "squares"]
SURFACES = ("chinchilla", "chinchilla_shared")  # forms; the second has one exponent for both terms
HUBER_DELTA = 1e-3
MIN_POINTS = 6  # one more than parameters
_EXPONENTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4)
_NUM_POLISHED = 8
_AGREE = 1e-6  # relative difference of objectives under which two starts found the same minimum
_BLOCK = 50_000  # most points, over all draws, that are fitted at once
# log of the three terms at the centre of the data, divided by the mean loss, then the log exponents
_LOW, _HIGH = np.array([(-30.0, 10.0)] * 3 + [(-9.0, 2.5)] * 2).T
_NEARLY_LOW = np.array([-14.0] * 3 + [-9.0] * 2)  # terms so small that they are 0 to the data


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
    num_starts: int
    num_agree: int  # starts whose objective is within 1e-6 of the best
    shared: bool = False  # whether alpha and beta are one exponent
    at_bounds: tuple[str, ...] = ()  # parameters at a bound of the search


class _Data(NamedTuple):
    """Points, centred."""

    log_n: np.ndarray  # float64 [P], mean 0
    log_d: np.ndarray
    log_loss: np.ndarray
    shift: tuple[float, float, float]  # means of log N, log D and log loss
    kind: Loss
    weights: np.ndarray  # float64 [P], mean 1

    @property
    def loss(self) -> np.ndarray:
        """float64 [P], over its geometric mean."""
        loss: np.ndarray = np.exp(self.log_loss)
        return loss


def fit_surface(
    num_params: np.ndarray,
    data_size: np.ndarray,
    loss: np.ndarray,
    starts: Sequence[Surface] = (),
    kind: Loss = "huber",
    weights: np.ndarray | None = None,
    shared: bool = False,
) -> SurfaceFit:
    """Fit points [P], from these starts only if some are given. All values must be positive."""
    if len(loss) < MIN_POINTS:
        raise ValueError(f"there are {len(loss)} points, and a surface of five parameters needs {MIN_POINTS}.")
    data = _centred(num_params, data_size, loss, kind, weights)
    begin = np.array([_theta(start, data, shared) for start in starts] or _grid(data, shared))
    theta, objectives = _polish(data, np.broadcast_to(data.weights, (len(begin), len(loss))), begin)
    best = int(objectives.argmin())
    agree = int((objectives <= objectives[best] * (1 + _AGREE) + 1e-15).sum())
    ends = (_full(theta)[best] - _NEARLY_LOW < 1e-2) | (_HIGH - _full(theta)[best] < 1e-2)
    at_bounds = tuple(name for name, at_end in zip(Surface._fields, ends, strict=True) if at_end)
    surface = Surface(*_natural(theta[best : best + 1], data)[0].tolist())
    return SurfaceFit(surface, float(objectives[best]), len(begin), agree, shared, at_bounds)


def bootstrap_surface(
    num_params: np.ndarray,
    data_size: np.ndarray,
    loss: np.ndarray,
    fit: SurfaceFit,
    num_draws: int,
    seed: int,
    kind: Loss = "huber",
    weights: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Blocks [draws, 5] of A, B, E, alpha, beta, fitted to points drawn with replacement, started at the fit."""
    generator = np.random.default_rng([seed, 0x5F17])
    data = _centred(num_params, data_size, loss, kind, weights)
    theta = _theta(fit.surface, data, fit.shared)
    counts = generator.multinomial(len(loss), np.full(len(loss), 1 / len(loss)), size=num_draws)
    num_blocks = -(-num_draws * len(loss) // _BLOCK)
    for block in np.array_split(counts, num_blocks):
        found, _ = _polish(data, block * data.weights, np.tile(theta, (len(block), 1)), DRAW_TOLERANCE)
        yield _natural(found, data)


class SurfaceMiss(NamedTuple):
    """How far the largest points, left out, were missed, in RMSLE."""

    num_left_out: int
    surface: float
    last1: float  # the mean loss of the largest points kept, repeated


def hold_out_surface(
    num_params: np.ndarray,
    data_size: np.ndarray,
    loss: np.ndarray,
    kind: Loss = "huber",
    weights: np.ndarray | None = None,
    shared: bool = False,
) -> SurfaceMiss | None:
    """Predict the tenth of the points with the largest N D from the rest; None if too few points would be left."""
    order = np.argsort(num_params * data_size, kind="stable")
    num_left_out = max(1, len(loss) // 10)
    kept, left = order[:-num_left_out], order[-num_left_out:]
    if len(kept) < MIN_POINTS:
        return None
    weights = np.ones(len(loss)) if weights is None else weights
    points = (num_params[kept], data_size[kept], loss[kept])
    fit = fit_surface(*points, kind=kind, weights=weights[kept], shared=shared)
    predicted = fit.surface.predict(num_params[left], data_size[left])
    last = np.full(num_left_out, np.exp(np.log(loss[kept[-num_left_out:]]).mean()))
    misses = (rmsle(values, loss[left], weights[left]) for values in (predicted, last))
    return SurfaceMiss(num_left_out, *misses)


def _centred(
    num_params: np.ndarray, data_size: np.ndarray, loss: np.ndarray, kind: Loss, weights: np.ndarray | None
) -> _Data:
    logs = [np.log(np.asarray(values, dtype=float)) for values in (num_params, data_size, loss)]
    n, d, level = (float(values.mean()) for values in logs)
    log_loss = logs[2] - level
    relative = np.ones(len(loss)) if weights is None else weights / weights.mean()
    return _Data(logs[0] - n, logs[1] - d, log_loss, (n, d, level), kind, relative)


def _theta(surface: Surface, data: _Data, shared: bool) -> np.ndarray:
    """log terms at the centre, then log exponents, or the shared one, from natural parameters."""
    n, d, level = data.shift
    theta = np.array(
        [
            np.log(surface.A) - surface.alpha * n - level,
            np.log(surface.B) - surface.beta * d - level,
            np.log(surface.E) - level,
            np.log(surface.alpha),
            np.log(surface.beta),
        ]
    )
    return theta[:-1] if shared else theta


def _full(theta: np.ndarray) -> np.ndarray:
    """theta [B, 5]; a shared exponent stands for both."""
    return theta if theta.shape[1] == 5 else np.concatenate([theta, theta[:, -1:]], axis=1)


def _natural(theta: np.ndarray, data: _Data) -> np.ndarray:
    """A, B, E, alpha, beta, float64 [B, 5]."""
    n, d, level = data.shift
    log_terms, exponents = np.split(_full(theta), [3], axis=1)
    exponents = np.exp(exponents)
    log_terms = log_terms + level + np.column_stack([exponents * (n, d), np.zeros(len(theta))])
    return np.column_stack([np.exp(np.minimum(log_terms, 700.0)), exponents])


def _grid(data: _Data, shared: bool) -> list[np.ndarray]:
    """The best starts over a grid of exponents; A, B and E by least squares of relative losses."""
    points = ((alpha, beta) for alpha, beta in product(_EXPONENTS, _EXPONENTS) if not shared or alpha == beta)
    root, begin = np.sqrt(data.weights), []
    for alpha, beta in points:
        terms = np.stack([np.exp(-alpha * data.log_n), np.exp(-beta * data.log_d), np.ones(len(root))], axis=1)
        linear, _ = nnls(terms * (root / data.loss)[:, None], root)
        begin.append(np.log([*np.maximum(linear, 1e-6), *([alpha] if shared else [alpha, beta])]))
    _, objectives = _polish(data, np.broadcast_to(data.weights, (len(begin), len(root))), np.array(begin), np.inf)
    return [begin[index] for index in np.argsort(objectives, kind="stable")[:_NUM_POLISHED]]


def _polish(
    data: _Data, weights: np.ndarray, theta: np.ndarray, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    """The minimum nearest to each start [B, q], and its objective [B]; weights: float64 [B, P]."""
    bounds = (_LOW[: theta.shape[1]], _HIGH[: theta.shape[1]])
    if data.kind == "huber":
        return minimise(lambda at: _log_loss(at, data), data.log_loss, weights, theta, bounds, tolerance, HUBER_DELTA)

    def losses(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slopes = _log_loss(at, data)
        value = np.exp(value)
        return value, slopes * value[..., None]

    found, objective = minimise(losses, data.loss, weights, theta, bounds, tolerance)
    return found, objective * np.exp(2 * data.shift[2])


def _log_loss(theta: np.ndarray, data: _Data) -> tuple[np.ndarray, np.ndarray]:
    """Fitted log losses [B, P], and their derivatives [B, P, 5]; [B, P, 4] if the exponent is shared."""
    a, b, e, log_alpha, log_beta = (column[:, None] for column in _full(theta).T)
    by_log_n, by_log_d = -np.exp(log_alpha) * data.log_n, -np.exp(log_beta) * data.log_d
    terms = np.stack(np.broadcast_arrays(a + by_log_n, b + by_log_d, e), axis=2)
    largest = terms.max(axis=2)
    shares = np.exp(terms - largest[..., None])
    total = shares.sum(axis=2)
    shares /= total[..., None]
    by_exponents = shares[..., :2] * np.stack([by_log_n, by_log_d], axis=2)
    if theta.shape[1] == 4:
        by_exponents = by_exponents.sum(axis=2, keepdims=True)
    return largest + np.log(total), np.concatenate([shares, by_exponents], axis=2)
