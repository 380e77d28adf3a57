"""The figure of error against compute, from finished numbers.

In: a `Study` and the FLOPs of a run of each of its cells. Out: a matplotlib figure and the numbers in it as a table.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.looks import Look
from analysis.figures.overview import error_table
from analysis.figures.style import (
    OWN,
    Place,
    arms,
    blank,
    errors_on_y,
    legend,
    means_with_bars,
    name_axes,
    state_n,
    styled,
)
from analysis.verdicts.study import Study


def cost_table(study: Study, flops: Mapping[tuple[str, int], float]) -> pd.DataFrame:
    """algorithm, data_size, flops of one run, error and its interval, if known; on_front: no other cell beats it.

    The Pareto front: no other cell has a smaller mean error for the same FLOPs or fewer.
    """
    columns = ["algorithm", "data_size", "flops", "error", "error_low", "error_high"]
    table = error_table(study).reindex(columns=columns)  # NaN where a study has no intervals
    table["flops"] = [flops[cell] for cell in zip(table["algorithm"], table["data_size"], strict=True)]
    by_cost = table.sort_values(["flops", "error"], kind="stable")["error"]
    table["on_front"] = by_cost < by_cost.cummin().shift(fill_value=np.inf)
    return table


def cost_figure(study: Study, flops: Mapping[tuple[str, int], float], error_label: str, place: Place = OWN) -> Figure:
    """Test error against the compute of a run, log-log."""
    with styled():
        figure, axes = blank(place=place)
        draw_costs(axes, cost_table(study, flops), arms(study), study.reference)
        name_axes(axes, "FLOPs of one run, training and generation", error_label)
        state_n(axes, study)
        legend(axes, place)
        return figure


def draw_costs(axes: Axes, table: pd.DataFrame, names: Mapping[str, Look], reference: str) -> None:
    """Cell means with intervals, joined by lines; the reference's with their data sizes."""
    axes.set_xscale("log")
    errors_on_y(axes, table[["error", "error_low", "error_high"]])
    axes.margins(x=0.08)
    front = table[table["on_front"]].sort_values("flops")
    axes.plot(front["flops"], front["error"], color="#BBBBBB", linewidth=3.0, zorder=0, label="Pareto front")
    least, most = table["flops"].min(), table["flops"].max()
    if most < 1.01 * least:  # a single cost leaves the axis no width
        axes.set_xlim(least / 2, 2 * most)
    for name, look in names.items():
        part = table[table["algorithm"] == name].sort_values("data_size")
        limits = (part["error_low"], part["error_high"])
        means_with_bars(axes, part["flops"], part["error"], limits, look, look.name, look.dash)
        for row in part.itertuples() if name == reference else ():
            at, below = (row.flops, row.error), (-3, -8)  # the line falls
            axes.annotate(
                f"{row.data_size:,}", at, below, textcoords="offset points", ha="right", fontsize=6, color="#444444"
            )
