"""The report's text: conclusions first, then figures, tables, the chosen settings, the costs and the provenance.

In: finished tables and studies. Out: `Section`s. Every number carries its n, its interval and its form.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.plots import figure_suffix
from analysis.rendering import Grid, Section, picture
from analysis.study import Study
from analysis.tables import Tables
from analysis.verdicts import label, number
from scaling.config import Sweep
from scaling.plan import Plan


@dataclass(frozen=True)
class Story:
    """What there is to tell."""

    file: Path
    sweep: Sweep
    plan: Plan
    tables: Tables
    costs: pd.DataFrame
    studies: dict[str, Study]


def sections(story: Story, directory: Path) -> list[Section]:
    """The report, in order. Figures are read from `directory`/figures."""
    parts = [_conclusions(story)]
    for panel, study in story.studies.items():
        parts += [_figures(story, panel, study, directory), _errors(panel, study), _multipliers(panel, study)]
    return [*parts, _settings(story), _costs(story), _runs(story), _provenance(story)]


def _conclusions(story: Story) -> Section:
    bullets = []
    for panel, study in story.studies.items():
        where = f"[{panel}] " if panel else ""
        for item in study.verdicts:
            claim = f" {item.claim_sentence}" if item.claim_sentence else ""
            bullets.append(f"{where}{item.sentence}{claim} ({item.code})")
    paragraphs = [story.sweep.question]
    if story.sweep.expectation:
        paragraphs.append(f"Expected before the run: {story.sweep.expectation}")
    paragraphs.append(_missing_sentence(story.tables))
    paragraphs += [
        f"Falling with data, {label(study.reference)}: {text}"
        for study in story.studies.values()
        if (text := _fall_sentence(study))
    ]
    return Section("", tuple(paragraphs), tuple(bullets))


def _missing_sentence(tables: Tables) -> str:
    total = len(tables.runs)
    done = total - tables.num_missing - tables.num_failed
    if done == total:
        return f"All {total} runs are in."
    return (
        f"{done} of {total} runs are in; {tables.num_failed} failed and {tables.num_missing} are missing. Cells with"
        " fewer runs have wider intervals; no number stands in for a missing run."
    )


def _fall_sentence(study: Study) -> str:
    """Whether the reference's error falls beyond its intervals from the smallest size to the largest."""
    if study.error_low is None or study.error_high is None or study.reference not in study.outcomes.algorithms:
        return ""
    cells = study.outcomes.cells_of(study.reference)
    first, last = cells[0], cells[-1]
    errors, low, high = study.outcomes.errors, study.error_low, study.error_high
    beyond = "beyond its intervals" if high[last] < low[first] else "not beyond its intervals"
    return (
        f"its test error goes from {_interval(errors[first], low[first], high[first])} at D ="
        f" {study.outcomes.data_size[first]:,} to {_interval(errors[last], low[last], high[last])} at D ="
        f" {study.outcomes.data_size[last]:,}, {beyond}."
    )


def _figures(story: Story, panel: str, study: Study, directory: Path) -> Section:
    outcomes = study.outcomes
    base = (
        f"n = {outcomes.num_problems:,} test problems, {len(outcomes.seeds)} seeds"
        + (f", {outcomes.num_missing} runs missing" if outcomes.num_missing else "")
        + "; bars: 95 % crossed bootstrap over seeds and problems"
    )
    model = study.model
    if model is None:
        line = "lines join the means"
    else:
        line = f"lines: joint fit of {model.constant.form.formula}, x = m D / D0"
    captions = {
        "error": f"Test error (greedy) against unique synthetic problems; small dots are runs. {base}; {line}. "
        "RFT, DPO and per-step DPO use extra samples of the SFT policy for each problem.",
        "collapsed": "The same cells at m D: where one multiplier describes an algorithm, they lie on the reference's"
        " curve; dashed beyond the reference's data.",
        "multiplier": f"Multiplier by data size: how many times more {label(study.reference)} problems reach the same"
        " error, from the isotonic reference; open arrows: the interval leaves the reference's range. Lines and bands:"
        " one multiplier for all sizes, from the joint fit.",
    }
    shown = []
    for name, caption in captions.items():
        file = f"figures/{name}{figure_suffix(panel)}.png"
        if (directory / file).exists():
            shown.append(picture(directory, file, caption))
    return Section(f"Figures{_of(panel)}", figures=tuple(shown))


