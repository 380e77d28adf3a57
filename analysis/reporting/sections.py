"""The report's text: conclusions, figures and samples first, then tables, settings, costs and the provenance.

In: finished tables and studies. Out: `Section`s. Every number carries its n, its interval and its form.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis.figures.overview import save
from analysis.figures.select import select_figure
from analysis.measures.sections import solvable_section
from analysis.page.parts import Parts
from analysis.page.rendering import Picture, Section, TextTable, picture
from analysis.page.wording import SWEEP
from analysis.reporting.conclusions import measurement, opening, where
from analysis.reporting.sample_sections import sample_sections, training_sections, what_was_run
from analysis.reporting.samples import Samples
from analysis.reporting.study_sections import main_sections, percent, study_sections
from analysis.tables.printing import label
from analysis.tables.runs import Tables, is_further
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import Study
from scaling.config.sweep import Sweep
from scaling.planning.plan import Plan

_SELECT = "figures/select.png"
_SELECT_CAPTION = (
    "Validation error (%) of every candidate, with its standard error: by the spread over selection seeds or, of one"
    " seed, luck with the validation problems alone. Blue: above the best of the column; framed: chosen."
)


@dataclass(frozen=True)
class Story:
    """The content of a report."""

    file: Path
    sweep: Sweep
    plan: Plan
    tables: Tables
    costs: pd.DataFrame
    samples: Samples
    panels: dict[str, Panel]
    more: tuple[Section, ...] = ()  # for measurements beside errors, which some sweeps have


def sections(story: Story, directory: Path, parts: Parts) -> list[Section]:
    """The report: what was found, its figures and verdicts, what was run, samples; then the details, folded in a page.

    Figures are read from `directory`/figures.
    """
    first, details = parts.made("Conclusions", _conclusions, story), list[Section]()
    for name, panel in story.panels.items():
        rates = parts.made(f"{where(name)}pass@k", _pass_rates, story.tables, name)
        first += main_sections(name, panel, directory, SWEEP, parts)
        details += study_sections(name, panel, directory, SWEEP, parts, rates)
    first += parts.made("What was run", what_was_run, story.file, story.sweep, story.plan, story.samples)
    first += parts.made("Samples", sample_sections, story.samples)
    details += parts.made("Training", training_sections, story.samples, directory, story.sweep.analysis.reference)
    details += parts.made("Training problems", solvable_section, story.plan, story.tables.runs)
    details += story.more
    details += parts.made("Settings", _settings, story, directory)
    details += parts.made("Costs", _costs, story)
    details += parts.made("Runs", _runs, story)
    details += parts.made("Provenance", _provenance, story)
    return [*first, *parts.section(), *(replace(section, is_detail=True) for section in details)]


def _conclusions(story: Story) -> list[Section]:
    paragraphs = list[str]()
    if story.sweep.expectation:
        paragraphs.append(f"Expected before the run: {story.sweep.expectation}")
    paragraphs += [
        f"{where(name)}Falling with data, {label(panel.study.reference)}: {text}"
        for name, panel in story.panels.items()
        if (text := _fall_sentence(panel.study))
    ]
    measured = " ".join(measurement(name, panel.study) for name, panel in story.panels.items())
    if story.tables.choices.empty:
        measured += " All settings are fixed in the sweep file, and everything here is conditional on them."
    paragraphs.append(f"{_missing_sentence(story.tables)} {measured}")
    return [Section("", (story.sweep.question,)), *opening(story.panels, tuple(paragraphs))]


def _missing_sentence(tables: Tables) -> str:
    total = len(tables.runs)
    done = total - tables.num_missing - tables.num_failed
    if done == total:
        num_runs = total - sum(map(is_further, tables.runs["panel"]))
        return f"All {num_runs} runs are in{', on every test set' if num_runs < total else ''}."
    return (
        f"{done} of {total} runs are in; {tables.num_failed} failed and {tables.num_missing} are missing. Cells with"
        " fewer runs have wider intervals; missing runs are never filled in."
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
        f"its test error goes from {percent(errors[first], low[first], high[first])} at D ="
        f" {study.outcomes.data_size[first]:,} to {percent(errors[last], low[last], high[last])} at D ="
        f" {study.outcomes.data_size[last]:,}, {beyond}."
    )


def _pass_rates(tables: Tables, panel: str) -> list[TextTable]:
    """Mean pass@k over seeds, for every k that was measured, and how different the right samples of a problem are."""
    runs = tables.runs[(tables.runs["panel"] == panel) & (tables.runs["status"] == "done")]
    found = []
    for name in (column for column in runs.columns if column.startswith("pass_at_")):
        k = name.removeprefix("pass_at_")
        note = (
            f"pass@{k}: percent of test problems that one of {k} samples solves (unbiased estimate), mean over seeds."
        )
        found.append(_by_cell(runs, name, note, 100))
    if "diversity" in runs:
        note = "Diversity: different right samples of a test problem, mean over problems and seeds."
        found.append(_by_cell(runs, "diversity", note, 1, decimals=2))
    return found


def _by_cell(runs: pd.DataFrame, column: str, note: str, times: float, decimals: int = 1) -> TextTable:
    """The mean of a column over the seeds of every cell."""
    table = runs.pivot_table(index="algorithm", columns="data_size", values=column, sort=False).sort_index(axis=1)
    rows = tuple(
        (label(str(algorithm)), *("-" if pd.isna(value) else f"{times * value:.{decimals}f}" for value in row))
        for algorithm, row in zip(table.index, table.to_numpy(), strict=True)
    )
    return TextTable(("algorithm", *(f"D = {size:,}" for size in table.columns)), rows, note)


def _settings(story: Story, directory: Path) -> list[Section]:
    choices, drawn = story.tables.choices, list[Picture]()
    if choices.empty:
        text = (
            "All settings are fixed in the sweep file; nothing was selected. Every interval is conditional on these"
            " settings: what choosing them might have cost or gained is not in it."
        )
        return [Section("Settings", (text,), tables=(_search(story),))]
    rows = []
    cells = choices.assign(at=choices["at"].fillna("")).groupby(["algorithm", "data_size", "at"], sort=False)
    for (algorithm, size, at), group in cells:
        chosen = group[group["chosen"]]
        rows.append(
            (
                ", ".join(filter(None, (label(str(algorithm)), str(at)))),
                f"{size:,}",
                chosen["settings"].iloc[0] + (_end(len(group)) if chosen["at_edge"].iloc[0] else "")
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
    selected = ", ".join(label(name) for name in dict.fromkeys(map(str, choices["algorithm"])))
    note = (
        f"Chosen by mean error on the validation problems, on separate seeds ({seeds}); the test problems are never"
        " used. '(at an end)', '(of two)': the best candidate is the first or last one, so a better one may lie"
        f" beyond. Selected here: {selected}; the settings of other algorithms are fixed in the sweep file."
    )
    figure = select_figure(choices)
    if figure is not None:
        save(figure, directory / _SELECT)
        drawn.append(picture(directory, _SELECT, f"{_SELECT_CAPTION} Selection seeds: {seeds}."))
    columns = ("algorithm", "D", "chosen", "validation error (%)", "candidates")
    tables = (TextTable(columns, tuple(rows), note), _search(story))
    return [Section("Chosen settings", figures=tuple(drawn), tables=tables)]


def _search(story: Story) -> TextTable:
    """How many candidates each algorithm could choose from, and which checkpoint is evaluated."""
    choices, select = story.tables.choices, story.sweep.select
    tried = choices.groupby(["algorithm", "data_size"])["settings"].nunique().groupby("algorithm")
    counts = {str(name): sorted({int(count) for count in found}) for name, found in tried}
    names = list(dict.fromkeys(run.cell.algorithm for run in story.plan.runs))
    kept = {name: _kept(story.plan, name) for name in names}
    seeds = 0 if select is None else len(select.seeds)
    rows = tuple(
        (
            label(name),
            " to ".join(map(str, dict.fromkeys((counts[name][0], counts[name][-1])))) if name in counts else "1, fixed",
            str(seeds) if name in counts else "-",
            f"{choices.loc[choices['algorithm'] == name, 'num_runs'].sum():,}",
            " and ".join(kept[name]),
        )
        for name in names
    )
    alike = len({tuple(counts.get(name, [1])) for name in names}) == 1
    note = (
        f"{'All algorithms had' if alike else 'The algorithms did not all have'} the same number of candidates. An"
        " algorithm keeps what was chosen for the policy that it starts from."
    )
    if all(one == ["last"] for one in kept.values()):
        note += " The policy evaluated is the last one of its training, never the best of several checkpoints."
    else:
        note += " Best: of several policies of a training run, the one with the lowest error on validation problems."
    if select is not None:
        note += (
            f" Selection used {seeds} seed{'s' if seeds > 1 else ''} apart from those of the results."
            f" {_selection_noise(story.tables.selection)}"
        )
    columns = ("algorithm", "candidates", "selection seeds", "runs of the search", "checkpoint")
    return TextTable(columns, rows, note)


def _selection_noise(selection: pd.DataFrame) -> str:
    """Whether the intervals include the noise of selection, and how often a single seed decides."""
    if selection.empty:
        return "One seed cannot tell how noisy a choice is: the intervals are conditional on what it chose."
    cells = selection.groupby(["panel", "algorithm", "data_size"], sort=False)
    moved = sum(bool((part["error"] != part["error_of_chosen"]).any()) for _, part in cells)
    return (
        f"Without one of them, selection would choose other settings in {moved} of {cells.ngroups} cells; the intervals"
        " there are wider by what these settings were worth on the seed left out (selection.csv)."
    )


def _kept(plan: Plan, algorithm: str) -> list[str]:
    """The policies of its training runs from which an algorithm's results come."""
    settings = dict.fromkeys(run.cell.checkpoint for run in plan.runs if run.cell.algorithm == algorithm)
    return ["last" if one.keep == "last" else f"best of {one.among}" for one in settings]


