"""The figure and the report section of critical steps: Q by step index, and around the first pit.

In: the table of critical steps. Out: files in `figures/` and `Section`s. Nothing is computed here.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.looks import looks
from analysis.figures.overview import figure_suffix, save
from analysis.figures.style import HEIGHT, OWN, WIDTH, Place, legend_above, means_with_bars, pictures, styled
from analysis.page.rendering import Section, TextTable, picture
from analysis.tables.printing import label

_REACH = 3  # steps before and after the first pit that are drawn; the table has all
_FEWEST = 20  # traces behind a mean that is drawn; the table has all


def critical_sections(table: pd.DataFrame, directory: Path) -> list[Section]:
    """Draw every panel into `directory`/figures; one section each."""
    parts = []
    for panel, part in table.groupby("panel", sort=False):
        shown = shown_size(part)
        size = int(shown["data_size"].iloc[0])
        file = f"figures/critical_steps{figure_suffix(str(panel))}.png"
        save(critical_figure(shown), directory / file)
        caption = (
            f"Q on wrong traces of the SFT policy, continued by each policy, at D = {size:,}: left by step index, right"
            " by steps from the first pit (0: after the pit itself), which other continuations of the SFT policy"
            f" found. {shown['num_traces'].max():,} traces of {shown['num_problems'].max():,} test problems,"
            f" {shown['num_seeds'].max()} seeds. Bars: 95 % crossed bootstrap over whole seeds and test problems, where"
            f" there are three seeds or more. Places with fewer than {_FEWEST} traces are in critical_steps.csv only."
        )
        title = f"Critical steps{f', {panel}' if panel else ''}"
        parts.append(Section(title, figures=(picture(directory, file, caption),), tables=(_text_table(part),)))
    return parts


def shown_size(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one panel that its figure shows: those of the size with the most algorithms, the largest in a tie."""
    counts = table.groupby("data_size")["algorithm"].nunique()
    return table[table["data_size"] == counts[counts == counts.max()].index.max()]


def critical_figure(table: pd.DataFrame, place: Place = OWN) -> Figure:
    """Q by step index, and by steps from the first pit; one line per algorithm."""
    with styled():
        figure, (left, right) = pictures(2, (1.6 * WIDTH, HEIGHT), place, sharey=True)
        table = table[table["num_traces"] >= _FEWEST]
        near = table[(table["measure"] == "q_value_from_pit") & table["at"].between(-_REACH, _REACH)]
        _draw(left, table[table["measure"] == "q_value"])
        _draw(right, near)
        left.set_xlabel("step index, 0: the first")
        right.set_xlabel("steps from the first pit")
        left.set_ylabel("Q: continuations that end right (%)")
        legend_above(figure, place=place)
        return figure


def _draw(axes: Axes, table: pd.DataFrame) -> None:
    of = looks(list(dict.fromkeys(table["algorithm"])), "sft")
    for algorithm, line in table.groupby("algorithm", sort=False):
        look = of[str(algorithm)]
        mean, low, high = (100 * line[name].to_numpy(float) for name in ("mean", "low", "high"))
        means_with_bars(axes, line["at"].to_numpy(float), mean, (low, high), look, look.name, look.dash)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _text_table(table: pd.DataFrame) -> TextTable:
    """The two summary numbers: Q just before the first pit, and the chance of the pit."""
    rows = []
    for (size, algorithm), part in table.groupby(["data_size", "algorithm"], sort=False):
        cells = [
            part[(part["measure"] == measure) & (part["at"] == at)]
            for measure, at in (("q_value_from_pit", -1), ("pit_probability", 0))
        ]
        texts = [text for cell in cells for text in (_percent(cell, ""), _percent(cell, "difference"))]
        rows.append((label(str(algorithm)), f"{size:,}", *texts))
    columns = (
        "algorithm",
        "D",
        "Q before the pit",
        "minus the reference's",
        "chance of the pit",
        "less the reference's",
    )
    note = (
        "In percent, with 95 % intervals. Q before the pit: after the last step before it, of traces whose pit is not"
        " the first step. Chance of the pit: that the policy writes exactly that step there, from its"
        " log-probabilities. Differences are paired over traces. critical_steps.csv has every step."
    )
    return TextTable(columns, tuple(rows), note)


def _percent(cell: pd.DataFrame, prefix: str) -> str:
    names = (f"{prefix}", f"{prefix}_low", f"{prefix}_high") if prefix else ("mean", "low", "high")
    if cell.empty or np.isnan(cell.iloc[0][names[0]]):
        return "-"
    value, low, high = (100 * cell.iloc[0][name] for name in names)
    sign = "+" if prefix else ""
    return f"{value:{sign}.1f}" + ("" if np.isnan(low) else f" ({low:{sign}.1f} to {high:{sign}.1f})")
