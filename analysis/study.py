"""One study: a table of outcomes analysed against a reference, from form choice to verdicts.

In: `Outcomes`, the reference, the claims. Out: `Study`, finished numbers that plots and reports only draw. The same
input and seed give the same study.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.bootstrap import MIN_SEEDS, Draws, crossed_bootstrap, overdispersion
from analysis.fits import Design, Fit, by_qaicc, fit_point, fit_replicates
from analysis.forms import FORMS
from analysis.multipliers import (
    LEVEL,
    Difference,
    Multiplier,
    arms,
    differences,
    interval_of_errors,
    overall,
    pointwise,
    rise_after_best,
    two_way,
)
from analysis.outcomes import Outcomes
from analysis.verdicts import Evidence, Verdict, verdict

SPREAD_QAICC = 4.0  # a form within this of the best counts as fitting about as well
_FORM_NAMES = ("pow2", "pow3", "shift4")


@dataclass(frozen=True)
class FormScore:
    """How one form did."""

    form: str
    qaicc: float
    multipliers: Mapping[str, float]  # algorithm -> H1's m


@dataclass(frozen=True)
class Model:
    """The joint fit of the chosen form."""

    design: Design
    arms: tuple[str, ...]  # reference first
    constant: Fit  # H1, point
    constant_draws: Fit
    varying: Fit  # H2, point
    varying_draws: Fit
    lack_of_fit: float  # p of H1 by the recentred bootstrap
    lack_of_fit_varying: float  # p of H2
    scores: tuple[FormScore, ...]  # best first
    two_way: Mapping[str, tuple[float, float]]  # algorithm -> interval of m

    def arm(self, algorithm: str) -> int:
        return self.arms.index(algorithm)

    def delta_interval(self, arm: int) -> tuple[float, float]:
        """Interval of the slope of log m in log D; 95 % for all algorithms at once (Bonferroni)."""
        tail = (1 - LEVEL) / 2 / (len(self.arms) - 1)
        low, high = np.quantile(self.varying_draws.delta(arm), [tail, 1 - tail])
        return float(low), float(high)


@dataclass(frozen=True)
class Study:
    """Everything that plots and reports draw."""

    outcomes: Outcomes
    reference: str
    refusal: str | None  # why there are no intervals; then draws, model and multipliers are absent
    draws: Draws | None
    error_low: np.ndarray | None  # float64 [P]
    error_high: np.ndarray | None
    model: Model | None
    multipliers: tuple[Multiplier, ...]
    differences: tuple[Difference, ...]
    verdicts: tuple[Verdict, ...]

    def overall(self, algorithm: str) -> Multiplier | None:
        """The algorithm's constant multiplier, where there is one."""
        found = [item for item in self.multipliers if item.kind == "overall" and item.algorithm == algorithm]
        return found[0] if found else None


def analyse(
    outcomes: Outcomes,
    reference: str,
    claims: Mapping[str, float | str],
    num_draws: int = 2000,
    seed: int = 0,
) -> Study:
    """Analyse. What the data cannot give is refused with a reason inside the study, never guessed."""
    others = [name for name in outcomes.algorithms if name != reference]
    if len(outcomes.seeds) < MIN_SEEDS:
        why = f"the number of seeds is {len(outcomes.seeds)}, and an interval needs at least {MIN_SEEDS}."
        return _refused(outcomes, reference, claims, why)
    draws = crossed_bootstrap(outcomes, num_draws, seed)
    low, high = interval_of_errors(draws)
    if reference not in outcomes.algorithms:
        refused = _refused(outcomes, reference, claims, f"the reference {reference!r} has no finished run.")
        return Study(outcomes, reference, refused.refusal, draws, low, high, None, (), (), refused.verdicts)
    model, why = _fit(outcomes, reference, draws)
    multipliers = tuple(pointwise(outcomes, reference, draws))
    if model is not None:
        multipliers += tuple(overall(outcomes, reference, model.design, model.constant, model.constant_draws))
    differ = tuple(differences(outcomes, reference, draws))
    evidence = [_evidence(outcomes, reference, name, draws, model, why, multipliers, differ) for name in others]
    verdicts = tuple(verdict(item, claims.get(item.algorithm.partition(",")[0])) for item in evidence)
    return Study(outcomes, reference, why, draws, low, high, model, multipliers, differ, verdicts)


