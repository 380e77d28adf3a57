"""The figure of selection: every candidate's validation error at every data size, with its noise.

In: the table of choices. Out: a matplotlib figure with a heat map for each algorithm that had a choice. Nothing is
computed here but how far a candidate lies above the best of its column.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.style import OWN, WIDTH, Place, pictures, styled, wrapped
from analysis.tables.printing import label, settings_text

_CELL, _MARGIN, _WIDTH = 0.34, 0.9, 3.2  # inches: a row, what stands around the rows, and a map
_MOST_IN_A_ROW = 3
_ROW_LETTERS, _TITLE_LETTERS = 22, 36
_DARK = 0.6  # of the scale; on cells darker than this, text is white


def select_figure(choices: pd.DataFrame, place: Place = OWN) -> Figure | None:
    """None if no algorithm had two finished candidates. Blue: above the best of the column; framed: chosen.

    An algorithm has a map for each of its other settings; a title has what differs between them.
    """
    grids = {
        f"{label(str(name))}{at}": grid
        for name, part in choices.groupby("algorithm", sort=False)
        for at, of_settings in _by_settings(part)
        if (grid := _grid(of_settings)) is not None
    }
    if not grids:
        return None
    with styled():
        height = _MARGIN + _CELL * max(len(grid.index) for grid in grids.values())
        width = max(WIDTH, _WIDTH * min(len(grids), _MOST_IN_A_ROW))
        figure, row = pictures(len(grids), (width, height), place, least_width=min(_WIDTH, width), row_share=1.0)
        most = max(float(_above_best(grid).max()) for grid in grids.values())
        for axes, (title, grid) in zip(row, grids.items(), strict=True):
            _draw(axes, grid, most or 1.0)
            axes.set_title(wrapped(title, _TITLE_LETTERS), fontsize=8)
        return figure


def _by_settings(choices: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The choices of one algorithm at each of its other settings, behind what differs between these."""
    ats = choices["at"].fillna("")
    parts = {at: str(at).split(", ") for at in ats.unique()}
    common = set.intersection(*map(set, parts.values()))
    return [
        ("".join(f", {part}" for part in parts[at] if part not in common), choices[ats == at]) for at in ats.unique()
    ]


def _grid(choices: pd.DataFrame) -> pd.DataFrame | None:
    """Rows of settings and columns of sizes, each with error, standard_error and chosen; None without a comparison."""
    known = choices.dropna(subset=["validation_error"])
    rows = known.set_index(["settings", "data_size"])
    if known["settings"].nunique() < 2 or rows.index.has_duplicates:
        return None
    grid = rows[["validation_error", "standard_error", "chosen"]].unstack("data_size")
    return grid.reindex(list(dict.fromkeys(known["settings"])))


def _above_best(grid: pd.DataFrame) -> np.ndarray:
    """float64 [candidates, columns]: points above the best of the column; NaN counts as the best."""
    error = grid["validation_error"]
    above: np.ndarray = np.nan_to_num(100 * (error - error.min()).to_numpy(float))
    return above


def _draw(axes: Axes, grid: pd.DataFrame, most: float) -> None:
    above = _above_best(grid)
    axes.imshow(above, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    errors, noise, chosen = (grid[name].to_numpy() for name in ("validation_error", "standard_error", "chosen"))
    for row, column in np.ndindex(*above.shape):
        if np.isnan(float(errors[row, column])):
            continue
        spread = float(noise[row, column])
        text = f"{100 * errors[row, column]:.1f}" + ("" if np.isnan(spread) else f"\n$\\pm${100 * spread:.1f}")
        shade = "#FFFFFF" if above[row, column] > _DARK * most else "#000000"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=shade)
        if chosen[row, column] is True or chosen[row, column] == 1:
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, linewidth=1.2))
    sizes = grid["validation_error"].columns
    axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
    names = [settings_text(str(settings).split(", ")) for settings in grid.index]
    axes.set_yticks(range(len(names)), [wrapped(name, _ROW_LETTERS) for name in names])
    axes.tick_params(length=0, labelsize=6)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("synthetic problems D")
