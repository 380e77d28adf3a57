"""The choice of a one-variable curve's form: by its misses on the largest sizes, left out, or by AICc.

In: points (x, y). Out: `ChosenCurve`: the form chosen, with every form's fit and both scores. With about ten sizes AICc
picks too simple a form, so the hold-out decides. With fewer, too little is left to fit; with more, AICc extrapolates
better. In both cases AICc decides (docs/results.md has the numbers). last1 repeats the last value seen: a form that
does not beat it does not extrapolate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.curves.laws import AUTO, Curve, auto_names, fit_curve, num_parameters, rmsle
from analysis.curves.points import PointsError

FEW, MANY = 7, 12  # distinct sizes between which the hold-out decides
MAX_EXTRAPOLATION = 4.0  # times the largest size; nothing is predicted beyond


@dataclass(frozen=True)
class HoldOutScore:
    """How far a form missed the largest sizes, which were left out."""

    form: str  # or last1
    num_left_out: int  # distinct sizes
    num_points: int
    rmsle: float


@dataclass(frozen=True)
class ChosenCurve:
    """A form chosen, and everything that it was chosen from."""

    chosen: str
    by: str  # "hold-out", "AICc" or "request"
    curves: tuple[Curve, ...]  # every form that the sizes allow
    holdout: tuple[HoldOutScore, ...]

    @property
    def curve(self) -> Curve:
        return next(curve for curve in self.curves if curve.form == self.chosen)


def choose(x: np.ndarray, y: np.ndarray, form: str = "auto", weights: np.ndarray | None = None) -> ChosenCurve:
    """Fit every form that has fewer parameters than there are sizes, and choose one, or take the form asked for.

    Raises PointsError with too few sizes.
    """
    num_sizes = len(np.unique(x))
    names = dict.fromkeys(auto_names() if form == "auto" else (*auto_names(), form))
    allowed = [name for name in names if num_sizes > num_parameters(name)]
    if not allowed or (form != "auto" and form not in allowed):
        name = AUTO[0] if form == "auto" else form
        needed = num_parameters(name) + 1
        raise PointsError(f"there are {num_sizes} distinct sizes, and {name} needs {needed}. Add sizes.")
    curves = tuple(fit_curve(x, y, name, weights) for name in allowed)
    scores = hold_out(x, y, allowed, weights)
    if form != "auto":
        return ChosenCurve(form, "request", curves, scores)
    found = {name: [score for score in scores if score.form == name] for name in allowed}
    most = max(len(rounds) for rounds in found.values())
    if FEW <= num_sizes <= MANY and most:
        misses = {name: _pooled(rounds) for name, rounds in found.items() if len(rounds) == most}
        return ChosenCurve(min(misses, key=misses.__getitem__), "hold-out", curves, scores)
    return ChosenCurve(min(curves, key=lambda curve: curve.aicc).form, "AICc", curves, scores)


def hold_out(
    x: np.ndarray, y: np.ndarray, forms: Sequence[str] = AUTO, weights: np.ndarray | None = None
) -> tuple[HoldOutScore, ...]:
    """Predict the largest sizes from the rest: leave out one and two, or an eighth and a quarter if there are many."""
    sizes = np.unique(x)
    weights = np.ones(len(x)) if weights is None else weights
    scores = []
    for num_left_out in sorted({max(1, round(len(sizes) / 8)), max(2, round(len(sizes) / 4))}):
        kept = x < sizes[-num_left_out]
        num_kept = len(sizes) - num_left_out
        if num_kept < 2:
            continue
        at_last = x == sizes[num_kept - 1]
        last = np.exp(np.average(np.log(y[at_last]), weights=weights[at_last]))
        predictions = {"last1": np.full((~kept).sum(), last)}
        for name in forms:
            if num_kept > num_parameters(name):
                predictions[name] = fit_curve(x[kept], y[kept], name, weights[kept]).predict(x[~kept])[0]
        for name, predicted in predictions.items():
            miss = rmsle(predicted, y[~kept], weights[~kept])
            scores.append(HoldOutScore(name, num_left_out, len(predicted), miss))
    return tuple(scores)


class HalfBudget(NamedTuple):
    """A curve fitted to sizes up to half of the largest, and what it predicts for the others."""

    num_points: int  # predicted
    rmsle: float
    last1: float  # of repeating the last value seen
    asymptote: float  # c from half of the budget
    asymptote_of_all: float  # c from all points


def half_budget(x: np.ndarray, y: np.ndarray, curve: Curve, weights: np.ndarray | None = None) -> HalfBudget | None:
    """None for a form without a floor, or with too few sizes in the lower half."""
    kept = x <= x.max() / 2
    if "c" not in curve.law.parameters or len(np.unique(x[kept])) <= num_parameters(curve.form):
        return None
    weights = np.ones(len(x)) if weights is None else weights
    half, at = fit_curve(x[kept], y[kept], curve.form, weights[kept]), curve.law.parameters.index("c")
    at_last = x == x[kept].max()
    last = np.full((~kept).sum(), np.exp(np.average(np.log(y[at_last]), weights=weights[at_last])))
    miss, miss_of_last = (rmsle(found, y[~kept], weights[~kept]) for found in (half.predict(x[~kept])[0], last))
    return HalfBudget(len(last), miss, miss_of_last, float(half.natural[0, at]), float(curve.natural[0, at]))


def _pooled(scores: list[HoldOutScore]) -> float:
    """Root mean square over all points of all rounds."""
    return float(sum(score.num_points * score.rmsle**2 for score in scores) / sum(score.num_points for score in scores))
