"""The joint fit of one algorithm and the reference: the form chosen, one multiplier with its draws, and its slope.

In: outcomes of the two, replicates of their errors and the cells that a falling curve may describe. Out: `Model`,
finished numbers. No other algorithm enters, so that a verdict is the same in any table. With fewer than seven sizes of
the reference, the form is that of the smallest QAICc. With seven or more, it is the one that predicts held-out sizes
best among those within 4 of the smallest QAICc. A multiplier varies with D only if its slope excludes 0 under every
form that fits about as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fitting.bootstrap import overdispersion
from analysis.fitting.fits import Fit, by_qaicc, fit_point, fit_replicates
from analysis.fitting.forms import FORMS, Form, m4
from analysis.fitting.joint import Design
from analysis.multipliers.contrasts import Band, band
from analysis.multipliers.estimates import MIN_FALL, percentile_interval
from analysis.multipliers.hierarchy import lack_of_fit
from analysis.multipliers.holdout import MIN_SIZES, NUM_REPLICATES, HeldOut, HoldOut, hold_out_headline, rolling
from analysis.tables.cells import Cells
from analysis.tables.printing import label

SPREAD_QAICC = 4.0  # a form within this of the best counts as fitting about as well
_ARM = 1  # the algorithm; 0 is the reference


@dataclass(frozen=True)
class FormScore:
    """How well one form fits."""

    form: str
    qaicc: float
    multiplier: float  # H1's m


@dataclass(frozen=True)
class Slope:
    """The slope of log m in log D under one form, with its 95 % interval."""

    form: str
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Model:
    """The joint fit of the chosen form."""

    algorithm: str
    outcomes: Cells  # the reference's cells, then the algorithm's
    design: Design
    errors: np.ndarray  # float64 [P], NaN where not fitted
    draws: np.ndarray  # float64 [B, P], likewise
    selection: str  # what chose the form: "QAICc" or "hold-out"
    constant: Fit  # H1, point
    constant_draws: Fit
    varying: Fit  # H2, point
    varying_draws: Fit
    lack_of_fit: float  # p of H1 by the recentred bootstrap
    lack_of_fit_varying: float  # p of H2
    scores: tuple[FormScore, ...]  # by QAICc of H1, best first
    slopes: tuple[Slope, ...]  # the chosen form's first; others, by QAICc of H2, only where that excludes 0
    holdout: HoldOut
    held_out: HeldOut | None  # of the one multiplier
    band: Band  # m(D) under H2

    @property
    def used(self) -> np.ndarray:
        """bool [P], cells fitted; those beyond a turning point are not."""
        used: np.ndarray = ~np.isnan(self.errors)
        return used

    @property
    def log_m(self) -> tuple[float, np.ndarray]:
        """H1's log m with its draws [B]."""
        return float(self.constant.log_multiplier(_ARM)[0]), self.constant_draws.log_multiplier(_ARM)

    @property
    def multiplier(self) -> tuple[float, float, float]:
        """H1's m with its 95 % percentile interval."""
        estimate, draws = self.log_m
        low, high = percentile_interval(draws)
        with np.errstate(over="ignore"):  # what overflows is infinite
            return float(np.exp(estimate)), float(np.exp(low)), float(np.exp(high))

    @property
    def form_spread(self) -> tuple[float, float]:
        """Smallest and largest m over the forms that fit about as well as the best, and the chosen one."""
        chosen, best = self.constant.form.name, self.scores[0].qaicc
        values = [s.multiplier for s in self.scores if s.qaicc <= best + SPREAD_QAICC or s.form == chosen]
        return min(values), max(values)


def design_of(outcomes: Cells, names: Sequence[str], errors: np.ndarray) -> Design:
    """The cells as a joint fit sees them. names: the reference first; errors: [P], NaN where not fitted."""
    return Design(
        log_size=np.log(outcomes.data_size.astype(float)),
        arm=np.array([names.index(name) for name in outcomes.algorithm]),
        weight=outcomes.present.sum(axis=1) * outcomes.num_problems / overdispersion(outcomes),
        c_max=float(max(np.nanmin(errors), 1e-4)),
    )


def why_no_curve(outcomes: Cells, reference: str, used: np.ndarray) -> str | None:
    """Why nothing can be compared with this reference, if so. used: bool [P], cells a falling curve may describe."""
    cells = outcomes.cells_of(reference)
    errors = outcomes.errors[cells][used[cells]]
    if len(errors) < FORMS["pow2"].min_sizes:
        sizes = "data size" if len(errors) == 1 else "data sizes"
        where = "" if used.all() else " before more data raise its error"
        fewest = FORMS["pow2"].min_sizes
        return f"{label(reference)} has {len(errors)} {sizes}{where}, and the smallest form needs {fewest}."
    fall = errors[0] - errors.min()
    if fall < MIN_FALL:
        falls = f"the error of {label(reference)} falls by {100 * max(fall, 0.0):.1f} pp"
        return f"{falls} over all its sizes, and without a slope no amount of data corresponds to an error."
    return None


