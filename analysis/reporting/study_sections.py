"""The report's part on one study: its figures, its errors, its multipliers.

In: a `Study` and the tables it was made of. Out: `Section`s; every number carries its n, its interval and its form.
"""

from collections.abc import Sequence
from pathlib import Path

from analysis.figures.headline import figure_suffix
from analysis.page.rendering import Grid, Section, picture
from analysis.page.wording import Wording, interval_kind, is_paired, sample_size
from analysis.reporting.conclusions import verdict_table
from analysis.reporting.robustness_sections import captions_of, question_sections
from analysis.verdicts.judge import label, number
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import Study


def study_sections(
    name: str, panel: Panel, directory: Path, wording: Wording, more_tables: Sequence[Grid] = ()
) -> list[Section]:
    """Figures, errors and multipliers. Figures are read from `directory`/figures; more_tables stand by the errors."""
    study = panel.study
    verdicts = Section(f"Verdicts{_of(name)}", tables=(verdict_table(panel),))
    errors = Section(f"Test error{_of(name)}", tables=(_errors(study, wording), *more_tables))
    parts = [_figures(name, study, directory, wording), verdicts, errors, _multipliers(name, panel)]
    return [*parts, *question_sections(name, study)]


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
    model = study.described
    if model is None:
        line = "lines join the means"
        multipliers = " No one multiplier describes the curves: the legend has the means over sizes, without a form."
    else:
        line = f"lines: joint fit of {model.constant.form.formula}, x = m D / D0"
        multipliers = " Lines and bands: one multiplier for all sizes, from the joint fit."
    if study.varying is not None:
        multipliers += " Dashed: one that may change with D, with limits for all sizes at once."
    captions = {
        "error": f"{wording.error_title} against {wording.size_definition}; small dots are runs. {base}; {line}."
        + (wording.caution if len(outcomes.algorithms) > 1 else ""),
        "collapsed": "The same cells at m D: where one multiplier describes an algorithm, they lie on the reference's"
        " curve; dashed beyond the reference's data.",
        "multiplier": f"Multiplier by data size: how many times more {label(study.reference)} problems reach the same"
        f" error, from the isotonic reference; arrows: the interval leaves the reference's range.{multipliers}",
        "compute": "Error against the FLOPs of one run: training and generation (rollouts and continuations) of"
        " everything that it needs but the base policy and the evaluation, at the settings selected for each size."
        " Numbers: D of the reference's runs.",
    } | captions_of(interval_kind(outcomes))
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


def _multipliers(name: str, panel: Panel) -> Section:
    title, study = f"Multipliers{_of(name)}", panel.study
    if study.model is None:
        return Section(title, (f"None: {study.refusal}",))
    model = study.model
    rows = []
    means = {item.algorithm: item for item in study.multipliers if item.kind == "mean"}
    for algorithm in model.arms[1:]:
        m = study.overall(algorithm)
        assert m is not None
        mean = means.get(algorithm)
        low, high = model.two_way[algorithm]
        delta_low, delta_high = model.delta_interval(model.arm(algorithm))
        reach = f"{number(m.extrapolation)}" if m.extrapolation > 1 else "inside"
        rows.append(
            (
                label(algorithm),
                number(m.estimate),
                f"{number(m.low)} to {number(m.high)}",
                f"{number(low)} to {number(high)}",
                f"{number(mean.estimate)} ({number(mean.low)} to {number(mean.high)})" if mean else "no size in range",
                f"{delta_low:+.2f} to {delta_high:+.2f}",
                "; ".join(
                    f"{score.form} {number(score.multipliers[algorithm])}, {score.qaicc - model.scores[0].qaicc:.0f}"
                    for score in model.scores
                ),
                reach,
            )
        )
    columns = (
        "algorithm",
        "m",
        f"95 % {_short(study)}",
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
        f"; {fit.num_agree} of {fit.num_starts} starts agree). {_short(study).capitalize()} intervals are conservative,"
        " two-way ones a little below nominal (docs/coverage.md)."
        " Extrapolation: how far beyond the reference's largest size m reaches; 'inside' needs none."
    )
    return Section(title, tables=(Grid(columns, tuple(rows), note), _by_size(panel)))


def _by_size(panel: Panel) -> Grid:
    per_flop = {(item.algorithm, item.data_size): item for item in panel.compute if item.kind == "pointwise"}
    rows = []
    for item in panel.study.multipliers:
        if item.kind == "pointwise":
            bound = f">= {number(item.at_least)}" if item.right_censored > 0 else "-"
            row = [label(item.algorithm), f"{item.data_size:,}", *_limits(item.estimate, item.low, item.high), bound]
            if per_flop:
                compute = per_flop[item.algorithm, item.data_size]
                row += [f"{compute.flops:.2e}", *_limits(compute.estimate, compute.low, compute.high)]
            rows.append(tuple(row))
    columns = ("algorithm", "D", "m(D)", "95 % interval", "supported bound")
    if per_flop:
        columns += ("FLOPs of a run", "m per FLOP", "95 % interval")
    note = (
        "From the isotonic reference, without a form. 'above range': the algorithm's error is below every one of the"
        " reference; 'below range': above every one."
    )
    return Grid(columns, tuple(rows), note)


def _limits(estimate: float, low: float, high: float) -> tuple[str, str]:
    shown = "above range" if estimate == float("inf") else "below range" if estimate == 0 else number(estimate)
    left = "below range" if low == 0 else "above range" if low == float("inf") else number(low)
    right = "above range" if high == float("inf") else "below range" if high == 0 else number(high)
    return shown, left if left == right else f"{left} to {right}"


def _short(study: Study) -> str:
    return "crossed" if is_paired(study.outcomes) else "unpaired"


def _of(panel: str) -> str:
    return f", {panel}" if panel else ""
