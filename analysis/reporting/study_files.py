"""Everything a study leaves on disk but its report: fits.json, its tables, and each figure with its numbers.

In: finished `Panel`s. Out: files below a fresh directory. The same studies give the same bytes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from analysis.figures import diagnostics, overview
from analysis.figures.catalogue import STUDY_FIGURES
from analysis.figures.compute import cost_table
from analysis.figures.style import OWN
from analysis.page.latex import to_latex
from analysis.page.rendering import write_csv
from analysis.page.wording import Wording
from analysis.reporting.fits_file import dump, fits_document
from analysis.reporting.study_sections import paper_tables
from analysis.verdicts.compute import compute_table
from analysis.verdicts.panel import Panel, Question


def write_study_files(directory: Path, panels: Mapping[str, Panel], question: Question, wording: Wording) -> None:
    """Tables as CSV and LaTeX, fits.json and figures/; compute_multipliers.csv where costs are known."""
    write_csv(over_panels(panels, lambda panel: overview.error_table(panel.study)), directory / "errors.csv")
    write_csv(over_panels(panels, lambda panel: overview.multiplier_table(panel.study)), directory / "multipliers.csv")
    if any(panel.flops for panel in panels.values()):
        write_csv(
            over_panels(panels, lambda panel: compute_table(panel.compute)), directory / "compute_multipliers.csv"
        )
    document = fits_document(panels, question, wording)
    (directory / "fits.json").write_text(dump(document), encoding="utf-8")
    (directory / "tables.tex").write_text(to_latex(paper_tables(panels, wording)), encoding="utf-8")
    folder = directory / "figures"
    folder.mkdir()
    for name, panel in panels.items():
        _draw(folder, overview.figure_suffix(name), panel, question.claims, wording)


def _draw(folder: Path, suffix: str, panel: Panel, claims: Mapping[str, float | str], wording: Wording) -> None:
    study, flops = panel.study, panel.flops
    for name, draw in STUDY_FIGURES.items():
        figure = draw(panel, claims, wording, OWN)
        if figure is not None:
            overview.save(figure, folder / f"{name}{suffix}.png")
    numbers = {
        "error": overview.error_table(study),
        "multiplier": overview.multiplier_table(study),
        "multiplier_band": overview.band_table(study),
        "holdout": diagnostics.holdout_table(study),
        "density": diagnostics.density_table(study),
        "spread": diagnostics.spread_table(panel),
        "residual": diagnostics.residual_table(study),
    }
    if flops:
        numbers["compute"] = cost_table(study, flops)
    for name, table in numbers.items():
        write_csv(table, folder / f"{name}{suffix}.csv")


def over_panels(panels: Mapping[str, Panel], make: Callable[[Panel], pd.DataFrame]) -> pd.DataFrame:
    """A table of every panel, one below the other, with the panel's name in front."""
    tables = []
    for name, panel in panels.items():
        table = make(panel)
        table.insert(0, "panel", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
