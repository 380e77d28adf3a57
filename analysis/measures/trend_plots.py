"""Figures and report sections of trends: a small picture for each measure, side by side.

In: the table of trends. Out: files in `figures/` and `Section`s. Nothing is computed here.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from analysis.figures.looks import Face, looks
from analysis.figures.overview import figure_suffix, save
from analysis.figures.style import (
    HEIGHT,
    OWN,
    WIDTH,
    Place,
    legend_above,
    means_with_bars,
    pictures,
    styled,
    wrapped,
)
from analysis.measures.trends import TRENDS, Trend
from analysis.page.rendering import Section, TextTable, picture
from analysis.tables.printing import label

_SHARE = 0.62  # of a figure's width that one of several pictures takes
_X_LETTERS, _Y_LETTERS = 30, 30  # of a line of an axis' name
_DODGE = 0.012  # of the axis' length between the points of two lines at one place
_OPEN: Face = {"fillstyle": "none"}
_LINES = ("-", "--", ":", "-.")


def trend_sections(table: pd.DataFrame, directory: Path) -> list[Section]:
    """Draw every trend of every panel into `directory`/figures; one section each."""
    parts = []
    for trend in TRENDS:
        of_trend = table[table["trend"] == trend.name]
        for panel, part in of_trend.groupby("panel", sort=False):
            title = f"{trend.title}{f', {panel}' if panel else ''}"
            figures = []
            if len(moving := _moving(part)):
                file = f"figures/{trend.name}{figure_suffix(str(panel))}.png"
                save(trend_figure(trend, moving), directory / file)
                measures = ", ".join(_shown(trend, moving).values()).capitalize()
                caption = (
                    f"{measures} against {trend.axis}. Means over up to {part['num_runs'].max()} seeds; bars: 95 % t"
                    " interval over seeds, where there are three or more."
                )
                figures.append(picture(directory, file, caption))
            parts.append(Section(title, figures=tuple(figures), tables=(_text_table(trend, part),)))
    return parts


def _moving(table: pd.DataFrame) -> pd.DataFrame:
    """The algorithms that stand at several places of the axis, with SFT, where they start; empty without any."""
    learners = table[table["algorithm"] != "sft"]
    moving = learners[learners.groupby(["algorithm", "data_size"])["at"].transform("nunique") > 1]
    return (
        table[(table["algorithm"] == "sft") | table["algorithm"].isin(moving["algorithm"])] if len(moving) else moving
    )


def trend_figure(trend: Trend, table: pd.DataFrame, place: Place = OWN) -> Figure:
    """One picture per measure; one line per algorithm and data size, starting at SFT's point if SFT is on the axis."""
    shown = _shown(trend, table)
    with styled():
        width = WIDTH * max(1.0, _SHARE * len(shown))
        figure, row = pictures(len(shown), (width, HEIGHT), place)
        for axes, (measure, name) in zip(row, shown.items(), strict=True):
            _draw(axes, table[table["measure"] == measure])
            axes.set_xlabel(wrapped(trend.axis, _X_LETTERS))
            axes.set_ylabel(wrapped(f"{name} (%)", _Y_LETTERS))
        legend_above(figure, place=place)
        return figure


def _draw(axes: Axes, table: pd.DataFrame) -> None:
    """Colour and marker show the algorithm, line and filling the data size; points stand side by side, not on top."""
    starts = table[table["algorithm"] == "sft"].set_index("data_size")
    others = table[table["algorithm"] != "sft"]
    lines = list(others.groupby(["algorithm", "data_size"], sort=False))
    of, sizes = looks(list(dict.fromkeys(others["algorithm"]))), list(dict.fromkeys(others["data_size"]))
    places = sorted(set(table["at"]))
    logarithmic = places[0] > 0 and places[-1] / places[0] > 8
    length = np.log(places[-1] / places[0]) if logarithmic else places[-1] - places[0]
    for number, ((algorithm, size), line) in enumerate(lines):
        if size in starts.index:
            line = pd.concat([starts.loc[[size]].reset_index(), line])
        mean, low, high = (100 * line[name].to_numpy(float) for name in ("mean", "low", "high"))
        look, turn = of[str(algorithm)], sorted(sizes).index(size)
        aside = _DODGE * length * (number - (len(lines) - 1) / 2)
        at = line["at"].to_numpy(float)
        at = at * np.exp(aside) if logarithmic else at + aside
        text = look.name + (f", D = {size:,}" if table["data_size"].nunique() > 1 else "")
        filled = look.face if turn % 2 == 0 else _OPEN
        means_with_bars(axes, at, mean, (low, high), look, text, _LINES[turn % len(_LINES)], filled)
    if logarithmic:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _shown(trend: Trend, table: pd.DataFrame) -> dict[str, str]:
    return {measure: name for measure, name in trend.measures.items() if (table["measure"] == measure).any()}


def _text_table(trend: Trend, table: pd.DataFrame) -> TextTable:
    names = _shown(trend, table)
    rows = [
        (label(str(algorithm)), f"{size:,}", f"{at:g}", *(_cell(group, measure) for measure in names))
        for (algorithm, size, at), group in table.groupby(["algorithm", "data_size", "at"], sort=False)
    ]
    note = "In percent, mean over seeds with the 95 % t interval over seeds. trends.csv has the numbers."
    return TextTable(("algorithm", "D", trend.axis.partition(";")[0], *names.values()), tuple(rows), note)


def _cell(group: pd.DataFrame, measure: str) -> str:
    found = group[group["measure"] == measure]
    if found.empty:
        return "-"
    row = found.iloc[0]
    limits = "" if np.isnan(row["low"]) else f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
    return f"{100 * row['mean']:.1f}{limits}"
