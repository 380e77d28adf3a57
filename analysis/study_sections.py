"""The report's part on one study: its figures, its errors, its multipliers.

In: a `Study` and the tables it was made of. Out: `Section`s; every number carries its n, its interval and its form.
"""

from collections.abc import Sequence
from pathlib import Path

from analysis.plots import figure_suffix
from analysis.question_sections import CAPTIONS, question_sections
from analysis.rendering import Grid, Section, picture
from analysis.study import Study
from analysis.verdicts import label, number
from analysis.wording import Wording, interval_kind, is_paired, sample_size


def study_sections(
    panel: str, study: Study, directory: Path, wording: Wording, more_tables: Sequence[Grid] = ()
) -> list[Section]:
    """Figures, errors and multipliers. Figures are read from `directory`/figures; more_tables stand by the errors."""
    errors = Section(f"Test error{_of(panel)}", tables=(_errors(study, wording), *more_tables))
    parts = [_figures(panel, study, directory, wording), errors, _multipliers(panel, study)]
    return [*parts, *question_sections(panel, study)]


def verdict_bullets(panel: str, study: Study) -> list[str]:
    """One conclusion an algorithm, with its claim and code."""
    where = f"[{panel}] " if panel else ""
    return [
        f"{where}{item.sentence}{f' {item.claim_sentence}' if item.claim_sentence else ''} ({item.code})"
        for item in study.verdicts
    ]


def percent(value: float, low: float | None, high: float | None) -> str:
    """A fraction in percent, with its limits."""
    if low is None or high is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _figures(panel: str, study: Study, directory: Path, wording: Wording) -> Section:
    outcomes = study.outcomes
    base = sample_size(outcomes)
    if study.error_low is not None:
        base += f"; bars: 95 % {interval_kind(outcomes)}"
    model = study.model
    if model is None:
        line = "lines join the means"
    else:
        line = f"lines: joint fit of {model.constant.form.formula}, x = m D / D0"
    captions = {
        "error": f"{wording.error_title} against {wording.size_definition}; small dots are runs. {base}; {line}."
        + wording.caution,
        "collapsed": "The same cells at m D: where one multiplier describes an algorithm, they lie on the reference's"
        " curve; dashed beyond the reference's data.",
        "multiplier": f"Multiplier by data size: how many times more {label(study.reference)} problems reach the same"
        " error, from the isotonic reference; open arrows: the interval leaves the reference's range. Lines and bands:"
        " one multiplier for all sizes, from the joint fit.",
    } | CAPTIONS
    shown = []
    for name, caption in captions.items():
        file = f"figures/{name}{figure_suffix(panel)}.png"
        if (directory / file).exists():
            shown.append(picture(directory, file, caption))
    return Section(f"Figures{_of(panel)}", figures=tuple(shown))


def _errors(study: Study, wording: Wording) -> Grid:
    outcomes = study.outcomes
    sizes = sorted(set(outcomes.data_size.tolist()))
    rows = []
    for name in outcomes.algorithms:
        cells = {int(outcomes.data_size[cell]): cell for cell in outcomes.cells_of(name)}
        row = [label(name)]
        for size in sizes:
            if size not in cells:
                row.append("-")
                continue
            cell = cells[size]
            low, high = (
                (study.error_low[cell], study.error_high[cell])
                if study.error_low is not None and study.error_high is not None
                else (None, None)
            )
            text = percent(outcomes.errors[cell], low, high)
            count = int(outcomes.present[cell].sum())
            row.append(text if count == len(outcomes.seeds) else f"{text}, {count} runs")
        rows.append(tuple(row))
    columns = ("algorithm", *(f"D = {size:,}" for size in sizes))
    note = f"{wording.error_title} in percent of the test problems, mean over seeds"
    note += f", with the 95 % interval by {interval_kind(outcomes)}." if study.error_low is not None else "."
    return Grid(columns, tuple(rows), note)


def _multipliers(panel: str, study: Study) -> Section:
    title = f"Multipliers{_of(panel)}"
    if study.model is None:
        return Section(title, (f"None: {study.refusal}",))
    model = study.model
    rows = []
    means = {item.algorithm: item for item in study.multipliers if item.kind == "mean"}
    for name in model.arms[1:]:
        m = study.overall(name)
        assert m is not None
        mean = means.get(name)
        low, high = model.two_way[name]
        delta_low, delta_high = model.delta_interval(model.arm(name))
        reach = f"{number(m.extrapolation)}" if m.extrapolation > 1 else "inside"
        rows.append(
            (
                label(name),
                number(m.estimate),
                f"{number(m.low)} to {number(m.high)}",
                f"{number(low)} to {number(high)}",
                f"{number(mean.estimate)} ({number(mean.low)} to {number(mean.high)})" if mean else "no size in range",
                f"{delta_low:+.2f} to {delta_high:+.2f}",
                "; ".join(
                    f"{score.form} {number(score.multipliers[name])}, {score.qaicc - model.scores[0].qaicc:.0f}"
                    for score in model.scores
                ),
                reach,
            )
        )
    columns = (
        "algorithm",
        "m",
        "95 % crossed" if is_paired(study.outcomes) else "95 % unpaired",
        "95 % two-way",
        "form-free mean",
        "slope of log m",
        "m by form, QAICc over the best",
        "extrapolation",
    )
    fit = model.constant
    parameters = ", ".join(
        f"{key} = {value:.3g}" for key, value in fit.form.natural(fit.theta[0], model.design.c_max).items()
    )
    note = (
        f"m: times more {label(study.reference)} problems for the same error, one number for all sizes (joint fit of"
        f" {fit.form.formula}, chosen by {model.selection}; {parameters}; lack of fit p = {model.lack_of_fit:.2f}, with"
        f" a multiplier that varies {model.lack_of_fit_varying:.2f}"
        f"; {fit.num_agree} of {fit.num_starts} starts agree). Crossed intervals are conservative, two-way ones a"
        " little below nominal (docs/coverage.md)."
        " Extrapolation: how far beyond the reference's largest size m reaches; 'inside' needs none."
    )
    by_size = []
    for item in study.multipliers:
        if item.kind == "pointwise":
            by_size.append(
                (label(item.algorithm), f"{item.data_size:,}", *_pointwise(item.estimate, item.low, item.high, item))
            )
    by_size_columns = ("algorithm", "D", "m(D)", "95 % interval", "supported bound")
    second = Grid(
        by_size_columns,
        tuple(by_size),
        "From the isotonic reference, without a form. 'above range': the algorithm's error is below every one of the"
        " reference; 'below range': above every one.",
    )
    return Section(title, tables=(Grid(columns, tuple(rows), note), second))


def _pointwise(estimate: float, low: float, high: float, item) -> tuple[str, str, str]:
    shown = "above range" if estimate == float("inf") else "below range" if estimate == 0 else number(estimate)
    left = "below range" if low == 0 else "above range" if low == float("inf") else number(low)
    right = "above range" if high == float("inf") else "below range" if high == 0 else number(high)
    bound = f">= {number(item.at_least)}" if item.right_censored > 0 else "-"
    return shown, left if left == right else f"{left} to {right}", bound


def _of(panel: str) -> str:
    return f", {panel}" if panel else ""
