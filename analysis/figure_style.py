"""How figures look: sizes, colours, markers, axes and lines with bars, the same in all of them.

Colours are Okabe and Ito's, safe for colour-blind readers, and every algorithm has a marker of its own besides.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from analysis.study import Study
from analysis.wording import sample_size

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT = 4.2, 3.1  # inches; a column and a half of a two-column paper
_STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "savefig.dpi": 200,
    "svg.hashsalt": "scaling",  # the same figure gives the same bytes
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_LETTERS_PER_INCH, _HANDLE_LETTERS = 19, 9  # of a legend, and what a handle with its space takes
_PERCENTS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MULTIPLIERS = {  # an axis over less than this factor has these ticks, and those of longer axes
    np.inf: tuple(2.0**power for power in range(-8, 9)),
    16: (0.35, 0.7, 1.5, 3, 6, 12, 24),
    4: (0.4, 0.6, 0.8, 1.2, 2.5),
    2: (0.9, 1.1, 1.3, 1.4, 1.6, 1.8),
}


def styled() -> AbstractContextManager:
    """The settings under which figures are made and saved."""
    return matplotlib.rc_context(_STYLE)


def blank(height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def ordered(study: Study) -> Sequence[str]:
    """The reference first: an algorithm's place decides its colour and marker."""
    names = study.outcomes.algorithms
    first = [study.reference] if study.reference in names else []
    return [*first, *(name for name in names if name != study.reference)]


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def means_with_bars(
    axes: Axes,
    at: ArrayLike,
    means: ArrayLike,
    limits: tuple[ArrayLike, ArrayLike] | None,
    index: int,
    text: str,
    line: str = "-",
) -> None:
    """One algorithm's means with their intervals, in its colour and marker. limits: low and high; NaN: no bar there."""
    bars = None
    if limits is not None:
        low, high = (np.asarray(limit, float) for limit in limits)
        bars = np.clip([np.asarray(means) - low, high - np.asarray(means)], 0, None)
    axes.errorbar(
        at,
        means,
        yerr=None if bars is None or np.isnan(bars).all() else bars,
        fmt=marker(index),
        linestyle=line,
        color=colour(index),
        markersize=4,
        linewidth=0.9,
        elinewidth=0.8,
        capsize=1.5,
        label=text,
    )


def state_n(axes: Axes, study: Study, *more: str) -> None:
    """What the points rest on, small above the axes: n, seeds, what bars are where there are any, and more."""
    bars = ("bars: 95 %",) if study.error_low is not None else ()
    text = "; ".join((sample_size(study.outcomes), *bars, *more))
    axes.set_title(text, loc="right", fontsize=6, color="#444444")


def legend_above(figure: Figure) -> None:
    """The legend of the first axes above all of them, where it covers nothing: one row, two columns, or one if long."""
    handles, texts = figure.axes[0].get_legend_handles_labels()
    most = _LETTERS_PER_INCH * figure.get_figwidth()
    columns = next((number for number in (len(texts), 2) if _letters(texts, number) <= most), 1)
    figure.legend(handles, texts, loc="outside upper center", ncols=columns)


def sizes_on_x(axes: Axes, sizes: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(sizes.tolist()))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def percent_on_y(axes: Axes) -> None:
    axes.yaxis.set_major_locator(FixedLocator(_PERCENTS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def multipliers_on(axis, logarithmic: bool = True) -> None:
    """Ticks 1x, 2x, ... on an axis of multipliers, or of their log2, that shows all it will show."""
    low, high = axis.get_view_interval()
    span = high / low if logarithmic else 2.0 ** (high - low)
    ticks = {m for limit, more in _MULTIPLIERS.items() if span < limit for m in more}
    axis.set_major_locator(FixedLocator(sorted(ticks) if logarithmic else np.log2(sorted(ticks))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value if logarithmic else 2.0**value:.3g}x"))
    axis.set_minor_locator(NullLocator())


def _letters(texts: Sequence[str], columns: int) -> int:
    """How many letters wide a legend is."""
    parts = np.array_split(texts, columns)  # as matplotlib fills columns
    return sum(_HANDLE_LETTERS + max(map(len, part), default=0) for part in parts)
