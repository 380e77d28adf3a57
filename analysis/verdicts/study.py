"""One study: a table of outcomes analysed against a reference, from form choice to verdicts.

In: `Outcomes`, the reference, the claims. Out: `Study`, finished numbers for plots and reports. Each
algorithm is analysed with the reference alone. The same input and seed give the same study.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from types import MappingProxyType

import numpy as np

from analysis.fitting.bootstrap import MIN_SEEDS, crossed_bootstrap
from analysis.fitting.fits import Fit
from analysis.fitting.isotonic import non_increasing, running_minimum
from analysis.fitting.joint import Design
from analysis.fitting.run_noise import run_noise
from analysis.multipliers.contrasts import Adjusted, Ratio, adjusted, ratio
from analysis.multipliers.estimates import (
    MIN_FALL,
    Difference,
    Multiplier,
    RatioAt,
    differences,
    flat_sizes,
    interval_of_errors,
    pointwise,
    ratios_at_sizes,
    rise_after_best,
    slope_without_form,
)
from analysis.multipliers.inverse import Inversion, before_turning, inversions
from analysis.multipliers.model import Model, fit_curve_of, fit_model, why_no_curve
from analysis.tables.cells import Cells
from analysis.tables.printing import label
from analysis.tables.selection import Moves
from analysis.verdicts.claims import claim_of
from analysis.verdicts.evidence import MIN_SIZES, Evidence
from analysis.verdicts.judge import Verdict, listed, verdict


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
    base_error: float | None = None  # without any data, if known
    flat: Mapping[int, float] = field(default_factory=dict)  # data size without m -> the reference's fall per fourfold

    @cached_property
    def curve(self) -> tuple[Fit, Design] | None:
        """The reference's own curve; None if nothing can be compared with it."""
        if self.refusal is not None:
            return None
        return fit_curve_of(self.outcomes, self.reference, self.used, self.base_error)

    @cached_property
    def used(self) -> np.ndarray:
        """bool [P], the cells that are fitted: none beyond a turning point, and of an algorithm only those with m."""
        given = (self.outcomes.algorithm == self.reference) | ~np.isin(self.outcomes.data_size, list(self.flat))
        used: np.ndarray = before_turning(self.outcomes, self.inversions) & given
        return used

    def sizes_of(self, algorithm: str) -> tuple[int, ...]:
        """The data sizes at which m of an algorithm is given, in ascending order."""
        return tuple(size for size in self.outcomes.sizes_of(algorithm) if size not in self.flat)

    @property
    def best_so_far(self) -> bool:
        """Whether the reference's running minimum is used, because more data made it worse."""
        return any(item.algorithm == self.reference for item in self.inversions)

    @property
    def falling(self) -> Callable[[np.ndarray], np.ndarray]:
        """How the reference's errors are made to fall with data where no form is used."""
        return running_minimum if self.best_so_far else non_increasing

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
        draws = [(model.log_m[1], model.varying_draws.delta(1)) for model in self.models.values()]
        return adjusted(list(self.models), *zip(*draws, strict=True)) if draws else ()

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """The ratio of every two algorithms that have a single number."""
        given = [model for name in self.models if (model := self.described(name)) is not None]
        return tuple(
            ratio(a.algorithm, b.algorithm, (a.log_m[0], b.log_m[0]), (a.log_m[1], b.log_m[1]))
            for a, b in combinations(given, 2)
        )

    def ratios_at_sizes(self, numerator: str, denominator: str) -> tuple[RatioAt, ...]:
        """The ratio of two algorithms' multipliers at each size that the reference's range has."""
        if self.refusal is not None or self.draws is None:
            return ()
        names = (self.reference, numerator, denominator)
        return ratios_at_sizes(self.outcomes, names, self.draws, self.falling, self.flat)

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
    base_error: float | None = None,
    ceiling: Mapping[int, float] = MappingProxyType({}),
    selection: Moves = MappingProxyType({}),
) -> Study:
    """Analyse. If the data cannot give a number, the study holds the reason; nothing is guessed.

    base_error: without any data, of chance or the base policy, if known; only the form m4 uses it. ceiling: the largest
    possible multiplier by data size, where it is known; it decides which claims can be tested. selection: how errors
    move where settings were chosen without one of the selection seeds.
    """
    if len(outcomes.seeds) < MIN_SEEDS:
        why = f"the number of seeds is {len(outcomes.seeds)}, and an interval needs at least {MIN_SEEDS}."
        return Study(outcomes, reference, why, None, None, None, _refused(outcomes, reference, claims, why))
    known = reference if reference in outcomes.algorithms else None
    draws = crossed_bootstrap(outcomes, num_draws, seed, known, selection)
    limits = interval_of_errors(draws)
    few = {name: short for name in outcomes.algorithms if (short := _too_few_runs(outcomes, name)) is not None}
    if known is None or reference in few:
        why = few.get(reference, f"the reference {reference!r} has no finished run.")
        return Study(outcomes, reference, why, draws, *limits, _refused(outcomes, reference, claims, why))
    rises = rise_after_best(outcomes, reference, draws)[1] > 0
    falling = running_minimum if rises else non_increasing
    turned = inversions(outcomes, reference, draws, falling)
    differ = tuple(item for item in differences(outcomes, reference, draws) if item.algorithm not in few)
    study = Study(
        outcomes, reference, None, draws, *limits, (), differences=differ, inversions=turned, base_error=base_error
    )
    no_curve = why_no_curve(outcomes.part([reference]), reference, study.used[outcomes.cells_of(reference)])
    fitted = study.curve[0].fitted[0] if no_curve is None and study.curve is not None else None
    flat = {} if rises else flat_sizes(outcomes, reference, fitted)
    points = [item for item in pointwise(outcomes, reference, draws, falling, flat) if item.algorithm not in few]
    study = replace(study, refusal=no_curve, flat=flat, multipliers=tuple(points))
    if no_curve is not None:
        return replace(study, verdicts=_refused(outcomes, reference, claims, no_curve))
    models, verdicts, multipliers = {}, [], []
    for name in (name for name in outcomes.algorithms if name != reference):
        own = [item for item in points if item.algorithm == name]
        model, no_model = (None, few[name]) if name in few else _model(study, name, draws)
        if model is not None:
            models[name] = model
        evidence = _evidence(study, name, model, no_model, own, ceiling)
        verdicts.append(verdict(evidence, claim_of(name, claims)))
        multipliers += [*own, *_overall(study, verdicts[-1], model)]
    return replace(study, verdicts=tuple(verdicts), models=models, multipliers=tuple(multipliers))


