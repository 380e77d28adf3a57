"""Hold-out: how each form predicts data sizes that it has not seen, and whether the headline does so within limits.

In: the design, cell errors and names of the algorithms. Out: `HoldOut` and `HeldOut`. For `HoldOut`,
every form predicts each algorithm's largest size, then its two largest, from the rest. Its scores stand beside those of
`last1`, which repeats the last error seen. `HeldOut` is one algorithm's largest size predicted by the constant
multiplier, inside its interval or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.fitting.fits import Fit, fit_again, fit_replicates
from analysis.fitting.forms import Form
from analysis.fitting.joint import Design

MIN_SIZES = 7  # of the reference; with fewer, hold-out leaves too few sizes to choose a form by
NUM_REPLICATES = 500
_CLIP = 1e-6
_TAIL = 0.0125  # with the test of fit (analysis.verdicts.evidence) it refuses at most 5 % of constant multipliers


@dataclass(frozen=True)
class Prediction:
    """One cell that a fit did not see."""

    form: str  # or last1
    num_dropped: int  # largest sizes left out of every algorithm
    algorithm: str
    data_size: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Score:
    """How one form predicted, over all algorithms."""

    form: str
    num_dropped: int
    num_cells: int
    log_score: float  # mean log likelihood of a held-out 0/1 outcome; higher is better
    rmsle: float  # root mean square difference of log errors


@dataclass(frozen=True)
class HoldOut:
    """Predictions and scores; empty where there are too few sizes to leave any out."""

    predictions: tuple[Prediction, ...] = ()
    scores: tuple[Score, ...] = ()

    def best_form(self, forms: Sequence[Form]) -> str | None:
        """The form with the best mean log score among those that every round scored; the simpler one in a tie."""
        rounds = {score.num_dropped for score in self.scores}
        means = []
        for form in forms:
            own = [score.log_score for score in self.scores if score.form == form.name]
            if rounds and len(own) == len(rounds):
                means.append((-float(np.mean(own)), form.num_parameters, form.name))
        return min(means)[2] if means else None


@dataclass(frozen=True)
class HeldOut:
    """The hold-out of a headline: an algorithm's largest size, predicted by H1 fitted without it."""

    algorithm: str
    data_size: int
    predicted: float
    low: float  # 97.5 % predictive interval: of the fit, the runs and the problems
    high: float
    observed: float

    @property
    def passed(self) -> bool:
        return self.low <= self.observed <= self.high


def rolling(design: Design, errors: np.ndarray, names: Sequence[str], fits: Sequence[Fit]) -> HoldOut:
    """Leave out the largest size of every algorithm, then the two largest; errors [P], NaN where not used.

    fits: to all sizes, one for each form.
    """
    predictions, scores = [], []
    for num_dropped in (1, 2):
        held = _largest(design, errors, num_dropped)
        if not held.any():
            continue
        seen = np.where(held, np.nan, errors)
        num_sizes = int((~np.isnan(seen[design.arm == 0])).sum())
        inside = replace(design, c_max=float(max(np.nanmin(seen), 1e-4)))
        rows = {
            fit.form.name: fit_again(inside, seen, fit).fitted[0]
            for fit in fits
            if fit.form.num_parameters <= num_sizes
        }
        rows["last1"] = _last(design, seen)
        for name, predicted in rows.items():
            scores.append(_score(name, num_dropped, design.weight[held], predicted[held], errors[held]))
            for cell in np.flatnonzero(held):
                size = round(float(np.exp(design.log_size[cell])))
                at = (names[design.arm[cell]], size, float(predicted[cell]), float(errors[cell]))
                predictions.append(Prediction(name, num_dropped, *at))
    return HoldOut(tuple(predictions), tuple(scores))


def hold_out_headline(
    design: Design, errors: np.ndarray, draws: np.ndarray, constant: Fit, arm: int, algorithm: str
) -> HeldOut | None:
    """Predict an algorithm's largest size from H1 without it; None if the algorithm has no other size.

    constant: the fit to everything. A replicate redraws the runs and problems of the cell as well as those of the fit,
    so that the scatter of its prediction error includes both.
    """
    cells = design.cells_of(arm, errors)
    if len(cells) < 2:
        return None
    cell = cells[-1]
    seen, drawn = errors.copy(), draws[:NUM_REPLICATES].copy()
    observed, redrawn = errors[cell], drawn[:, cell].copy()
    seen[cell] = np.nan
    drawn[:, np.isnan(seen)] = np.nan
    inside = replace(design, c_max=float(max(np.nanmin(seen), 1e-4)))
    point = fit_again(inside, seen, constant)
    predicted = float(point.fitted[0, cell])
    miss = redrawn - fit_replicates(inside, drawn, point).fitted[:, cell]
    low, high = predicted + np.nanquantile(miss - (observed - predicted), [_TAIL, 1 - _TAIL])
    size = round(float(np.exp(design.log_size[cell])))
    return HeldOut(algorithm, size, predicted, float(max(low, 0.0)), float(min(high, 1.0)), float(observed))


def _largest(design: Design, errors: np.ndarray, num_dropped: int) -> np.ndarray:
    """bool [P], the largest sizes of every algorithm that keeps two."""
    held = np.zeros(len(errors), bool)
    for arm in range(design.num_arms):
        cells = design.cells_of(arm, errors)
        if len(cells) >= num_dropped + 2:
            held[cells[-num_dropped:]] = True
    return held if held[design.arm == 0].any() else np.zeros(len(errors), bool)


def _last(design: Design, seen: np.ndarray) -> np.ndarray:
    """float64 [P], the error at the largest size seen of each cell's algorithm."""
    found = np.full(len(seen), np.nan)
    for arm in range(design.num_arms):
        found[design.arm == arm] = seen[design.cells_of(arm, seen)[-1]]
    return found


def _score(name: str, num_dropped: int, weight: np.ndarray, predicted: np.ndarray, observed: np.ndarray) -> Score:
    f = np.clip(predicted, _CLIP, 1 - _CLIP)
    log_likelihood = observed * np.log(f) + (1 - observed) * np.log1p(-f)
    gaps = np.log(f) - np.log(np.clip(observed, _CLIP, None))
    log_score = float(np.average(log_likelihood, weights=weight))
    return Score(name, num_dropped, len(f), log_score, float(np.sqrt(np.mean(gaps**2))))
