"""One study: a table of outcomes analysed against a reference, from form choice to verdicts.

In: `Outcomes`, the reference, the claims. Out: `Study`, finished numbers for plots and reports. Each
algorithm is analysed with the reference alone. The same input and seed give the same study.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from analysis.fitting.bootstrap import MIN_SEEDS, crossed_bootstrap
from analysis.fitting.fits import Fit
from analysis.fitting.isotonic import non_increasing, running_minimum
from analysis.fitting.joint import Design
from analysis.fitting.run_noise import run_noise
from analysis.multipliers.contrasts import Adjusted, Ratio, adjusted, ratio
from analysis.multipliers.estimates import (
    Difference,
    Multiplier,
    differences,
    interval_of_errors,
    pointwise,
    rise_after_best,
)
from analysis.multipliers.inverse import Inversion, before_turning, inversions
from analysis.multipliers.model import Model, fit_curve_of, fit_model, why_no_curve
from analysis.tables.cells import Cells
from analysis.verdicts.claims import claim_of
from analysis.verdicts.evidence import MIN_SIZES, Evidence
from analysis.verdicts.judge import Verdict, verdict


@dataclass(frozen=True)
class Study:
    """The finished numbers of a study."""

    outcomes: Cells
    reference: str
    refusal: str | None  # why there are no multipliers; models and perhaps intervals are then absent too
    draws: np.ndarray | None  # float64 [B, P], replicates of the errors
    error_low: np.ndarray | None  # float64 [P]
    error_high: np.ndarray | None
    verdicts: tuple[Verdict, ...]
    models: Mapping[str, Model] = field(default_factory=dict)  # of each algorithm that has one, with the reference
    multipliers: tuple[Multiplier, ...] = ()
    differences: tuple[Difference, ...] = ()
    inversions: tuple[Inversion, ...] = ()  # algorithms that get worse with more data, the reference included
    ceiling: float | None = None  # the error without any data, if known

    @cached_property
    def curve(self) -> tuple[Fit, Design] | None:
        """The reference's own curve; None if nothing can be compared with it."""
        if self.refusal is not None:
            return None
        return fit_curve_of(self.outcomes, self.reference, before_turning(self.outcomes, self.inversions), self.ceiling)

    @property
    def best_so_far(self) -> bool:
        """Whether the reference's running minimum is used, because more data made it worse."""
        return any(item.algorithm == self.reference for item in self.inversions)

    def described(self, algorithm: str) -> Model | None:
        """The joint fit of an algorithm, if one number is given for all its sizes."""
        return self.models.get(algorithm) if self.overall(algorithm) is not None else None

    def overall(self, algorithm: str) -> Multiplier | None:
        """The single number for all sizes, if it is given."""
        found = (item for item in self.multipliers if item.kind == "overall" and item.algorithm == algorithm)
        return next(found, None)

    def verdict(self, algorithm: str) -> Verdict:
        return next(item for item in self.verdicts if item.algorithm == algorithm)

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        """The tests of every algorithm's multiplier, adjusted for their number; no verdict depends on them."""
        draws = [
            (model.constant_draws.log_multiplier(1), model.varying_draws.delta(1)) for model in self.models.values()
        ]
        return adjusted(list(self.models), *zip(*draws, strict=True)) if draws else ()

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """The ratio of every two algorithms that have a single number."""
        given = [model for name, model in self.models.items() if self.overall(name) is not None]
        logs = [(float(model.constant.log_multiplier(1)[0]), model.constant_draws.log_multiplier(1)) for model in given]
        return tuple(
            ratio(given[i].algorithm, given[j].algorithm, (logs[i][0], logs[j][0]), (logs[i][1], logs[j][1]))
            for i, j in combinations(range(len(given)), 2)
        )

    @cached_property
    def noise_over_luck(self) -> float:
        """The spread of runs over what luck with their problems explains, in standard deviations, over all cells."""
        names = self.outcomes.algorithms
        squares = [run_noise(self.outcomes.part([name]), name).over_luck ** 2 for name in names]
        return float(np.sqrt(np.average(squares, weights=[len(self.outcomes.cells_of(name)) for name in names])))


def analyse(
    outcomes: Cells,
    reference: str,
    claims: Mapping[str, float | str],
    num_draws: int = 2000,
    seed: int = 0,
    ceiling: float | None = None,
) -> Study:
    """Analyse. If the data cannot give a number, the study holds the reason; nothing is guessed.

    ceiling: the error without any data, of chance or the base policy, if known; only the form m4 uses it.
    """
    if len(outcomes.seeds) < MIN_SEEDS:
        why = f"the number of seeds is {len(outcomes.seeds)}, and an interval needs at least {MIN_SEEDS}."
        return Study(outcomes, reference, why, None, None, None, _refused(outcomes, reference, claims, why))
    known = reference if reference in outcomes.algorithms else None
    draws = crossed_bootstrap(outcomes, num_draws, seed, known)
    limits = interval_of_errors(draws)
    if reference not in outcomes.algorithms:
        why = f"the reference {reference!r} has no finished run."
        return Study(outcomes, reference, why, draws, *limits, _refused(outcomes, reference, claims, why))
    rises = rise_after_best(outcomes, reference, draws)[1] > 0
    falling = running_minimum if rises else non_increasing
    turned = inversions(outcomes, reference, draws, falling)
    used = before_turning(outcomes, turned)
    points, differ = pointwise(outcomes, reference, draws, falling), differences(outcomes, reference, draws)
    no_curve = why_no_curve(outcomes.part([reference]), reference, used[outcomes.cells_of(reference)])
    if no_curve is not None:
        refused = _refused(outcomes, reference, claims, no_curve)
        return Study(outcomes, reference, no_curve, draws, *limits, refused, {}, tuple(points), tuple(differ), turned)
    models, verdicts, multipliers = {}, [], []
    for name in (name for name in outcomes.algorithms if name != reference):
        own = [item for item in points if item.algorithm == name]
        model, no_model = _model(outcomes, reference, name, draws, used, ceiling)
        if model is not None:
            models[name] = model
        evidence = _evidence(outcomes, reference, name, turned, draws, model, no_model, own, differ)
        verdicts.append(verdict(evidence, claim_of(name, claims)))
        multipliers += [*own, *_overall(outcomes, reference, verdicts[-1], model)]
    return Study(
        outcomes, reference, None, draws, *limits, tuple(verdicts), models, tuple(multipliers), tuple(differ), turned,
        ceiling,
    )  # fmt: skip