def _too_few_runs(outcomes: Cells, name: str) -> str | None:
    """Why an algorithm has no intervals, if so: its own runs do not determine how much they differ."""
    present = outcomes.present[outcomes.cells_of(name)]
    seeds, repeats = int(present.any(axis=0).sum()), int((present.sum(axis=1) - 1).sum())
    if seeds < MIN_SEEDS:
        many = f"{seeds} seed{'s' * (seeds > 1)}"
        return f"{label(name)} has {many}, and an interval needs at least {MIN_SEEDS}. Add seeds."
    if repeats < MIN_SEEDS - 1:
        return f"{label(name)} has no size with {MIN_SEEDS} seeds, and an interval needs one. Add seeds."
    return None


def _model(study: Study, name: str, draws: np.ndarray) -> tuple[Model | None, str | None]:
    """The joint fit of an algorithm and the reference, or why there is no m; neither if there are too few sizes."""
    outcomes, reference, sizes = study.outcomes, study.reference, study.sizes_of(name)
    if not sizes:
        return None, f"{_flat_text(study, name)}, and without a slope no amount of data corresponds to an error."
    if len(sizes) < MIN_SIZES:
        return None, None
    cells = np.concatenate([outcomes.cells_of(one) for one in (reference, name)])
    pair, drawn = outcomes.part([reference, name]), np.ascontiguousarray(draws[:, cells])
    return fit_model(pair, (reference, name), drawn, study.used[cells], study.base_error)


