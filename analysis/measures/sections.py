"""What some sweeps measure beside errors: trends over rounds or traces, critical steps, several base policies.

In: a sweep's tables and its store. Out: `trends.csv`, `critical_steps.csv` and `base.csv` with their figures, where the
sweep has such axes or measurements, and the report's sections on them.
"""

from pathlib import Path

import pandas as pd

from analysis.measures.base_plots import base_sections
from analysis.measures.base_table import base_table
from analysis.measures.critical_plots import critical_sections
from analysis.measures.critical_table import critical_table, traces_of
from analysis.measures.trend_plots import trend_sections
from analysis.measures.trends import trend_table
from analysis.page.rendering import Section
from analysis.reporting.study_files import write_csv
from analysis.tables.runs import Tables, label_axes, label_of, of_critical_steps, panel_axes, panel_of
from scaling.config.sweep import Sweep
from scaling.engine.store import Store
from scaling.planning.plan import Plan


def more_sections(directory: Path, sweep: Sweep, plan: Plan, store: Store, tables: Tables) -> tuple[Section, ...]:
    """Write the tables and figures; nothing, and no file, where nothing of the kind was measured."""
    settings = sweep.analysis
    panel_keys, label_keys = (axes(sweep, plan, of_critical_steps) for axes in (panel_axes, label_axes))
    traces = traces_of(
        plan,
        store,
        panel_of=lambda run: panel_of(run, panel_keys),
        label_of=lambda run: label_of(run, label_keys[run.cell.algorithm]),
    )
    critical = critical_table(traces, settings.reference, settings.bootstrap_draws, settings.seed)
    trends = trend_table(tables.runs)
    base = base_table(plan, store)
    _write(base if len(base) > 1 else base.iloc[:0], directory / "base.csv")
    _write(trends, directory / "trends.csv")
    _write(critical, directory / "critical_steps.csv")
    return (
        *trend_sections(trends, directory),
        *critical_sections(critical, directory),
        *base_sections(base, directory),
    )


def _write(table: pd.DataFrame, path: Path) -> None:
    """The table, or no file of an earlier report either."""
    if table.empty:
        path.unlink(missing_ok=True)
    else:
        write_csv(table, path)