def fit_curve_of(outcomes: Cells, reference: str, used: np.ndarray, base_error: float | None) -> tuple[Fit, Design]:
    """The reference's own curve, which figures draw, in the form of smallest QAICc."""
    own = outcomes.part([reference])
    errors = np.where(used[outcomes.cells_of(reference)], own.errors, np.nan)
    design = design_of(own, [reference], errors)
    forms = candidates(int((~np.isnan(errors)).sum()), base_error, float(np.nanmin(errors)))
    fits = [fit_point(design, errors, form, "H0") for form in forms]
    return by_qaicc(fits, int((~np.isnan(errors)).sum()))[0][1], design


def fit_model(
    outcomes: Cells, names: tuple[str, str], draws: np.ndarray, used: np.ndarray, base_error: float | None = None
) -> tuple[Model | None, str | None]:
    """The model, or why there is none.

    outcomes: of the two names alone, the reference first; draws: [B, P]; used: bool [P], cells to fit; base_error: the
    error without data, where known.
    """
    errors, draws = np.where(used, outcomes.errors, np.nan), np.where(used, draws, np.nan)
    design = design_of(outcomes, names, errors)
    num_sizes, num_cells = int(used[design.arm == 0].sum()), int(used.sum())
    forms = candidates(num_sizes, base_error, float(np.nanmin(errors)))
    fits = by_qaicc([fit_point(design, errors, form, "H1") for form in forms], num_cells)
    alike = [fit.form for score, fit in fits if score <= fits[0][0] + SPREAD_QAICC]
    holdout = rolling(design, errors, names, [fit for _, fit in fits])
    chosen = holdout.best_form(alike) if num_sizes >= MIN_SIZES else None
    constant = next(fit for _, fit in fits if chosen is None or fit.form.name == chosen)
    if not constant.converged[0]:
        return None, f"the fit of {constant.form.name} did not converge."
    varying = fit_point(design, errors, constant.form, "H2")
    varying_draws = fit_replicates(design, draws, varying)
    model = Model(
        names[1],
        outcomes,
        design,
        errors,
        draws,
        "QAICc" if chosen is None else "hold-out",
        constant,
        fit_replicates(design, draws, constant),
        varying,
        varying_draws,
        lack_of_fit(design, errors, draws, constant),
        lack_of_fit(design, errors, draws, varying),
        tuple(FormScore(fit.form.name, score, float(np.exp(fit.log_multiplier(_ARM)[0]))) for score, fit in fits),
        _slopes(design, errors, draws, varying, varying_draws, forms, alike),
        holdout,
        hold_out_headline(design, errors, draws, constant, _ARM, names[1]),
        band(design, errors, varying, varying_draws, names[1]),
    )
    return model, None


def candidates(num_sizes: int, base_error: float | None, smallest: float) -> list[Form]:
    """The forms that so many sizes allow; m4 with the known error without data, unless the data contradict it."""
    forms = dict(FORMS)
    if base_error is not None and base_error > smallest:
        forms["m4"] = m4(base_error)
    return [form for form in forms.values() if form.min_sizes <= num_sizes]


def _slopes(
    design: Design,
    errors: np.ndarray,
    draws: np.ndarray,
    varying: Fit,
    varying_draws: Fit,
    forms: Sequence[Form],
    alike: Sequence[Form],
) -> tuple[Slope, ...]:
    """Under the chosen form; if that excludes 0, also under all that fit about as well, with one m or a varying one.

    The others are needed because a form may lack something that the curve has, such as a floor. The slope then absorbs
    what the form lacks.
    """
    chosen = _slope(varying, varying_draws)
    if chosen.low <= 0 <= chosen.high:
        return (chosen,)
    others = [fit_point(design, errors, form, "H2") for form in forms if form.name != varying.form.name]
    scored = by_qaicc([varying, *others], int((~np.isnan(errors)).sum()))
    as_well = {form.name for form in alike} | {
        fit.form.name for score, fit in scored if score <= scored[0][0] + SPREAD_QAICC
    }
    tried = [fit for _, fit in scored if fit.form.name in as_well - {chosen.form}]
    return (chosen, *(_slope(fit, fit_replicates(design, draws[:NUM_REPLICATES], fit)) for fit in tried))


def _slope(point: Fit, replicates: Fit) -> Slope:
    return Slope(point.form.name, float(point.delta(_ARM)[0]), *percentile_interval(replicates.delta(_ARM)))
