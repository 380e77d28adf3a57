"""Figures of a curve or a surface, from finished numbers.

In: points and fitted values as tables. Out: matplotlib figures.
"""

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from analysis.figures.looks import plain
from analysis.figures.style import blank, styled


def curve_figure(points: pd.DataFrame, line: pd.DataFrame, x: str, y: str, text: str) -> Figure:
    """points: columns x, y. line: columns x, fitted, low, high, extrapolated. text: the fit, for the legend."""
    with styled():
        figure, axes = blank()
        for extrapolated, style in ((False, "-"), (True, "--")):
            part = line[line["extrapolated"] == extrapolated]
            axes.fill_between(part["x"], part["low"], part["high"], color=plain(1).colour, alpha=0.15, linewidth=0)
            shown = None if extrapolated else text
            axes.plot(part["x"], part["fitted"], style, color=plain(1).colour, linewidth=1.0, label=shown)
        axes.plot(points["x"], points["y"], "o", color=plain(0).colour, markersize=3)
        axes.set_xscale("log")
        axes.set_yscale("log")
        if points["y"].max() < 10 * points["y"].min():
            _plain_ticks(axes.yaxis)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend(loc="best")
        return figure


def surface_figure(points: pd.DataFrame, y: str, text: str) -> Figure:
    """points: columns observed, fitted, scale (N D): how far each loss lies from the surface, against N D."""
    with styled():
        figure, axes = blank()
        miss = 100 * (np.log(points["observed"]) - np.log(points["fitted"]))
        axes.plot(points["scale"], miss, "o", color=plain(1).colour, markersize=3, mfc="none", mew=0.7, label=text)
        axes.axhline(0.0, color="#000000", linewidth=0.7, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlabel("N D")
        axes.set_ylabel(f"{y} over the surface's (% in logs)")
        axes.legend(loc="best")
        return figure


def isoflop_figure(points: pd.DataFrame, sizes: np.ndarray, losses: np.ndarray, x: str) -> Figure:
    """points: columns budget, size, observed, fitted (missing where a budget is left out); sizes, losses: minima."""
    with styled():
        figure, axes = blank()
        for index, (budget, part) in enumerate(points.sort_values("size").groupby("budget")):
            axes.plot(part["size"], part["observed"], "o", color=plain(index).colour, markersize=3, label=f"{budget:g}")
            axes.plot(part["size"], part["fitted"], "-", color=plain(index).colour, linewidth=0.8)
        axes.plot(sizes, losses, "k*", markersize=6)
        axes.set_xscale("log")
        axes.set_xlabel(x)
        axes.set_ylabel("loss")
        axes.legend(loc="best", fontsize="x-small")
        return figure


def _plain_ticks(axis: Axis) -> None:
    """Few ticks with plain numbers: within a decade, powers of ten alone would be too few."""
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