def _errors(panel: str, study: Study) -> Section:
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
            text = _interval(outcomes.errors[cell], low, high)
            count = int(outcomes.present[cell].sum())
            row.append(text if count == len(outcomes.seeds) else f"{text}, {count} runs")
        rows.append(tuple(row))
    columns = ("algorithm", *(f"D = {size:,}" for size in sizes))
    note = "Percent of test problems wrong, greedy, mean over seeds, with the 95 % crossed bootstrap interval."
    return Section(f"Test error{_of(panel)}", tables=(Grid(columns, tuple(rows), note),))


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
                ", ".join(f"{score.form} {number(score.multipliers[name])}" for score in model.scores),
                reach,
            )
        )
    columns = (
        "algorithm",
        "m",
        "95 % crossed",
        "95 % two-way",
        "form-free mean",
        "slope of log m",
        "m by form",
        "extrapolation",
    )
    fit = model.constant
    parameters = ", ".join(
        f"{key} = {value:.3g}" for key, value in fit.form.natural(fit.theta[0], model.design.c_max).items()
    )
    note = (
        f"m: times more {label(study.reference)} problems for the same error, one number for all sizes (joint fit of"
        f" {fit.form.formula}, chosen by QAICc; {parameters}; lack of fit p = {model.lack_of_fit:.2f}, with"
        f" a multiplier that varies {model.lack_of_fit_varying:.2f}"
        f"; {fit.num_agree} of {fit.num_starts} starts agree). Crossed intervals are conservative, two-way ones about"
        " nominal. Extrapolation: how far beyond the reference's largest size m reaches; 'inside' needs none."
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


def _settings(story: Story) -> Section:
    choices = story.tables.choices
    if choices.empty:
        return Section("Settings", ("All settings are fixed in the sweep file; nothing was selected.",))
    rows = []
    for (algorithm, size), group in choices.groupby(["algorithm", "data_size"], sort=False):
        chosen = group[group["chosen"]]
        rows.append(
            (
                label(str(algorithm)),
                f"{size:,}",
                chosen["settings"].iloc[0] + (" (at an end)" if chosen["at_edge"].iloc[0] else "")
                if len(chosen)
                else "open",
                f"{100 * chosen['validation_error'].iloc[0]:.1f}" if len(chosen) else "-",
                "; ".join(
                    f"{row.settings}: {100 * row.validation_error:.1f}"
                    if pd.notna(row.validation_error)
                    else row.settings
                    for row in group.itertuples()
                ),
            )
        )
    seeds = ", ".join(map(str, story.sweep.select.seeds)) if story.sweep.select else ""
    note = (
        f"Chosen by mean error on the validation problems, on seeds of their own ({seeds}); the test problems are never"
        " looked at. '(at an end)': the best candidate is the first or last one, so a better one may lie beyond."
    )
    columns = ("algorithm", "D", "chosen", "validation error (%)", "candidates")
    return Section("Chosen settings", tables=(Grid(columns, tuple(rows), note),))


def _costs(story: Story) -> Section:
    rows = []
    for row in story.costs.itertuples():
        name = label(row.algorithm) if isinstance(row.algorithm, str) else "-"
        size = f"{int(row.data_size):,}" if pd.notna(row.data_size) else "-"
        flops = [f"{value:.2e}" for value in (row.training_flops, row.generation_flops, row.evaluation_flops)]
        rows.append((f"{row.part}: {name}", size, str(row.num_runs), *flops, f"{row.wall_seconds:.1f}"))
    columns = ("part", "D", "runs", "training FLOPs", "generation FLOPs", "evaluation FLOPs", "seconds")
    note = (
        "run: mean cost of one run with everything it needs but the base policy, shared stages included. search: stages"
        " that only selection needs. total: the whole sweep, each stage once. FLOPs are analytic; seconds are those of"
        " one worker."
    )
    return Section("Costs", tables=(Grid(columns, tuple(rows), note),))


def _runs(story: Story) -> Section:
    failures = story.tables.runs[story.tables.runs["status"] != "done"]
    if failures.empty:
        return Section("Runs", ("Every run of the grid finished; runs.csv has a row for each.",))
    rows = tuple(
        (label(row.algorithm), f"{row.data_size:,}", str(row.seed), row.status, str(getattr(row, "failure", "") or "-"))
        for row in failures.itertuples()
    )
    return Section("Runs that are not in", tables=(Grid(("algorithm", "D", "seed", "status", "failure"), rows),))


def _provenance(story: Story) -> Section:
    origin = story.tables.provenance
    bullets = [f"{name}: {', '.join(values) if values else 'not recorded'}" for name, values in origin.items()]
    bullets.append(f"regenerate: python -m analysis.report {story.file}")
    return Section("Provenance", bullets=tuple(bullets))


def _interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _of(panel: str) -> str:
    return f", {panel}" if panel else ""
