"""The joint fit of a study: the form chosen, the headline with its draws, and everything that questions it.

In: outcomes, bootstrap draws and the cells that a falling curve may describe. Out: `Model`, finished numbers. From
seven sizes of the reference on, the form is the one that predicts held-out sizes best; below, that of smallest QAICc.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fitting.bootstrap import Draws, overdispersion
from analysis.fitting.fits import Fit, by_qaicc, fit_point, fit_replicates
from analysis.fitting.forms import FORMS, Form, m4
from analysis.fitting.joint import Design
from analysis.multipliers.contrasts import Band, MoreThanOne, Ratio, band, more_than_one, ratios
from analysis.multipliers.estimates import LEVEL, arms, two_way
from analysis.multipliers.hierarchy import Comparison, compare_models, lack_of_fit
from analysis.multipliers.holdout import MIN_SIZES, HeldOut, HoldOut, hold_out_headline, rolling
from analysis.multipliers.robustness import Variant, variants
from analysis.tables.outcomes import Outcomes

MIN_FALL = 0.01  # of the reference's error, from its smallest size to its best
_NUM_ONE_WAY = 1000  # draws of problems alone and of seeds alone: a variance to 4 %
SPREAD_QAICC = 4.0  # a form within this of the best counts as fitting about as well


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
    used: np.ndarray  # bool [P], cells fitted; those beyond a turning point are not
    selection: str  # what chose the form: "QAICc" or "hold-out"
    constant: Fit  # H1, point
    constant_draws: Fit
    varying: Fit  # H2, point
    varying_draws: Fit
    lack_of_fit: float  # p of H1 by the recentred bootstrap
    lack_of_fit_varying: float  # p of H2
    comparisons: tuple[Comparison, ...]  # H0 to H4
    scores: tuple[FormScore, ...]  # by QAICc, best first
    holdout: HoldOut
    held_out: tuple[HeldOut, ...]  # of the headline, one for each algorithm
    variants: tuple[Variant, ...]  # other ways of fitting H1
    ratios: tuple[Ratio, ...]
    more_than_one: tuple[MoreThanOne, ...]
    bands: tuple[Band, ...]  # m(D) under H2
    two_way: Mapping[str, tuple[float, float]]  # algorithm -> interval of m

    def arm(self, algorithm: str) -> int:
        return self.arms.index(algorithm)

    def delta_interval(self, arm: int) -> tuple[float, float]:
        """Interval of the slope of log m in log D; 95 % for all algorithms at once (Bonferroni)."""
        tail = (1 - LEVEL) / 2 / (len(self.arms) - 1)
        low, high = np.quantile(self.varying_draws.delta(arm), [tail, 1 - tail])
        return float(low), float(high)

    def form_spread(self, algorithm: str) -> tuple[float, float]:
        """Smallest and largest m over the forms that fit about as well as the best, and the chosen one."""
        chosen, best = self.constant.form.name, self.scores[0].qaicc
        alike = [score for score in self.scores if score.qaicc <= best + SPREAD_QAICC or score.form == chosen]
        values = [score.multipliers[algorithm] for score in alike]
        return min(values), max(values)


def design_of(outcomes: Outcomes, names: Sequence[str], errors: np.ndarray) -> Design:
    """What a joint fit is told of the cells. names: the reference first; errors: [P], NaN where none is fitted."""
    return Design(
        log_size=np.log(outcomes.data_size.astype(float)),
        arm=np.array([names.index(name) for name in outcomes.algorithm]),
        weight=outcomes.present.sum(axis=1) * outcomes.num_problems / overdispersion(outcomes),
        c_max=float(max(np.nanmin(errors), 1e-4)),
    )


def fit_model(
    outcomes: Outcomes, reference: str, draws: Draws, used: np.ndarray, ceiling: float | None = None
) -> tuple[Model | None, str | None]:
    """The model, or why there is none. used: bool [P], cells to fit; ceiling: error without data, where known."""
    names = arms(outcomes, reference)
    errors = np.where(used, outcomes.errors, np.nan)
    draws = Draws(*(np.where(used, item, np.nan) for item in (draws.crossed, draws.problems_only, draws.seeds_only)))
    design = design_of(outcomes, names, errors)
    num_sizes = int(used[outcomes.cells_of(reference)].sum())
    fall = errors[outcomes.cells_of(reference)[0]] - np.nanmin(errors[outcomes.cells_of(reference)])
    candidates = _candidates(num_sizes, ceiling, float(np.nanmin(errors)))
    if not candidates:
        sizes = "data size" if num_sizes == 1 else "data sizes"
        where = "" if used.all() else " before more data raise its error"
        needed = FORMS["pow2"].min_sizes
        return None, f"{reference} has {num_sizes} {sizes}{where}, and the smallest form needs {needed}."
    if fall < MIN_FALL:
        falls = f"the error of {reference} falls by {100 * max(fall, 0.0):.1f} pp"
        return None, f"{falls} over all its sizes, and without a slope no amount of data corresponds to an error."
    fits = by_qaicc([fit_point(design, errors, form, "H1") for form in candidates], int(used.sum()))
    holdout = rolling(design, errors, names, candidates)
    chosen = holdout.best_form(candidates) if num_sizes >= MIN_SIZES else None
    constant = next(fit for _, fit in fits if chosen is None or fit.form.name == chosen)
    if not constant.converged[0]:
        return None, f"the fit of {constant.form.name} did not converge."
    constant_draws = fit_replicates(design, draws.crossed, constant)
    varying = fit_point(design, errors, constant.form, "H2")
    varying_draws = fit_replicates(design, draws.crossed, varying)
    others = tuple(enumerate(names))[1:]
    held_out = (hold_out_headline(design, errors, draws, constant.form, arm, name) for arm, name in others)
    model = Model(
        design,
        names,
        used,
        "QAICc" if chosen is None else "hold-out",
        constant,
        constant_draws,
        varying,
        varying_draws,
        lack_of_fit(design, errors, draws, constant),
        lack_of_fit(design, errors, draws, varying),
        compare_models(design, errors, draws, constant),
        tuple(_form_score(fit, score, names) for score, fit in fits),
        holdout,
        tuple(item for item in held_out if item is not None),
        variants(design, errors, constant, names) if others else (),
        ratios(constant, constant_draws, names),
        more_than_one(constant_draws, names),
        tuple(band(design, varying, varying_draws, arm, name) for arm, name in others),
        _two_way(design, draws, constant, constant_draws, names, len(outcomes.seeds)),
    )
    return model, None


def _candidates(num_sizes: int, ceiling: float | None, smallest: float) -> list[Form]:
    """The forms that so many sizes allow; m4 with the known ceiling, unless the data contradict it."""
    forms = dict(FORMS)
    if ceiling is not None and ceiling > smallest:
        forms["m4"] = m4(ceiling)
    return [form for form in forms.values() if form.min_sizes <= num_sizes]


def _form_score(fit: Fit, score: float, names: tuple[str, ...]) -> FormScore:
    multipliers = {name: float(np.exp(fit.log_multiplier(arm)[0])) for arm, name in enumerate(names) if arm}
    return FormScore(fit.form.name, score, multipliers)


def _two_way(
    design: Design, draws: Draws, constant: Fit, constant_draws: Fit, names: tuple[str, ...], num_seeds: int
) -> dict[str, tuple[float, float]]:
    of_problems = fit_replicates(design, draws.problems_only[:_NUM_ONE_WAY], constant)
    of_seeds = fit_replicates(design, draws.seeds_only[:_NUM_ONE_WAY], constant)
    found = {}
    for arm, name in enumerate(names):
        if arm:
            log_ms = (fit.log_multiplier(arm) for fit in (constant_draws, of_problems, of_seeds))
            found[name] = two_way(float(np.exp(constant.log_multiplier(arm)[0])), *log_ms, num_seeds)
    return found