def _model(
    outcomes: Cells, reference: str, name: str, draws: np.ndarray, used: np.ndarray, ceiling: float | None
) -> tuple[Model | None, str | None]:
    """The joint fit of an algorithm and the reference, or why it failed; neither if there are too few sizes."""
    cells = np.concatenate([outcomes.cells_of(one) for one in (reference, name)])
    if len(outcomes.cells_of(name)) < MIN_SIZES:
        return None, None
    pair = outcomes.part([reference, name])
    return fit_model(pair, (reference, name), np.ascontiguousarray(draws[:, cells]), used[cells], ceiling)


def _overall(outcomes: Cells, reference: str, found: Verdict, model: Model | None) -> list[Multiplier]:
    """The verdict's one number as a multiplier. It may extrapolate; the record says so."""
    if found.headline is None or found.headline.kind != "one number" or model is None:
        return []
    (point,) = found.headline.points
    largest, smallest = (float(limit) for limit in _ends(outcomes, reference)[::-1])
    sizes = outcomes.data_size[outcomes.cells_of(found.algorithm)]
    m = np.exp(model.constant_draws.log_multiplier(1))
    return [
        Multiplier(
            found.algorithm,
            "overall",
            None,
            point.estimate,
            point.low,
            point.high,
            right_censored=float(np.mean(m * sizes.min() > largest)),
            left_censored=float(np.mean(m * sizes.max() < smallest)),
            at_least=float(np.quantile(np.minimum(m, largest / sizes.min()), 0.025)),
            extrapolation=float(point.estimate * sizes.max() / largest),
        )
    ]


def _evidence(
    outcomes: Cells,
    reference: str,
    algorithm: str,
    turned: tuple[Inversion, ...],
    draws: np.ndarray,
    model: Model | None,
    why: str | None,
    points: list[Multiplier],
    differ: list[Difference],
) -> Evidence:
    if why is not None:
        return Evidence(algorithm, reference, not_estimable=why)
    cells = [item for item in points if item.kind == "pointwise"]
    mean = next((item for item in points if item.kind == "mean"), None)
    sizes = tuple(int(size) for size in outcomes.data_size[outcomes.cells_of(algorithm)])
    smallest, largest = _ends(outcomes, reference)
    censored_above = [item for item in cells if item.right_censored > 0.5]
    censored_below = [item for item in cells if item.left_censored > 0.5]
    difference = next((item for item in differ if item.algorithm == algorithm), None)
    known = Evidence(
        algorithm,
        reference,
        num_seeds=len(outcomes.part([reference, algorithm]).seeds),
        num_problems=outcomes.num_problems,
        sizes=sizes,
        largest_reference=largest,
        right_censored=len(censored_above) / len(cells),
        left_censored=len(censored_below) / len(cells),
        at_least=max((item.at_least for item in censored_above), default=math.nan),
        at_most=min((smallest / (item.data_size or 1) for item in censored_below), default=math.nan),
        mean=(mean.estimate, mean.low, mean.high) if mean else None,
        at_sizes=tuple((item.estimate, item.low_at_once or 0.0, item.high_at_once or math.inf) for item in cells),
        difference=(difference.estimate, difference.low, difference.high) if difference else (0.0, 0.0, 0.0),
        rise=rise_after_best(outcomes, algorithm, draws),
        inversion=next((item for item in turned if item.algorithm == algorithm), None),
    )
    return known if model is None else _with_model(known, model)


def _with_model(e: Evidence, model: Model) -> Evidence:
    """The evidence with the numbers of the joint fit."""
    m, low, high = model.multiplier
    chosen, *others = model.slopes
    sign = 1 if chosen.estimate > 0 else -1
    return replace(
        e,
        multiplier=m,
        low=low,
        high=high,
        lack_of_fit=model.lack_of_fit,
        lack_of_fit_varying=model.lack_of_fit_varying,
        delta=(chosen.estimate, chosen.low, chosen.high),
        slope_in_all_forms=all(min(sign * slope.low, sign * slope.high) > 0 for slope in others),
        form_spread=model.form_spread,
        extrapolation=(m * e.sizes[0] / e.largest_reference, m * e.sizes[-1] / e.largest_reference),
        held_out=None if model.held_out is None else model.held_out.passed,
    )


def _ends(outcomes: Cells, algorithm: str) -> tuple[int, int]:
    sizes = outcomes.data_size[outcomes.cells_of(algorithm)]
    return int(sizes.min()), int(sizes.max())


def _refused(outcomes: Cells, reference: str, claims: Mapping[str, float | str], why: str) -> tuple[Verdict, ...]:
    return tuple(
        verdict(Evidence(name, reference, not_estimable=why), claim_of(name, claims))
        for name in outcomes.algorithms
        if name != reference
    )
