"""The report's part on how far to trust the multipliers: hierarchy, hold-out, other ways of fitting, contrasts.

In: a `Panel`. Out: `Section`s with tables of finished numbers; empty without a joint fit.
"""

from analysis.multipliers.hierarchy import NUM_REPLICATES
from analysis.multipliers.model import SPREAD_QAICC
from analysis.multipliers.robustness import spread
from analysis.page.rendering import Section, TextTable
from analysis.tables.printing import label
from analysis.verdicts.headline import number
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import Study

_MODELS = {
    "H0": "one curve for all",
    "H1": "a constant multiplier each",
    "H2": "multipliers that change with D",
    "H3": "a floor for each algorithm",
    "H4": "separate curves",
}


def captions_of(interval: str) -> dict[str, str]:
    """Figure -> caption. interval: what was resampled."""
    return {
        "holdout": "Error minus prediction at the largest sizes, which the fit left out, by form. Filled: one size left"
        " out of every algorithm; open: two. last1 repeats the last error seen.",
        "density": f"Bootstrap draws of each multiplier (joint fit), smoothed: {interval}. Dotted: the claims.",
        "spread": "The multiplier in every way of fitting. Thick: the headline with its 95 % bootstrap interval;"
        " below: other forms, other losses and the smallest size left out; then the form-free mean.",
        "residual": "Error minus the joint fit, with the error's 95 % interval. A trend within an algorithm means"
        " that no single multiplier describes it; open marks lie beyond a turning point and were not fitted.",
    }


def question_sections(name: str, panel: Panel) -> list[Section]:
    """One section, with a table for each question; the multipliers' own table comes before."""
    study = panel.study
    if not study.models:
        return []
    tables = (_hierarchy(panel), _holdout(study), _held_out(study), _ways(panel), *_contrasts(study))
    paragraphs = []
    if study.best_so_far:
        paragraphs.append(
            f"More data made {label(study.reference)} worse, so its error at D is the best error with at most D"
            " problems."
        )
    title = f"Can the multipliers be believed?{f', {name}' if name else ''}"
    return [Section(title, tuple(paragraphs), tables=tables)]


def _hierarchy(panel: Panel) -> TextTable:
    rows = tuple(
        (
            label(name),
            f"{item.smaller}, {_MODELS[item.smaller]}",
            f"{item.larger}, {_MODELS[item.larger]}",
            f"{item.statistic:.2f}",
            str(item.num_added),
            _p(item.p, NUM_REPLICATES, 3),
        )
        for name, asked in panel.questions.items()
        for item in asked.comparisons
    )
    note = (
        "Does a larger model describe an algorithm and the reference better? Quasi-F; p from"
        f" {NUM_REPLICATES} replicates recentred on the smaller model."
    )
    return TextTable(("algorithm", "smaller model", "larger model", "quasi-F", "added", "p"), rows, note)


def _holdout(study: Study) -> TextTable:
    rows = tuple(
        (
            label(name),
            item.form,
            str(item.num_dropped),
            str(item.num_cells),
            f"{item.log_score:.5f}",
            f"{item.rmsle:.3f}",
        )
        for name, model in study.models.items()
        for item in model.holdout.scores
    )
    note = (
        "The largest sizes of an algorithm and of the reference, predicted from the rest. Log score: mean log"
        " likelihood of a held-out outcome, higher is better; RMSLE: root mean square of log ratios."
    )
    return TextTable(("algorithm", "form", "sizes left out", "cells", "log score", "RMSLE"), rows, note)


def _held_out(study: Study) -> TextTable:
    rows = tuple(
        (
            label(item.algorithm),
            f"{item.data_size:,}",
            f"{100 * item.predicted:.1f} ({100 * item.low:.1f} to {100 * item.high:.1f})",
            f"{100 * item.observed:.1f}",
            "inside" if item.passed else "outside",
        )
        for item in (model.held_out for model in study.models.values())
        if item is not None
    )
    note = (
        "One multiplier, fitted without an algorithm's largest size, predicts its error there in percent; the 97.5 %"
        " interval covers the fit, new runs and new problems together."
    )
    return TextTable(("algorithm", "D left out", "predicted", "observed", ""), rows, note)


def _ways(panel: Panel) -> TextTable:
    rows, columns = [], []
    for name, model in panel.study.models.items():
        found = panel.questions[name].variants
        columns = [item.name for item in found]
        alike = sum(item.qaicc <= model.scores[0].qaicc + SPREAD_QAICC for item in model.scores)
        over_forms = " to ".join(map(number, model.form_spread)) if alike > 1 else "one form only"
        ways = [number(item.multiplier) for item in found]
        rows.append((label(name), *ways, " to ".join(map(number, spread(found))), over_forms))
    note = (
        "m from other ways of fitting; never the headline. Forms: those within 4 of the best QAICc, and the chosen one."
    )
    return TextTable(("algorithm", *columns, "range", "range over forms"), tuple(rows), note)


def _contrasts(study: Study) -> list[TextTable]:
    num_draws = len(next(iter(study.models.values())).draws)
    tests = tuple(
        (
            label(item.algorithm),
            *(_p(value, num_draws / 2, 4) for value in (item.p, item.p_holm, item.slope_p, item.slope_p_holm)),
        )
        for item in study.adjusted
    )
    note = (
        f"Two-sided p of m = 1 and of a slope of 0, unadjusted and by Holm for {len(tests)} algorithms. Verdicts"
        " use neither; the conclusions warn if a verdict does not survive the adjustment."
    )
    columns = ("algorithm", "m = 1: p", "p by Holm", "slope = 0: p", "p by Holm")
    ratios = tuple(
        (
            f"{label(item.numerator)} over {label(item.denominator)}",
            number(item.estimate),
            f"{number(item.low)} to {number(item.high)}",
        )
        for item in study.ratios
    )
    found = [TextTable(columns, tests, note)]
    if ratios:
        shared = "Ratios of multipliers come from the same bootstrap draws of problems and of the reference's runs."
        found.append(TextTable(("ratio", "estimate", "95 % interval"), ratios, shared))
    return found


def _p(value: float, num_replicates: float, digits: int) -> str:
    """A p value; if no replicate was as extreme, the bound that their number gives."""
    bound = "<= " if value <= 1.001 / (num_replicates + 1) else ""
    return f"{bound}{value:.{digits}f}"
