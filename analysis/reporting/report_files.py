"""The files of a report, and the folder that they go into.

In: a sweep and its command line. Out: an `Output`. This module imports no plotting code, so a sweep can claim its
results folder early, before any stage runs.
"""

from collections.abc import Sequence
from pathlib import Path

from scaling.config.sweep import Sweep
from scaling.engine.output import Output
from scaling.engine.results_dir import results_dir

PAGES = ("report.md", "report.html")
FIGURES = tuple(f"figures/*.{suffix}" for suffix in ("png", "svg", "pdf", "csv"))
STUDY_FILES = (
    "errors.csv",
    "multipliers.csv",
    "compute_multipliers.csv",
    "equal_error.csv",
    "fits.json",
    "tables.tex",
    *FIGURES,
)
TABLES = (
    "runs.csv",
    "outcomes.parquet",
    "choices.csv",
    "selection.csv",
    "ledger.csv",
    "provenance.json",
    "base.csv",
    "trends.csv",
    "critical_steps.csv",
    "samples.json",
    "training.csv",
)


def report_output(file: Path, overrides: Sequence[str], sweep: Sweep, out: Path | None = None) -> Output:
    """The results folder of a sweep."""
    folder = results_dir(file, overrides, sweep, out)
    return Output(folder, "analysis.report", (*TABLES, *STUDY_FILES, *PAGES), sweep=file)
