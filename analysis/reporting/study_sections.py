"""The report's part on one study: its figures, its errors, its multipliers.

In: a `Study` and the tables it was made from. Out: `Section`s; every number carries its n, its interval and its form.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.figures.overview import error_table, figure_suffix, has_arrows
from analysis.multipliers.prediction import Predicted
from analysis.page.parts import Parts
from analysis.page.rendering import Section, TextTable, picture
from analysis.page.wording import Wording, interval_kind, sample_size
from analysis.reporting.conclusions import verdict_table
from analysis.reporting.robustness_sections import captions_of, question_sections
from analysis.tables.printing import label
from analysis.verdicts.compute import FLOPS
from analysis.verdicts.headline import number
from analysis.verdicts.panel import Panel, equivalence
from analysis.verdicts.study import Study

_FIRST_FIGURES = ("error", "multiplier")


def main_sections(name: str, panel: Panel, directory: Path, wording: Wording, parts: Parts) -> list[Section]:
    """What a reader sees first: the figures of errors and multipliers, and the verdicts."""
    of = _of(name)
    found = parts.made(f"Figures{of}", _figures, name, panel, directory, wording, _FIRST_FIGURES, "Figures")
    with parts.part(f"Verdicts{of}"):
        found.append(Section(f"Verdicts{of}", tables=(verdict_table(panel),)))
    return found


def study_sections(
    name: str, panel: Panel, directory: Path, wording: Wording, parts: Parts, more_tables: Sequence[TextTable] = ()
) -> list[Section]:
    """Errors, multipliers, and the other figures, from `directory`/figures; more_tables follow the errors."""
    found, of = list[Section](), _of(name)
    with parts.part(f"Test error{of}"):
        found.append(Section(f"Test error{of}", tables=(_errors(panel.study, wording), *more_tables)))
    found += parts.made(f"Multipliers{of}", _multipliers, name, panel)
    found += parts.made(f"Compute at equal error{of}", _equal_errors, name, panel)
    found += parts.made(f"Algorithms compared with each other{of}", _comparisons, name, panel)
    found += parts.made(f"More figures{of}", _figures, name, panel, directory, wording, None, "More figures")
    return found + parts.made(f"Can the multipliers be believed?{of}", question_sections, name, panel)


def prediction_section(found: Sequence[Predicted], reference: str) -> list[Section]:
    """m at the data sizes that the user asks for, with the m that one new run would show."""
    rows = tuple(
        (
            label(one.algorithm),
            f"{one.data_size:,}",
            f"{number(one.estimate)} ({number(one.low)} to {number(one.high)})",
            f"{number(one.new_run_low)} to {number(one.new_run_high)}",
            "yes" if one.extrapolated else "no",
        )
        for one in found
    )
    note = (
        f"From the joint fit with {label(reference)}: one m for all sizes where it is given, else one that changes with"
        " D; 95 % intervals. Of a new run: with another effect of the run and luck with as many test problems."
        " An algorithm that neither describes is left out. Extrapolated: D or m D lies outside the reference's sizes."
    )
    columns = ("algorithm", "D", "m(D)", "of a new run", "extrapolated")
    return [Section("Multipliers at chosen sizes", tables=(TextTable(columns, rows, note),))]


def paper_tables(panels: Mapping[str, Panel], wording: Wording) -> list[tuple[str, TextTable]]:
    """The tables for a paper, for every panel: errors, verdicts, and multipliers by size."""
    found = []
    for name, panel in panels.items():
        found += [(f"Test error{_of(name)}", _errors(panel.study, wording))]
        found += [(f"Verdicts{_of(name)}", verdict_table(panel))]
        found += [(f"Multipliers{_of(name)}", _by_size(panel))] if panel.study.multipliers else []
    return found


def percent(value: float, low: float | None, high: float | None) -> str:
    """A fraction in percent, with its limits."""
    if low is None or high is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _figures(
    name: str, panel: Panel, directory: Path, wording: Wording, wanted: Sequence[str] | None, title: str
) -> list[Section]:
    """A section with the wanted figures, or with all but the first; empty if no such figure was drawn."""
    study, outcomes = panel.study, panel.study.outcomes
    base = sample_size(outcomes)
    if study.error_low is not None:
        base += f"; bars: 95 % {interval_kind(outcomes)}"
    others = [one for one in outcomes.algorithms if one != study.reference]
    numbers = [one for one in others if study.described(one) is not None]
    line = "lines: joint fits of an algorithm and the reference" if numbers or not others else "lines join the means"
    if 0 < len(numbers) < len(others):
        line += ", where one multiplier describes them; else they join the means"
    multipliers = " Lines and bands: one number for all sizes." if numbers else ""
    if len(numbers) < len(others):
        multipliers += " Where no single number is given, the legend has m at the smallest and the largest size."
    if any(study.verdict(one).code == "VARIES" for one in others):
        multipliers += " Dashed: a multiplier that changes with D, with limits for all sizes at once."
    captions = {
        "error": f"{wording.error_title} against {wording.size_definition}; small dots are runs. {base}; {line}."
        + (" Arrows: m, at equal error from D to the reference's m D." if has_arrows(study) else "")
        + (wording.caution if len(outcomes.algorithms) > 1 else ""),
        "collapsed": "The same cells at m D: if one multiplier describes an algorithm, they lie on the reference's"
        " curve; dashed beyond the reference's data.",
        "multiplier": f"Multiplier by data size: how many times more {label(study.reference)} problems reach the same"
        f" error, from the isotonic reference; arrows: the interval leaves the reference's range.{multipliers}",
        "compute": "Error against the FLOPs of one run: training and generation (rollouts and continuations) of"
        " everything that it needs except the base policy and the evaluation, at the settings selected for each size."
        " Numbers: D of the reference's runs. Grey: the Pareto front, cells that no other beats in error for as few"
        " FLOPs." + (f" Each problem costs {panel.problem_flops:g} FLOPs." if panel.problem_flops else ""),
    } | captions_of(interval_kind(outcomes))
    shown = []
    for figure, caption in captions.items():
        file = f"figures/{figure}{figure_suffix(name)}.png"
        is_wanted = figure not in _FIRST_FIGURES if wanted is None else figure in wanted
        if is_wanted and (directory / file).exists():
            shown.append(picture(directory, file, caption))
    return [Section(f"{title}{_of(name)}", figures=tuple(shown))] if shown else []


def _errors(study: Study, wording: Wording) -> TextTable:
    outcomes, shown = study.outcomes, {}
    for cell in error_table(study).itertuples():
        text = percent(cell.error, getattr(cell, "error_low", None), getattr(cell, "error_high", None))
        few = "" if cell.num_runs == len(outcomes.seeds) else f", {cell.num_runs} runs"
        shown[cell.algorithm, cell.data_size] = text + few
    sizes = sorted(set(outcomes.data_size.tolist()))
    rows = [(label(name), *(shown.get((name, size), "-") for size in sizes)) for name in outcomes.algorithms]
    columns = ("algorithm", *(f"D = {size:,}" for size in sizes))
    note = f"{wording.error_title} in percent of the test problems, mean over seeds"
    note += f", with the 95 % interval by {interval_kind(outcomes)}." if study.error_low is not None else "."
    return TextTable(columns, tuple(rows), note)


def _multipliers(name: str, panel: Panel) -> list[Section]:
    title, study = f"Multipliers{_of(name)}", panel.study
    reason = (f"No joint fit: {study.refusal}",) if study.refusal else ()
    tables = ([_joint(study)] if study.models else []) + ([_by_size(panel)] if study.multipliers else [])
    return [Section(title, reason, tables=tuple(tables))] if reason or tables else []


def _equal_errors(name: str, panel: Panel) -> list[Section]:
    """How many times more FLOPs the reference needs, at every budget of the other learners."""
    if not panel.equal_errors:
        return []
    rows = []
    for item in panel.equal_errors:
        shown, limits = _limits(item.estimate, item.low, item.high, "not reached", "less than any budget")
        budget = ("mean", "-") if item.kind == "mean" else (f"{item.flops:.2e}", f"{100 * item.error:.1f}")
        rows.append((label(item.learner), *budget, shown, limits, f"{100 * item.not_reached:.0f}"))
    note = (
        f"How many times more FLOPs of training and generation {label(panel.study.reference)} needs for the same error,"
        " at each budget of a learner: its problems, iterations, rounds and samples alike, by what a run costs. Curves"
        " are isotonic in FLOPs, from runs that were trained to their end at one budget each; intervals redraw whole"
        " runs and problems. 'not reached': no budget of the reference has so small an error. Mean: geometric, over"
        " the budgets within the reference's range."
    )
    columns = ("learner", "FLOPs of a run", "its error (%)", "compute multiplier", "95 % interval", "not reached (%)")
    return [Section(f"Compute at equal error{_of(name)}", tables=(TextTable(columns, tuple(rows), note),))]


def _comparisons(name: str, panel: Panel) -> list[Section]:
    """Two algorithms against each other, the second as the reference."""
    if not panel.comparisons:
        return []
    bullets = [verdict.sentence for study in panel.comparisons for verdict in study.verdicts]
    if panel.equal_within is not None:
        bullets += [equivalence(panel, study, panel.equal_within) for study in panel.comparisons]
    tables = tuple(_by_size(Panel(study)) for study in panel.comparisons if study.multipliers)
    return [Section(f"Algorithms compared with each other{_of(name)}", bullets=tuple(bullets), tables=tables)]


def _joint(study: Study) -> TextTable:
    rows = []
    means = {item.algorithm: item for item in study.multipliers if item.kind == "mean"}
    for algorithm, model in study.models.items():
        found = study.verdict(algorithm).headline
        mean = means.get(algorithm)
        m, low, high = model.multiplier
        reach = (
            m * study.sizes_of(algorithm)[-1] / study.outcomes.data_size[study.outcomes.cells_of(study.reference)].max()
        )
        fit, best = model.constant, model.scores[0].qaicc
        values = fit.form.natural(fit.theta[0], model.design.c_max)
        rows.append(
            (
                label(algorithm),
                "-" if found is None else found.text,
                f"{number(m)} ({number(low)} to {number(high)})",
                f"{number(mean.estimate)} ({number(mean.low)} to {number(mean.high)})" if mean else "no size in range",
                "; ".join(f"{item.estimate:+.2f} ({item.low:+.2f} to {item.high:+.2f})" for item in model.slopes),
                f"{model.lack_of_fit:.2f}; {model.lack_of_fit_varying:.2f}",
                f"{fit.form.name} by {model.selection}: {', '.join(f'{key} = {v:.3g}' for key, v in values.items())}",
                "; ".join(f"{item.form} {number(item.multiplier)}, {item.qaicc - best:.0f}" for item in model.scores),
                "inside" if reach <= 1 else number(reach),
            )
        )
    columns = (
        "algorithm",
        "m, as given",
        "m of the joint fit",
        "form-free mean",
        "slope of log m",
        "lack of fit, p",
        "form",
        "m by form, QAICc over the best",
        "extrapolation",
    )
    note = (
        f"m: times more {label(study.reference)} problems for the same error. As given: one number where it describes"
        " the curves, else m at the smallest and the largest size. Joint fit: of an algorithm and the reference alone;"
        " 95 % intervals. Slope: under the chosen form and, if it is not 0, all that fit about as well. Lack of fit:"
        " of a constant multiplier; of a varying one. Extrapolation: how far beyond the reference's largest size m"
        " reaches."
    )
    return TextTable(columns, tuple(rows), note)


def _by_size(panel: Panel) -> TextTable:
    given = {
        (item.algorithm, item.data_size, item.currency): item for item in panel.compute if item.kind == "pointwise"
    }
    rows = []
    for item in panel.study.multipliers:
        if item.data_size is not None:  # of a single size
            bound = f">= {number(item.at_least)}" if item.right_censored > 0 and item.at_least > 0 else "-"
            at_once = _limits(item.estimate, item.low_at_once or 0.0, item.high_at_once or float("inf"))[1]
            limits = (*_limits(item.estimate, item.low, item.high), at_once)
            row = [label(item.algorithm), f"{item.data_size:,}", *limits, bound]
            if panel.ceiling:
                row.append(number(panel.ceiling[item.data_size]) if item.data_size in panel.ceiling else "-")
            if panel.flops:
                compute = given[item.algorithm, item.data_size, FLOPS]
                row += [f"{compute.cost:.2e}", *_limits(compute.estimate, compute.low, compute.high)]
            each = (given[item.algorithm, item.data_size, currency].break_even for currency in panel.costs)
            row += ["-" if math.isnan(price) else f"{price:.2e}" for price in each]
            rows.append(tuple(row))
    columns: tuple[str, ...] = ("algorithm", "D", "m(D)", "95 % interval", "for all sizes at once", "supported bound")
    columns += ("ceiling",) if panel.ceiling else ()
    columns += ("FLOPs of a run", "m per FLOP", "95 % interval") if panel.flops else ()
    columns += tuple(
        f"{currency.replace('_', ' ').replace('flops', 'FLOPs')} per problem saved" for currency in panel.costs
    )
    note = (
        f"Against {label(panel.study.reference)}, from its isotonic curve, without a form; intervals of each size"
        " alone, and for all of an algorithm's sizes at once (Bonferroni). 'above range': the algorithm's error is"
        " below all errors of the reference; 'below range': above all of them."
    )
    if panel.study.flat:
        note += " No m is given where the reference's error falls by less than a point per fourfold of data."
    if panel.ceiling:
        note += " Ceiling: the most that any learner of these problems could be worth."
    if panel.costs:
        note += (
            " Per problem saved: what the algorithm spends beyond the reference, divided by the problems that it saves."
            " In FLOPs this is the break-even price of a problem: where problems cost more, the algorithm is cheaper."
        )
    if panel.problem_flops:
        note += f" FLOPs of a run, and m per FLOP: at {panel.problem_flops:g} FLOPs a problem."
    return TextTable(columns, tuple(rows), note)


def _limits(
    estimate: float, low: float, high: float, above: str = "above range", below: str = "below range"
) -> tuple[str, str]:
    shown, left, right = (
        above if value == float("inf") else below if value == 0 else number(value) for value in (estimate, low, high)
    )
    return shown, left if left == right else f"{left} to {right}"


def _of(panel: str) -> str:
    return f", {panel}" if panel else ""