def _end(num_candidates: int) -> str:
    return " (of two)" if num_candidates == 2 else " (at an end)"


def _costs(story: Story) -> list[Section]:
    rows = []
    for row in story.costs.itertuples():
        name = label(row.algorithm) if isinstance(row.algorithm, str) else "-"
        size = f"{int(row.data_size):,}" if pd.notna(row.data_size) else "-"
        flops = [f"{value:.2e}" for value in (row.training_flops, row.generation_flops, row.evaluation_flops)]
        counts = (getattr(row, column, math.nan) for column in ("samples", "verifier_calls"))
        shown = ["-" if pd.isna(count) else f"{count:,.0f}" for count in counts]
        rows.append((f"{row.part}: {name}", size, str(row.num_runs), *flops, *shown, f"{row.wall_seconds:.1f}"))
    columns = (
        *("part", "D", "runs", "training FLOPs", "generation FLOPs", "evaluation FLOPs"),
        *("samples", "verifier calls", "seconds"),
    )
    note = (
        "run: mean cost of one run with everything it needs except the base policy, including shared stages. search:"
        " stages that only selection needs. total: the whole sweep, each stage once. FLOPs are analytic; samples are"
        " completions of policies, verifier calls those and the teacher's solutions, without the evaluation; seconds"
        " are those of one worker."
    )
    return [Section("Costs", tables=(TextTable(columns, tuple(rows), note),))]


def _runs(story: Story) -> list[Section]:
    failures = story.tables.runs[story.tables.runs["status"] != "done"]
    if failures.empty:
        return [Section("Runs", ("Every run of the grid finished; runs.csv has a row for each.",))]
    rows = tuple(
        (label(row.algorithm), f"{row.data_size:,}", str(row.seed), row.status, str(getattr(row, "failure", "") or "-"))
        for row in failures.itertuples()
    )
    shown = TextTable(("algorithm", "D", "seed", "status", "failure"), rows)
    return [Section("Runs without a result", tables=(shown,))]


def _provenance(story: Story) -> list[Section]:
    origin = story.tables.provenance
    bullets = [f"{name}: {', '.join(values) if values else 'not recorded'}" for name, values in origin.items()]
    bullets.append(f"regenerate: python -m analysis.report {story.file}")
    return [Section("Provenance", bullets=tuple(bullets))]
