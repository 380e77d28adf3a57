"""The input of a report, read from the store of the runs or from the tables of an earlier report.

In: a sweep, and its store or its results folder. Out: `Material`. A results folder holds every outcome, so a new
version of the analysis can be applied to it without the artifacts. What these tables do not hold (which settings
selection has not decided) is copied from the earlier report.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.measures.sections import Measures, measures_in_folder, measures_in_store
from analysis.reporting.results_folder import (
    ResultsError,
    intact,
    read_all_outcomes,
    read_json,
    read_table,
    selection_table,
)
from analysis.reporting.samples import Samples, samples_in_folder, samples_in_store
from analysis.tables.ledger import ledger
from analysis.tables.outcomes import from_table
from analysis.tables.runs import CHOICES, Tables, tabulate
from scaling.config.sweep import Sweep
from scaling.engine.store import Store
from scaling.planning.plan import Plan, plan

PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class Material:
    """Everything that a report is about, before the analysis."""

    plan: Plan
    tables: Tables
    costs: pd.DataFrame  # ledger.csv
    measures: Measures  # beside errors
    samples: Samples


def material_in_store(sweep: Sweep, current: Plan, store: Store) -> Material:
    """The material in the records of a store."""
    tables = tabulate(sweep, current, store)
    costs = ledger(current, store)
    return Material(
        current,
        tables,
        costs,
        measures_in_store(sweep, current, store, tables),
        samples_in_store(sweep, current, store),
    )


def material_in_folder(sweep: Sweep, folder: Path) -> Material:
    """The material in the tables of an earlier report of the same sweep. Raises ResultsError if one is missing."""
    needed = ("runs.csv", "choices.csv", "ledger.csv", "outcomes.parquet", "fits.json", PROVENANCE)
    for name in needed:
        if not (folder / name).is_file():
            raise ResultsError(f"{folder} has no {name}; only a folder with a complete report can be drawn again.")
    runs, choices = read_table(folder / "runs.csv"), read_table(folder / "choices.csv")
    with intact(folder / "runs.csv"):
        runs["panel"] = runs["panel"].fillna("")
    outcomes = {
        panel: part.drop(columns="panel").reset_index(drop=True)
        for panel, part in read_all_outcomes(folder).groupby("panel", sort=False)
    }
    with intact(folder / "outcomes.parquet"):
        for part in outcomes.values():
            from_table(part)
    with intact(folder / "fits.json"):
        panels = read_json(folder / "fits.json")["panels"]
    base_errors = {name: entry.get("base_error") for name, entry in panels.items()}
    status = runs["status"]
    tables = Tables(
        runs=runs,
        outcomes=outcomes,
        base_errors={name: float(error) for name, error in base_errors.items() if error is not None},
        choices=choices.reindex(columns=list(CHOICES)).astype(
            {"at": "str"}
        ),  # an older table lacks some of these; no column holds numbers
        selection=selection_table(folder),
        provenance=read_json(folder / PROVENANCE),
        num_missing=int(status.isin(["missing", "waiting"]).sum()),
        num_failed=int((status == "failed").sum()),
    )
    current = plan(sweep, lambda stage: None)
    return Material(
        current,
        tables,
        read_table(folder / "ledger.csv"),
        measures_in_folder(folder, tables),
        samples_in_folder(folder),
    )
