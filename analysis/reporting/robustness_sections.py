"""The report's part on whether to believe the multipliers: hierarchy, hold-out, other ways of fitting, contrasts.

In: a `Study`. Out: `Section`s with tables of finished numbers; none where there is no joint fit.
"""

from analysis.multipliers.hierarchy import NUM_REPLICATES
from analysis.multipliers.model import SPREAD_QAICC, Model
from analysis.multipliers.robustness import spread
from analysis.page.rendering import Grid, Section
from analysis.verdicts.judge import label, number
from analysis.verdicts.study import Study

_MODELS = {
    "H0": "one curve for all",
    "H1": "a constant multiplier each",
    "H2": "multipliers that change with D",
    "H3": "a floor of each algorithm's own",
    "H4": "separate curves",
}


def captions_of(interval: str) -> dict[str, str]:
    """Figure -> caption. interval: what was resampled."""
    return {
        "holdout": "Error minus prediction for the largest sizes, left out of the fit, by form. Filled: one size left"
        " out of every algorithm; open: two. last1 repeats the last error seen.",
        "density": f"Bootstrap draws of each multiplier (joint fit), smoothed: {interval}. Dotted: the claims.",
        "spread": "The multiplier in every way of fitting. Thick: the headline with its 95 % bootstrap interval; thin"
        " above: two-way; below: other forms, other losses and the smallest size left out; then the form-free mean.",
        "residual": "Error minus the joint fit, with the error's 95 % interval. A trend within an algorithm means that"
        " no one multiplier describes it; open marks lie beyond a turning point and were not fitted.",
    }


def question_sections(panel: str, study: Study) -> list[Section]:
    """One section, with a table for each question; the multipliers' own table comes before."""
    model = study.model
    if model is None or len(model.arms) < 2:
        return []
    tables = (_hierarchy(model), _holdout(model), _held_out(model), _ways(model), _contrasts(model))
    paragraphs = []
    if study.best_so_far:
        paragraphs.append(
            f"More data made {label(study.reference)} worse, so it counts with the best error of at most D problems."
        )
    title = f"Can the multipliers be believed?{f', {panel}' if panel else ''}"
    return [Section(title, tuple(paragraphs), tables=tables)]


def _hierarchy(model: Model) -> Grid:
    rows = tuple(
        (
            f"{item.smaller}, {_MODELS[item.smaller]}",
            f"{item.larger}, {_MODELS[item.larger]}",
            f"{item.statistic:.2f}",
            str(item.num_added),
            _p(item.p, NUM_REPLICATES, 3),
        )
        for item in model.comparisons
    )
    note = (
        f"Does a larger model describe the curves better? Quasi-F on {model.constant.form.formula}; p from"
        f" {NUM_REPLICATES} replicates recentred on the smaller model. Lack of fit of H1: p = {model.lack_of_fit:.2f}."
    )
    return Grid(("smaller model", "larger model", "quasi-F", "added", "p"), rows, note)


def _holdout(model: Model) -> Grid:
    rows = tuple(
        (item.form, str(item.num_dropped), str(item.num_cells), f"{item.log_score:.5f}", f"{item.rmsle:.3f}")
        for item in model.holdout.scores
    )
    note = (
        "Largest sizes of every algorithm predicted from the rest. Log score: mean log likelihood of a held-out"
        f" outcome, higher is better; RMSLE: root mean square of log ratios. The form was chosen by {model.selection}."
    )
    return Grid(("form", "sizes left out", "cells", "log score", "RMSLE"), rows, note)


def _held_out(model: Model) -> Grid:
    rows = tuple(
        (
            label(item.algorithm),
            f"{item.data_size:,}",
            f"{100 * item.predicted:.1f} ({100 * item.low:.1f} to {100 * item.high:.1f})",
            f"{100 * item.observed:.1f}",
            "inside" if item.passed else "outside",
        )
        for item in model.held_out
    )
    note = (
        "One multiplier, fitted without an algorithm's largest size, predicts its error there in percent; the 95 %"
        " interval is that of the fit, new runs and problems together."
    )
    return Grid(("algorithm", "D left out", "predicted", "observed", ""), rows, note)


def _ways(model: Model) -> Grid:
    columns = [item.name for item in model.variants]
    num_alike = sum(item.qaicc <= model.scores[0].qaicc + SPREAD_QAICC for item in model.scores)
    rows = []
    for name in model.arms[1:]:
        ways = [number(item.multipliers[name]) for item in model.variants]
        low, high = spread(model.variants, name)
        form_low, form_high = model.form_spread(name)
        over_forms = f"{number(form_low)} to {number(form_high)}" if num_alike > 1 else "one form only"
        ranges = (f"{number(low)} to {number(high)}", over_forms)
        rows.append((label(name), *ways, *ranges))
    note = "m fitted otherwise; never the headline. Forms: those within 4 of the best QAICc, and the chosen one."
    return Grid(("algorithm", *columns, "range", "range over forms"), tuple(rows), note)


def _contrasts(model: Model) -> Grid:
    num_draws = len(model.constant_draws.theta)
    rows = [
        (f"{label(item.algorithm)}: m > 1", "", "", _p(item.p, num_draws, 4), _p(item.p_holm, num_draws, 4))
        for item in model.more_than_one
    ]
    rows += [
        (
            f"{label(item.numerator)} over {label(item.denominator)}",
            number(item.estimate),
            f"{number(item.low)} to {number(item.high)}",
            "",
            "",
        )
        for item in model.ratios
    ]
    note = "Ratios of multipliers come from the same bootstrap draws; p by Holm is adjusted for all algorithms."
    return Grid(("contrast", "ratio", "95 % interval", "p", "p by Holm"), tuple(rows), note)


def _p(value: float, num_replicates: int, digits: int) -> str:
    """A p value; where no replicate was as extreme, as the bound that so many of them give."""
    bound = "<= " if value <= 1.001 / (num_replicates + 1) else ""
    return f"{bound}{value:.{digits}f}"
