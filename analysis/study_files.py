"""Everything a study leaves on disk but its report: fits.json, two tables, and each figure with its numbers.

In: finished `Study`s by panel. Out: files below a directory. The same studies give the same bytes.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from analysis import diagnostic_plots, plots
from analysis.fits_file import dump, fits_document
from analysis.study import Study
from analysis.wording import Wording


def write_study_files(
    directory: Path,
    studies: Mapping[str, Study],
    claims: Mapping[str, float | str],
    num_draws: int,
    seed: int,
    wording: Wording,
    base_errors: Mapping[str, float],
) -> None:
    """errors.csv, multipliers.csv, fits.json and figures/. base_errors: error without data by panel, where known."""
    directory.mkdir(parents=True, exist_ok=True)
    write_csv(_over_panels(studies, plots.error_table), directory / "errors.csv")
    write_csv(_over_panels(studies, plots.multiplier_table), directory / "multipliers.csv")
    document = fits_document(studies, num_draws, seed, wording)
    (directory / "fits.json").write_text(dump(document), encoding="utf-8")
    folder = directory / "figures"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for panel, study in studies.items():
        _draw(folder, plots.figure_suffix(panel), study, claims, wording, base_errors.get(panel))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Numbers to ten digits."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")


def _draw(
    folder: Path,
    suffix: str,
    study: Study,
    claims: Mapping[str, float | str],
    wording: Wording,
    base_error: float | None,
) -> None:
    figures = {
        "error": plots.error_figure(study, base_error),
        "collapsed": plots.collapsed_figure(study),
        "multiplier": plots.multiplier_figure(study),
        "holdout": diagnostic_plots.holdout_figure(study),
        "density": diagnostic_plots.density_figure(study, claims),
        "spread": diagnostic_plots.spread_figure(study),
        "residual": diagnostic_plots.residual_figure(study),
    }
    for name, figure in figures.items():
        if figure is not None:
            if name in ("error", "multiplier", "residual"):
                figure.axes[0].set_xlabel(f"{wording.size} D")
            if name in ("error", "collapsed"):
                figure.axes[0].set_ylabel(f"{wording.error} (%)")
            plots.save(figure, folder / f"{name}{suffix}.png")
    numbers = {
        "error": plots.error_table(study),
        "multiplier": plots.multiplier_table(study),
        "holdout": diagnostic_plots.holdout_table(study),
        "density": diagnostic_plots.density_table(study),
        "spread": diagnostic_plots.spread_table(study),
        "residual": diagnostic_plots.residual_table(study),
    }
    for name, table in numbers.items():
        write_csv(table, folder / f"{name}{suffix}.csv")


def _over_panels(studies: Mapping[str, Study], make: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
    tables = []
    for panel, study in studies.items():
        table = make(study)
        table.insert(0, "panel", panel)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
