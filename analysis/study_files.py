"""Everything a study leaves on disk but its report: fits.json, its tables, and each figure with its numbers.

In: finished `Panel`s. Out: files below a directory. The same studies give the same bytes.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from analysis import diagnostic_plots, plots
from analysis.compute import compute_table
from analysis.compute_plots import cost_figure, cost_table
from analysis.fits_file import dump, fits_document
from analysis.panel import Panel
from analysis.wording import Wording


def write_study_files(
    directory: Path,
    panels: Mapping[str, Panel],
    claims: Mapping[str, float | str],
    num_draws: int,
    seed: int,
    wording: Wording,
) -> None:
    """errors.csv, multipliers.csv, fits.json and figures/; compute_multipliers.csv where costs are known."""
    directory.mkdir(parents=True, exist_ok=True)
    write_csv(_over_panels(panels, lambda panel: plots.error_table(panel.study)), directory / "errors.csv")
    write_csv(_over_panels(panels, lambda panel: plots.multiplier_table(panel.study)), directory / "multipliers.csv")
    if any(panel.flops for panel in panels.values()):
        write_csv(
            _over_panels(panels, lambda panel: compute_table(panel.compute)), directory / "compute_multipliers.csv"
        )
    document = fits_document(panels, num_draws, seed, wording)
    (directory / "fits.json").write_text(dump(document), encoding="utf-8")
    folder = directory / "figures"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for name, panel in panels.items():
        _draw(folder, plots.figure_suffix(name), panel, claims, wording)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Numbers to ten digits."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")


def _draw(folder: Path, suffix: str, panel: Panel, claims: Mapping[str, float | str], wording: Wording) -> None:
    study, flops = panel.study, panel.flops
    figures = {
        "error": plots.error_figure(study, wording, panel.base_error),
        "collapsed": plots.collapsed_figure(study, wording),
        "multiplier": plots.multiplier_figure(study, wording),
        "compute": cost_figure(study, flops, wording.error_axis) if flops else None,
        "holdout": diagnostic_plots.holdout_figure(study),
        "density": diagnostic_plots.density_figure(study, claims),
        "spread": diagnostic_plots.spread_figure(panel),
        "residual": diagnostic_plots.residual_figure(study, wording),
    }
    for name, figure in figures.items():
        if figure is not None:
            plots.save(figure, folder / f"{name}{suffix}.png")
    numbers = {
        "error": plots.error_table(study),
        "multiplier": plots.multiplier_table(study),
        "multiplier_band": plots.band_table(study),
        "holdout": diagnostic_plots.holdout_table(study),
        "density": diagnostic_plots.density_table(study),
        "spread": diagnostic_plots.spread_table(panel),
        "residual": diagnostic_plots.residual_table(study),
    }
    if flops:
        numbers["compute"] = cost_table(study, flops)
    for name, table in numbers.items():
        write_csv(table, folder / f"{name}{suffix}.csv")


def _over_panels(panels: Mapping[str, Panel], make: Callable[[Panel], pd.DataFrame]) -> pd.DataFrame:
    tables = []
    for name, panel in panels.items():
        table = make(panel)
        table.insert(0, "panel", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
