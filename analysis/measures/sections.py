"""Measurements of some sweeps beside errors: trends, critical steps, several base policies, filtered problems.

In: a sweep's tables and its store. Out: `trends.csv`, `critical_steps.csv` and `base.csv` with their figures, if the
sweep has such axes or measurements, and the report's sections on them; and a section if a sweep sets
`problems.solvable`: how many training problems were tried, and how many the base policy solves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.measures.base_policies import COLUMNS as base_columns
from analysis.measures.base_policies import base_sections, base_table
from analysis.measures.critical_plots import critical_sections
from analysis.measures.critical_table import COLUMNS as critical_columns
from analysis.measures.critical_table import critical_table, traces_of
from analysis.measures.trend_plots import trend_sections
from analysis.measures.trends import trend_table
from analysis.page.parts import Parts
from analysis.page.rendering import Section, write_csv
from analysis.tables.runs import Tables
from scaling.config.sweep import Sweep
from scaling.config.text_problems import Solvable, TextProblems
from scaling.engine.store import Store
from scaling.planning.plan import Plan

_ORDERS = {"fewest_steps": "those with the fewest steps first", "random": "drawn at random"}


@dataclass(frozen=True)
class Measures:
    """Tables of measurements beside errors; empty if there are none."""

    base: pd.DataFrame  # base.csv
    trends: pd.DataFrame
    critical: pd.DataFrame


def measures_in_store(sweep: Sweep, plan: Plan, store: Store, tables: Tables) -> Measures:
    """The measures of the runs in a store."""
    settings = sweep.analysis
    traces = traces_of(sweep, plan, store)
    critical = critical_table(traces, settings.reference, settings.bootstrap_draws, settings.seed)
    return Measures(base_table(plan, store), trend_table(tables.runs), critical)


def measures_in_folder(folder: Path, tables: Tables) -> Measures:
    """The measures in an earlier report; trends follow from the table of runs."""

    def read(name: str, columns: Sequence[str]) -> pd.DataFrame:
        if not (folder / name).exists():
            return pd.DataFrame(columns=list(columns))
        table = pd.read_csv(folder / name, keep_default_na=False, na_values=[""])
        return table.fillna({"panel": ""}) if "panel" in table else table

    base = read("base.csv", base_columns)
    return Measures(base, trend_table(tables.runs), read("critical_steps.csv", critical_columns))


def more_sections(directory: Path, measures: Measures, parts: Parts) -> tuple[Section, ...]:
    """Write the tables and figures; no files for what was not measured."""
    base, trends, critical = measures.base, measures.trends, measures.critical
    _write(base if len(base) > 1 else base.iloc[:0], directory / "base.csv")
    _write(trends, directory / "trends.csv")
    _write(critical, directory / "critical_steps.csv")
    return (
        *parts.made("Trends", trend_sections, trends, directory),
        *parts.made("Critical steps", critical_sections, critical, directory),
        *parts.made("Base policies", base_sections, base, directory),
    )


def solvable_section(plan: Plan, runs: pd.DataFrame) -> list[Section]:
    """One section, or none. runs: has columns num_candidates and num_solvable if a finished run was filtered."""
    filters = dict.fromkeys(
        run.cell.problems.solvable for run in plan.runs if isinstance(run.cell.problems, TextProblems)
    )
    if not any(filters):
        return []
    bullets = [_asked(item) for item in filters if item is not None]
    if "num_solvable" in runs:
        found = runs.dropna(subset=["num_solvable"]).drop_duplicates(["panel", "num_candidates", "num_solvable"])
        bullets += [_found(row.panel, int(row.num_candidates), int(row.num_solvable)) for row in found.itertuples()]
    paragraph = (
        "The training problems are those that the base policy sometimes solves, so D counts easy problems. The"
        " validation and test problems are not filtered."
    )
    return [Section("Training problems", (paragraph,), tuple(bullets))]


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write the table, or remove an earlier report's file if it is empty."""
    if table.empty:
        path.unlink(missing_ok=True)
    else:
        write_csv(table, path)


def _asked(settings: Solvable) -> str:
    return (
        f"Required: at least {settings.min_correct} of {settings.samples} completions of the base policy right, at"
        f" temperature {settings.temperature:g}; up to {settings.num_candidates:,} training problems are tried,"
        f" {_ORDERS[settings.order]}."
    )


def _found(panel: str, tried: int, kept: int) -> str:
    where = f"{panel}: " if panel else ""
    return f"{where}{tried:,} were tried and {kept:,} kept ({100 * kept / tried:.1f} %)."
