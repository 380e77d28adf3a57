"""The report's section on several base policies, with their learning curve of pretraining.

In: the table of base policies. Out: `figures/base.png` and a `Section`. Nothing is computed here.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.figures.looks import plain
from analysis.figures.overview import save
from analysis.figures.style import (
    HEIGHT,
    OWN,
    WIDTH,
    Place,
    legend_above,
    means_with_bars,
    pictures,
    sizes_on_x,
    styled,
)
from analysis.page.rendering import Section, TextTable, picture

FILE = "figures/base.png"
_WIDER = 1.3  # than a figure of one picture


def base_sections(table: pd.DataFrame, directory: Path) -> list[Section]:
    """Draw the curve into `directory`/figures if there are base policies to compare."""
    if len(table) < 2:
        return []
    save(base_figure(table), directory / FILE)
    caption = (
        "How far the base policy's loss on its web text exceeds the text's entropy, and its greedy error on"
        f" {table['num_problems'].max():,} test problems before any synthetic data, against the number of texts it was"
        " trained on. Each point is a single training, so there are no intervals."
    )
    rows = tuple(
        (
            *(row.size, str(row.pretrain_seed), f"{row.num_updates:,}", f"{row.num_texts:,}"),
            *(f"{row.loss:.3f}", f"{row.entropy:.3f}", f"{100 * row.error:.1f}"),
        )
        for row in table.itertuples(index=False)
    )
    hidden = int((table["excess_loss"] <= 0).sum())
    if hidden:
        caption += f" {hidden} whose loss does not exceed the entropy, by luck of the texts, are not drawn on the left."
    note = (
        "Loss and entropy in nats per token: the mean over the last part of training, and what no policy can predict of"
        f" the web text. Error: greedy, on {table['num_problems'].max():,} test problems. base.csv has the table: fit"
        " it with python -m analysis.fit base.csv --x num_texts --y excess_loss --out DIR, one size at a time."
    )
    columns = ("size", "pretrain.seed", "updates", "texts", "loss", "entropy", "error (%)")
    shown = TextTable(columns, rows, note)
    return [Section("Base policies", figures=(picture(directory, FILE, caption),), tables=(shown,))]


def base_figure(table: pd.DataFrame, place: Place = OWN) -> Figure:
    """Excess loss and test error against texts, a line for each size."""
    with styled():
        figure, (left, right) = pictures(2, (WIDTH * _WIDER, HEIGHT), place)
        for axes, measure, scale in zip((left, right), ("excess_loss", "error"), (1, 100), strict=True):
            for index, (size, rows) in enumerate(table.groupby("size", sort=False)):
                text = f"size {size}" if table["size"].nunique() > 1 else ""
                line = "" if rows["num_texts"].duplicated().any() else "-"  # replicates of one length are not joined
                rows = rows[rows[measure] > 0] if measure == "excess_loss" else rows
                means_with_bars(axes, rows["num_texts"], scale * rows[measure], None, plain(index), text, line)
            sizes_on_x(axes, table["num_texts"].to_numpy())
            axes.set_xlabel("web texts")
        if (table["excess_loss"] > 0).any():
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            left.yaxis.set_minor_formatter(NullFormatter())
        left.set_ylabel("loss above the text's entropy\n(nats per token)")
        right.set_ylabel("test error before any\nsynthetic data (%)")
        if table["size"].nunique() > 1:
            legend_above(figure, place=place)
        return figure
