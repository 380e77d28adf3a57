"""All files of a study except its report: fits.json, its tables, and each figure with its numbers.

In: finished `Panel`s. Out: files below a fresh directory. The same studies give the same bytes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from analysis.figures import diagnostics, overview
from analysis.figures.catalogue import STUDY_FIGURES
from analysis.figures.compute import cost_table
from analysis.figures.style import OWN
from analysis.page.parts import Parts
from analysis.page.rendering import as_table, to_latex, write_csv
from analysis.page.wording import Wording
from analysis.reporting.fits_file import dump, fits_document
from analysis.reporting.study_sections import paper_tables
from analysis.verdicts.compute import ComputeMultiplier
from analysis.verdicts.equal_error import EqualError
from analysis.verdicts.panel import Panel, Question

# Tables beside the figures: their numbers.
_NUMBERS: Mapping[str, Callable[[Panel], pd.DataFrame]] = MappingProxyType(
    {
        "error": lambda panel: overview.error_table(panel.study),
        "multiplier": lambda panel: overview.multiplier_table(panel.study),
        "multiplier_band": lambda panel: overview.band_table(panel.study),
        "holdout": lambda panel: diagnostics.holdout_table(panel.study),
        "density": lambda panel: diagnostics.density_table(panel.study),
        "spread": diagnostics.spread_table,
        "residual": lambda panel: diagnostics.residual_table(panel.study),
        "compute": lambda panel: cost_table(panel.study, panel.flops),
    }
)


def write_study_files(
    directory: Path, panels: Mapping[str, Panel], question: Question, wording: Wording, parts: Parts
) -> None:
    """Tables as CSV and LaTeX, fits.json and figures/; compute_multipliers.csv, equal_error.csv if costs are known."""

    def write(file: str, table: Callable[[], pd.DataFrame]) -> None:
        with parts.part(file):
            write_csv(table(), directory / file)

    def write_all(file: str, make: Callable[[Panel], pd.DataFrame]) -> None:
        write(file, lambda: _over_panels(panels, make))

    write_all("errors.csv", _NUMBERS["error"])
    write_all("multipliers.csv", _NUMBERS["multiplier"])
    if any(panel.flops for panel in panels.values()):
        write_all("compute_multipliers.csv", lambda panel: as_table(ComputeMultiplier, panel.compute))
    if any(panel.equal_errors for panel in panels.values()):
        write_all("equal_error.csv", lambda panel: as_table(EqualError, panel.equal_errors))
    with parts.part("fits.json"):
        (directory / "fits.json").write_text(dump(fits_document(panels, question, wording)), encoding="utf-8")
    with parts.part("tables.tex"):
        (directory / "tables.tex").write_text(to_latex(paper_tables(panels, wording)), encoding="utf-8")
    (directory / "figures").mkdir()
    for name, panel in panels.items():
        suffix = overview.figure_suffix(name)
        for figure, draw in STUDY_FIGURES.items():
            with parts.part(f"figures/{figure}{suffix}.png"):
                drawn = draw(panel, question.claims, wording, OWN)
                if drawn is not None:
                    overview.save(drawn, directory / "figures" / f"{figure}{suffix}.png")
        for table, make in _NUMBERS.items():
            if table != "compute" or panel.flops:
                write(f"figures/{table}{suffix}.csv", partial(make, panel))


def _over_panels(panels: Mapping[str, Panel], make: Callable[[Panel], pd.DataFrame]) -> pd.DataFrame:
    """The tables of all panels in one, with the panel's name as the first column."""
    return pd.concat({name: make(panel) for name, panel in panels.items()}, names=["panel"]).reset_index(level=0)
