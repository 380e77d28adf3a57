"""Redraw everything of a sweep from its store: `python -m analysis.report sweeps/NAME.yaml`. Needs neither jax nor ray.

In: a sweep file and its store. Out: `results/NAME/` with runs.csv, outcomes.parquet, choices.csv, ledger.csv,
errors.csv, multipliers.csv, fits.json, figures/, report.md and report.html. Same store and seed, same bytes.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.compute import flops_by_cell
from analysis.fits_file import SCHEMA_VERSION
from analysis.ledger import ledger
from analysis.more_sections import more_sections
from analysis.outcomes import from_table
from analysis.panel import Panel
from analysis.rendering import write_report
from analysis.sections import Story, sections
from analysis.study import Study, analyse
from analysis.study_files import write_csv, write_study_files
from analysis.tables import Tables, tabulate
from analysis.verdicts import label
from analysis.wording import SWEEP
from scaling.config import Sweep
from scaling.config_error import ConfigError
from scaling.engine.store import Store
from scaling.plan import Plan, plan
from scaling.results_dir import open_store, results_dir
from scaling.sweep_file import load_sweep

SOURCE = "source.txt"  # a digest of what the report was drawn from


@dataclass(frozen=True)
class Summary:
    """What the command line shows of a report."""

    path: Path  # report.html
    table: Table
    sentences: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 1 nothing to report yet, 2 wrong usage or sweep file."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="Redraw tables, fits, figures and the report of a sweep from what its store holds.",
    )
    parser.add_argument("file", type=Path, help="the sweep, such as sweeps/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to scaling.sweep")
    arguments = parser.parse_args(argv)
    console = Console(highlight=False)
    try:
        summary = report(arguments.file, arguments.set)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if summary is None:
        print(
            f"error: {arguments.file} has no finished run yet; run python -m scaling.sweep {arguments.file} first.",
            file=sys.stderr,
        )
        return 1
    console.print(summary.table)
    for sentence in summary.sentences:
        console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"Report: {summary.path}", soft_wrap=True)
    return 0


def report(file: Path, overrides: Sequence[str]) -> Summary | None:
    """Write the results of a sweep; None where no run is finished yet. Raises ConfigError for a wrong file."""
    sweep = load_sweep(file, overrides)
    store = open_store(sweep)
    current = plan(sweep, store.numbers)
    tables = tabulate(sweep, current, store)
    if not tables.outcomes:
        return None
    panels = {name: _panel(sweep, tables, name) for name in tables.outcomes}
    directory = results_dir(file, overrides)
    _write_tables(directory, tables, ledger(current, store))
    settings = sweep.analysis
    numbers = (settings.claims, settings.bootstrap_draws, settings.seed)
    write_study_files(directory, panels, *numbers, SWEEP)
    more = more_sections(directory, sweep, current, store, tables)
    story = Story(file, sweep, current, tables, pd.read_csv(directory / "ledger.csv"), panels, more)
    write_report(directory, file.stem, sections(story, directory))
    (directory / SOURCE).write_text(source_of(sweep, current, store) + "\n")
    studies = {name: panel.study for name, panel in panels.items()}
    sentences = tuple(verdict.sentence for study in studies.values() for verdict in study.verdicts)
    return Summary(directory / "report.html", _summary_table(studies), sentences)


def is_current(file: Path, overrides: Sequence[str]) -> Path | None:
    """The report, when it was drawn from the same sweep and the same runs by the same version of fits.json."""
    sweep = load_sweep(file, overrides)
    store = open_store(sweep)
    current = plan(sweep, store.numbers)
    directory = results_dir(file, overrides)
    if not (directory / SOURCE).exists() or not (directory / "report.html").exists():
        return None
    same = (directory / SOURCE).read_text().strip() == source_of(sweep, current, store)
    return directory / "report.html" if same else None


def source_of(sweep: Sweep, current: Plan, store: Store) -> str:
    """A digest of all that a report is drawn from."""
    targets = [(run, stage) for run in current.runs for stage in run.targets]
    runs = [[run.name, stage.digest, store.record(stage) is not None] for run, stage in targets]
    text = json.dumps([SCHEMA_VERSION, sweep.model_dump(mode="json"), runs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _panel(sweep: Sweep, tables: Tables, name: str) -> Panel:
    """Analyse one panel. The base policy's error is where a curve that starts flat begins."""
    settings, base_error = sweep.analysis, tables.base_errors.get(name)
    outcomes = from_table(tables.outcomes[name])
    numbers = (settings.reference, settings.claims, settings.bootstrap_draws, settings.seed)
    return Panel(analyse(outcomes, *numbers, ceiling=base_error), base_error, flops_by_cell(tables.runs, name))


def _write_tables(directory: Path, tables: Tables, costs: pd.DataFrame) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_csv(tables.runs, directory / "runs.csv")
    write_csv(tables.choices, directory / "choices.csv")
    write_csv(costs, directory / "ledger.csv")
    outcomes = pd.concat([table.assign(panel=panel) for panel, table in tables.outcomes.items()], ignore_index=True)
    categories = dict.fromkeys(("algorithm", "panel", "problem"), "category")
    outcomes.astype({"wrong": "int8", **categories}).to_parquet(directory / "outcomes.parquet", compression="zstd")


def _summary_table(studies: dict[str, Study]) -> Table:
    """Mean test error in percent by algorithm and data size, with what is given of the multiplier."""
    sizes = sorted({int(size) for study in studies.values() for size in study.outcomes.data_size})
    table = Table("algorithm", *(f"D={size}" for size in sizes), "multiplier (95 % limits)", box=None)
    for panel, study in studies.items():
        outcomes = study.outcomes
        for name in outcomes.algorithms:
            shown = dict(zip(outcomes.data_size[outcomes.cells_of(name)], outcomes.cells_of(name), strict=True))
            cells = [f"{100 * outcomes.errors[shown[size]]:.1f}" if size in shown else "-" for size in sizes]
            text = "reference"
            if name != study.reference:
                found = study.verdict(name).headline
                text = "-" if found is None else found.text
            table.add_row(f"{label(name)}{f' [{panel}]' if panel else ''}", *cells, text)
    return table


if __name__ == "__main__":
    sys.exit(main())
