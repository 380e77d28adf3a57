"""How many times more data one learner needs for the error of another, from two curves with one run at each size.

In: two curves of points, (data size, loss). Out: `Multiplier`, m at both ends of the sizes where both reach the same
loss. `analysis.fit --reference` needs several runs of a cell. Here there is one, so what is known of its noise is how
the points scatter about their curve: an interval draws every point again about the fit, with that scatter, and fits
again. What all points of a curve share, such as a learning rate or a test set, is not in it.
"""

from dataclasses import dataclass

import numpy as np

from analysis.curves.laws import Curve, fit_curve, refit_curve
from analysis.curves.numbers import scatter

_REACH, _GRID = 8.0, 400  # logs of size on both sides of the points' mean in which a drawn curve is searched


@dataclass(frozen=True)
class Points:
    """A curve with one run at each size."""

    name: str
    size: np.ndarray  # float64 [P], growing
    loss: np.ndarray  # float64 [P]


@dataclass(frozen=True)
class Drawn:
    """A curve fitted, and the same fit to points drawn again."""

    points: Points
    fit: Curve
    draws: Curve
    misfit: float  # lag-one correlation of what the fit leaves over


@dataclass(frozen=True)
class AtSize:
    """m at one data size of the other learner."""

    size: float
    m: float
    low: float
    high: float
    by_points: float  # m by straight lines between the points, without a form


@dataclass(frozen=True)
class Multiplier:
    """m of one learner over a reference."""

    name: str
    reference: str
    first: AtSize  # at the smallest size at which both reach the same loss within their points
    last: AtSize  # at the largest
    change: tuple[float, float, float]  # m at the largest over m at the smallest, with its interval


def drawn(points: Points, form: str, num_draws: int, seed: int) -> Drawn:
    """Fit a form; draw points about it, with Student's t as analysis.fit has it for a new run, and fit again."""
    fit = fit_curve(points.size, points.loss, form)
    expected = fit.predict(points.size)[0]
    about = scatter(points.loss, expected, np.ones(len(points.size)), fit.theta.shape[1])
    if about is None:
        raise ValueError(
            f"{points.name}: {len(points.size)} points leave nothing over for a scatter; {form} needs more."
        )
    generator = np.random.default_rng([seed, *points.name.encode()])  # curves of one length do not share their scatter
    sd = about.sd * np.sqrt(about.freedom / generator.chisquare(about.freedom, size=(num_draws, 1)))
    again = expected * np.exp(sd * generator.normal(size=(num_draws, len(expected))))
    left = np.log(points.loss / expected)
    weights = np.full(again.shape, 1 / len(expected))
    return Drawn(
        points, fit, refit_curve(points.size, again, fit, weights), float(np.corrcoef(left[1:], left[:-1])[0, 1])
    )


def multiplier(reference: Drawn, other: Drawn) -> Multiplier | None:
    """None where at no size of the other its loss lies within those of the reference."""
    points, base = other.points, reference.points
    inside = (points.loss <= base.loss.max()) & (points.loss >= base.loss.min())
    if not inside.any():
        return None
    at = points.size[inside][[0, -1]]
    log_m = np.log(size_reaching(reference.fit, other.fit.predict(at))[0] / at)
    draws = np.log(size_reaching(reference.draws, other.draws.predict(at)) / at)
    by_points = [reaching(base, points.loss[points.size == size][0]) / size for size in at]
    low, high = np.exp(np.quantile(draws, [0.025, 0.975], axis=0))
    ends = [AtSize(*map(float, row)) for row in zip(at, np.exp(log_m), low, high, by_points, strict=True)]
    change = np.quantile(draws[:, 1] - draws[:, 0], [0.025, 0.975])
    found = np.exp([log_m[1] - log_m[0], *change]).tolist()
    return Multiplier(points.name, base.name, ends[0], ends[1], (found[0], found[1], found[2]))


def size_reaching(curve: Curve, loss: np.ndarray) -> np.ndarray:
    """float64 [B, L], the size at which each of B falling curves reaches each loss [B, L]."""
    grid = curve.units.log_x + np.linspace(-_REACH, _REACH, _GRID)
    levels = np.log(curve.predict(np.exp(grid)))
    rows = [np.interp(-np.log(wanted), -level, grid) for wanted, level in zip(loss, levels, strict=True)]
    return np.exp(np.array(rows))


def reaching(points: Points, loss: float) -> float:
    """The size at which straight lines in logs through the best loss so far reach a loss: no form, no interval."""
    best = np.minimum.accumulate(points.loss)
    return float(np.exp(np.interp(-np.log(loss), -np.log(best), np.log(points.size))))