def _fit(outcomes: Outcomes, reference: str, draws: Draws) -> tuple[Model | None, str | None]:
    names = arms(outcomes, reference)
    phi = overdispersion(outcomes)
    errors = outcomes.errors
    design = Design(
        log_size=np.log(outcomes.data_size.astype(float)),
        arm=np.array([names.index(name) for name in outcomes.algorithm]),
        weight=outcomes.present.sum(axis=1) * outcomes.num_problems / phi,
        c_max=float(max(errors.min(), 1e-4)),
    )
    num_sizes = len(outcomes.cells_of(reference))
    candidates = [FORMS[name] for name in _FORM_NAMES if FORMS[name].min_sizes <= num_sizes]
    if not candidates:
        return None, f"{reference} has {num_sizes} data sizes, and the smallest form needs {FORMS['pow2'].min_sizes}."
    fits = by_qaicc([fit_point(design, errors, form, "H1") for form in candidates], len(errors))
    scores = tuple(
        FormScore(
            fit.form.name,
            score,
            {name: float(np.exp(fit.log_multiplier(arm)[0])) for arm, name in enumerate(names) if arm},
        )
        for score, fit in fits
    )
    constant = fits[0][1]
    if not constant.converged[0]:
        return None, f"the fit of {constant.form.name} did not converge."
    constant_draws = fit_replicates(design, draws.crossed, constant)
    varying = fit_point(design, errors, constant.form, "H2")
    varying_draws = fit_replicates(design, draws.crossed, varying)
    of_problems = fit_replicates(design, draws.problems_only, constant)
    of_seeds = fit_replicates(design, draws.seeds_only, constant)
    intervals = {
        name: two_way(
            float(np.exp(constant.log_multiplier(arm)[0])),
            constant_draws.log_multiplier(arm),
            of_problems.log_multiplier(arm),
            of_seeds.log_multiplier(arm),
            len(outcomes.seeds),
        )
        for arm, name in enumerate(names)
        if arm
    }
    lack_of_fit, lack_of_fit_varying = (_lack_of_fit(design, errors, draws, fit) for fit in (constant, varying))
    model = Model(
        design,
        names,
        constant,
        constant_draws,
        varying,
        varying_draws,
        lack_of_fit,
        lack_of_fit_varying,
        scores,
        intervals,
    )
    return model, None


def _lack_of_fit(design: Design, errors: np.ndarray, draws: Draws, fit: Fit) -> float:
    """How often data that do follow the fit, with the replicates' scatter, would miss it by as much as the data do."""
    recentred = np.clip(fit.fitted + draws.crossed - errors, 0.0, 1.0)
    return float(np.mean(fit_replicates(design, recentred, fit).deviance >= fit.deviance[0]))


def _evidence(
    outcomes: Outcomes,
    reference: str,
    algorithm: str,
    draws: Draws,
    model: Model | None,
    why: str | None,
    multipliers: tuple[Multiplier, ...],
    differ: tuple[Difference, ...],
) -> Evidence:
    if model is None:
        return Evidence(algorithm, reference, not_estimable=why)
    cells = [item for item in multipliers if item.algorithm == algorithm and item.kind == "pointwise"]
    if len(cells) < FORMS["pow2"].min_sizes:
        why = f"it has {len(cells)} data sizes, and a multiplier needs {FORMS['pow2'].min_sizes}."
        return Evidence(algorithm, reference, not_estimable=why)
    (m,) = (item for item in multipliers if item.algorithm == algorithm and item.kind == "overall")
    mean = next((item for item in multipliers if item.algorithm == algorithm and item.kind == "mean"), None)
    arm = model.arm(algorithm)
    sizes = outcomes.data_size[outcomes.cells_of(algorithm)]
    delta = model.varying.delta(arm)[0]
    at_ends = np.exp(model.varying.log_multiplier(arm)[0] + delta * (np.log(sizes[[0, -1]]) - model.design.log_center))
    alike = [score for score in model.scores if score.qaicc <= model.scores[0].qaicc + SPREAD_QAICC]
    spread = [score.multipliers[algorithm] for score in alike]
    reference_sizes = outcomes.data_size[outcomes.cells_of(reference)]
    censored_above = [item for item in cells if item.right_censored > 0.5]
    censored_below = [item for item in cells if item.left_censored > 0.5]
    difference = next((item for item in differ if item.algorithm == algorithm), None)
    return Evidence(
        algorithm,
        reference,
        num_seeds=len(outcomes.seeds),
        num_problems=outcomes.num_problems,
        sizes=(int(sizes[0]), int(sizes[-1])),
        largest_reference=int(reference_sizes.max()),
        multiplier=m.estimate,
        low=m.low,
        high=m.high,
        right_censored=len(censored_above) / len(cells),
        left_censored=len(censored_below) / len(cells),
        at_least=max((item.at_least for item in censored_above), default=math.nan),
        at_most=min(
            (float(reference_sizes.min()) / (item.data_size or 1) for item in censored_below), default=math.nan
        ),
        mean=(mean.estimate, mean.low, mean.high) if mean else None,
        lack_of_fit=model.lack_of_fit,
        lack_of_fit_varying=model.lack_of_fit_varying,
        delta=(float(delta), *model.delta_interval(arm)),
        ends=(float(at_ends[0]), float(at_ends[1])),
        form_spread=(min(spread), max(spread)),
        difference=(difference.estimate, difference.low, difference.high) if difference else (0.0, 0.0, 0.0),
        rise=rise_after_best(outcomes, algorithm, draws),
    )


def _refused(outcomes: Outcomes, reference: str, claims: Mapping[str, float | str], why: str) -> Study:
    verdicts = tuple(
        verdict(Evidence(name, reference, not_estimable=why), claims.get(name.partition(",")[0]))
        for name in outcomes.algorithms
        if name != reference
    )
    return Study(outcomes, reference, why, None, None, None, None, (), (), verdicts)