def _flat_text(study: Study, name: str) -> str:
    """At which sizes of an algorithm the reference hardly improves, in words; empty if at none."""
    flat = [(size, study.flat[size]) for size in study.outcomes.sizes_of(name) if size in study.flat]
    if not flat:
        return ""
    sizes, falls = listed([f"{size:,}" for size, _ in flat]), listed([f"{100 * fall:.1f}" for _, fall in flat])
    return (
        f"the error of {label(study.reference)} falls by {falls} pp per fourfold of data at D = {sizes}, less than"
        f" {100 * MIN_FALL:g} pp"
    )


def _overall(study: Study, found: Verdict, model: Model | None) -> list[Multiplier]:
    """The verdict's one number as a multiplier. It may extrapolate; the record says so."""
    if found.headline is None or found.headline.kind != "one number" or model is None:
        return []
    (point,) = found.headline.points
    of_reference, sizes = study.outcomes.sizes_of(study.reference), study.sizes_of(found.algorithm)
    smallest, largest = float(of_reference[0]), float(of_reference[-1])
    m = np.exp(np.minimum(model.log_m[1], 700.0))
    return [
        Multiplier(
            found.algorithm,
            "overall",
            None,
            point.estimate,
            point.low,
            point.high,
            right_censored=float(np.mean(m * sizes[0] > largest)),
            left_censored=float(np.mean(m * sizes[-1] < smallest)),
            at_least=float(np.quantile(np.minimum(m, largest / sizes[0]), 0.025)),
            extrapolation=float(point.estimate * sizes[-1] / largest),
        )
    ]


def _evidence(
    study: Study,
    algorithm: str,
    model: Model | None,
    why: str | None,
    points: list[Multiplier],
    ceiling: Mapping[int, float],
) -> Evidence:
    outcomes, reference, sizes = study.outcomes, study.reference, study.sizes_of(algorithm)
    if why is not None:
        return Evidence(algorithm, reference, not_estimable=why)
    cells = [item for item in points if item.kind == "pointwise"]
    mean = next((item for item in points if item.kind == "mean"), None)
    of_reference = outcomes.sizes_of(reference)
    censored_above = [item for item in cells if item.right_censored > 0.5]
    censored_below = [item for item in cells if item.left_censored > 0.5]
    difference = next((item for item in study.differences if item.algorithm == algorithm), None)
    assert study.draws is not None
    known = Evidence(
        algorithm,
        reference,
        num_seeds=len(outcomes.part([reference, algorithm]).seeds),
        num_problems=outcomes.num_problems,
        sizes=sizes,
        flat=_flat_text(study, algorithm),
        ceiling=max(ceiling[size] for size in sizes) if set(sizes) <= set(ceiling) else None,
        largest_reference=of_reference[-1],
        right_censored=len(censored_above) / len(cells),
        left_censored=len(censored_below) / len(cells),
        at_least=max((item.at_least for item in censored_above), default=math.nan),
        at_most=min((of_reference[0] / (item.data_size or 1) for item in censored_below), default=math.nan),
        mean=(mean.estimate, mean.low, mean.high) if mean else None,
        at_sizes=tuple((item.estimate, item.low_at_once or 0.0, item.high_at_once or math.inf) for item in cells),
        difference=(difference.estimate, difference.low, difference.high) if difference else (0.0, 0.0, 0.0),
        rise=rise_after_best(outcomes, algorithm, study.draws),
        inversion=next((item for item in study.inversions if item.algorithm == algorithm), None),
    )
    if model is None:
        return known
    found = slope_without_form(outcomes, (reference, algorithm), study.draws, study.falling, study.flat)
    return _with_model(known, model, (0.0, 0.0) if found is None else found[1:])


def _with_model(e: Evidence, model: Model, form_free: tuple[float, float]) -> Evidence:
    """The evidence with the numbers of the joint fit. form_free: limits of the slope of point-wise m."""
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
        slope_without_form=min(sign * limit for limit in form_free) > 0,
        form_spread=model.form_spread,
        extrapolation=(m * e.sizes[0] / e.largest_reference, m * e.sizes[-1] / e.largest_reference),
        held_out=None if model.held_out is None else model.held_out.passed,
    )


def _refused(outcomes: Cells, reference: str, claims: Mapping[str, float | str], why: str) -> tuple[Verdict, ...]:
    return tuple(
        verdict(Evidence(name, reference, not_estimable=why), claim_of(name, claims))
        for name in outcomes.algorithms
        if name != reference
    )
