"""The style of all figures: sizes, colours, markers, axes and lines with bars.

Colours are Okabe and Ito's, safe for colour-blind readers, and every algorithm also has its own marker. Only
the reference is black; after six algorithms the colours repeat with other markers, half filled.
"""

import io
import math
import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypedDict

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from matplotlib.typing import RcKeyType
from numpy.typing import ArrayLike

from analysis.page.wording import sample_size
from analysis.verdicts.judge import label
from analysis.verdicts.study import Study

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH, HEIGHT = 4.2, 3.1  # inches; a column and a half of a two-column paper
_AGAIN = len(COLOURS) - 1
_JOIN = "\N{NO-BREAK SPACE}"
FARTHEST = 300.0  # multipliers beyond it or its inverse lie outside a figure
_STYLE: dict[RcKeyType, object] = {
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
_MOST_INSIDE = 5  # entries of a legend in the axes
_ROWS_ABOVE = 3  # rows of a legend above the axes for which a figure has room
_ROW_HEIGHT = 0.16  # inches, of each more
_AXES_SHARE, _DIGIT_WIDTH = 0.76, 0.073  # of a figure's width; inches
_ABOVE_TITLE = 1.07  # of the height of axes, where a legend above their title begins
_MOST_BESIDE = 5  # algorithms side by side at full distance
_MOST_DOUBLINGS = 9  # of an axis with a tick at each power of two
_PERCENTS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_MULTIPLIERS = {  # an axis over less than this factor has these ticks, and those of longer axes
    np.inf: tuple(2.0**power for power in range(-8, 9)),
    16: (0.35, 0.7, 1.5, 3, 6, 12, 24),
    4: (0.4, 0.6, 0.8, 1.2, 2.5),
    2: (0.9, 1.1, 1.3, 1.4, 1.6, 1.8),
}


@dataclass(frozen=True)
class Place:
    """Where a figure is drawn: on new axes, or on the caller's."""

    size: tuple[float, float] | None = None  # width and height of new axes' figure in inches; None: the figure's own
    axes: tuple[Axes, ...] = ()  # the caller's; empty: new ones


OWN = Place()


class Face(TypedDict, total=False):
    """How markers are filled, as matplotlib's keywords; empty: with their colour."""

    fillstyle: Literal["left", "none"]
    markerfacecolor: str
    markerfacecoloralt: str


HOLLOW: Face = {"markerfacecolor": "none"}


class ShownFigure(Figure):
    """A figure that a notebook shows: without pyplot, IPython would print only its type."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with styled():
            self.savefig(file, format="png")
        return file.getvalue()


def styled() -> AbstractContextManager[None]:
    """The settings under which figures are made and saved."""
    return matplotlib.rc_context(_STYLE)


def blank(height: float = HEIGHT, place: Place = OWN) -> tuple[Figure, Axes]:
    """A figure with one pair of axes. height: in inches, of new axes without a size."""
    figure, (axes,) = pictures(1, (WIDTH, height), place)
    return figure, axes


def pictures(
    number: int, size: tuple[float, float], place: Place = OWN, sharey: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with `number` pairs of axes in a row. size: width and height in inches of new axes without a size."""
    if not place.axes:
        figure = ShownFigure(figsize=place.size or size, layout="constrained")
        return figure, list(figure.subplots(1, number, squeeze=False, sharey=sharey)[0])
    if len(place.axes) != number:
        expected = "one pair of axes" if number == 1 else f"{number} pairs of axes, in a sequence"
        raise ValueError(f"ax has {len(place.axes)} pairs of axes; this figure takes {expected}.")
    return _figure_of(place.axes[0]), place.axes


def ordered(study: Study) -> Sequence[str]:
    """The reference first: an algorithm's place decides its colour and marker."""
    names = study.outcomes.algorithms
    first = [study.reference] if study.reference in names else []
    return [*first, *(name for name in names if name != study.reference)]


def colour(index: int) -> str:
    return COLOURS[0] if index == 0 else COLOURS[1 + (index - 1) % _AGAIN]


def marker(index: int) -> str:
    """Every pair of a colour and a marker is one algorithm's, up to 42 of them."""
    return MARKERS[0] if index == 0 else MARKERS[1 + sum(divmod(index - 1, _AGAIN)) % (len(MARKERS) - 1)]


def face(index: int) -> Face:
    """How markers are filled: half if their colour repeats. Open markers have another meaning in some figures."""
    again = index > 0 and (index - 1) // _AGAIN % 2 == 1
    return {"fillstyle": "left", "markerfacecoloralt": "#FFFFFF"} if again else {}


def short(algorithm: str) -> str:
    """An algorithm's name in a figure: its settings in words, without signs. Tables have the full name."""
    name, *settings = label(algorithm).split(", ")
    text = ", ".join([name, *(_in_words(setting) for setting in settings)]).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # a legend leaves out what begins so


def wrapped(text: str, letters: int) -> str:
    """A long text on several lines."""
    return textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)


def means_with_bars(
    axes: Axes,
    at: ArrayLike,
    means: ArrayLike,
    limits: tuple[ArrayLike, ArrayLike] | None,
    index: int,
    text: str,
    line: str = "-",
    filled: Face | None = None,
) -> None:
    """One algorithm's means with their intervals, in its colour and marker. limits: low and high; NaN: no bar there.

    filled: how markers are filled, if that has a meaning beyond the algorithm.
    """
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
        **(face(index) if filled is None else filled),
    )


def state_n(axes: Axes, study: Study, *more: str) -> None:
    """The basis of the points, small above the axes: n, seeds, the meaning of bars if there are any, and more."""
    bars = ("bars: 95 %",) if study.error_low is not None else ()
    text = "; ".join((sample_size(study.outcomes), *bars, *more))
    axes.set_title(text, loc="right", fontsize=6, color="#444444")


def legend(axes: Axes, place: Place = OWN) -> None:
    """A legend in the lower left corner, where falling curves leave room, or above the axes if it has many entries."""
    if 0 < len(axes.get_legend_handles_labels()[1]) <= _MOST_INSIDE:
        axes.legend(loc="lower left")
    else:
        legend_above(_figure_of(axes), room=0, place=place)


def legend_above(figure: Figure, room: int = _ROWS_ABOVE, place: Place = OWN) -> None:
    """A legend above all axes, where it covers nothing: one row, two columns, or one if it is long.

    Entries that are too long for a line have several, and the figure grows by the rows for which it has no `room`,
    unless its size is asked for or its axes are the caller's: there the legend stands above the first of them.
    """
    first = place.axes[0] if place.axes else figure.axes[0]
    handles, texts = first.get_legend_handles_labels()
    if not texts:
        return
    most = int(_LETTERS_PER_INCH * (_inches(first) if place.axes else figure.get_figwidth()))
    columns = next((number for number in (len(texts), 2) if _letters(texts, number) <= most), 1)
    if columns == 1:
        texts = [wrapped(_number_whole(text), most - _HANDLE_LETTERS).replace(_JOIN, " ") for text in texts]
    if place.axes:
        first.legend(handles, texts, loc="lower center", bbox_to_anchor=(0.5, _ABOVE_TITLE), ncols=columns)
        return
    lines = sum(1 + text.count("\n") for text in texts)
    rows = math.ceil(lines / columns)
    if rows > room and place.size is None:
        figure.set_figheight(figure.get_figheight() + _ROW_HEIGHT * (rows - room))
    figure.legend(handles, texts, loc="outside upper center", ncols=columns)


def sizes_on_x(axes: Axes, sizes: np.ndarray) -> None:
    """A tick at each size; if their numbers would overlap, the largest sizes take precedence."""
    axes.set_xscale("log")
    places = sorted(set(sizes.tolist()))
    shown = _apart(axes, places)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value in shown else ""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def errors_on_y(axes: Axes, *drawn: ArrayLike) -> None:
    """A logarithmic axis for these errors in percent, before they are drawn; a linear one if all are 0."""
    shown = np.concatenate([np.ravel(np.asarray(errors, float)) for errors in drawn])
    positive = shown[shown > 0]
    if len(positive) == 0:
        axes.set_ylim(-0.02, 0.5)
    else:
        axes.set_yscale("log")
        if positive.max() < 1.01 * positive.min():  # a single error leaves the axis no height
            axes.set_ylim(positive.min() / 2, 2 * positive.max())
        if (shown == 0).any():
            say_cut(axes)
    axes.yaxis.set_major_locator(FixedLocator(_PERCENTS if len(positive) else (0.0, *_PERCENTS)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def multipliers_on(axis: Axis, logarithmic: bool = True) -> None:
    """Ticks 1x, 2x, ... on an axis of multipliers, or of their log2, that shows all it will show."""
    low, high = axis.get_view_interval()
    span = high / low if logarithmic else 2.0 ** (high - low)
    ticks = {m for limit, more in _MULTIPLIERS.items() if span < limit for m in more}
    if span > 2.0**_MOST_DOUBLINGS:
        apart = 2 ** math.ceil(math.log2(math.log2(span) / _MOST_DOUBLINGS) + 0.5)
        ticks = {2.0**power for power in range(-16 * apart, 16 * apart + 1, apart)}
    axis.set_major_locator(FixedLocator(sorted(ticks) if logarithmic else np.log2(sorted(ticks)).tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value if logarithmic else 2.0**value:.3g}x"))
    axis.set_minor_locator(NullLocator())


def cut(axes: Axes, low: float, high: float) -> None:
    """Cut the axis to low and high, and say so if something lies outside."""
    left, right = axes.get_xlim()
    if left < low or right > high:
        axes.set_xlim(max(left, low), min(right, high))
        say_cut(axes)


def say_cut(axes: Axes) -> None:
    axes.set_title("some marks lie outside", loc="left", fontsize=6, color="#444444")


def beside(index: int, num: int, step: float) -> float:
    """A factor on a logarithmic axis that separates the points of several algorithms."""
    factor: float = step ** ((index - (num - 1) / 2) * min(1.0, _MOST_BESIDE / num))
    return factor


def _figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None  # only removed axes have no figure
    return figure


def _letters(texts: Sequence[str], columns: int) -> int:
    """How many letters wide a legend is."""
    parts = np.array_split(texts, columns)  # as matplotlib fills columns
    return sum(_HANDLE_LETTERS + max(map(len, part), default=0) for part in parts)


def _number_whole(text: str) -> str:
    """What follows a colon, a number with its limits, stays on one line."""
    name, colon, value = text.partition(": ")
    return name + colon + value.replace(" ", _JOIN)


def _in_words(setting: str) -> str:
    name, equals, value = setting.partition("=")
    if not equals:
        return setting
    if re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", value):
        value = f"{float(value):g}"
    return f"{name} {value}".replace("_", " ")


def _inches(axes: Axes) -> float:
    """About how wide axes will be: layouts are made later. Axes that stand in no grid have their place already."""
    figure, spec = axes.get_figure(), axes.get_subplotspec()
    if spec is None or not isinstance(figure, Figure):
        return float(axes.get_window_extent().width) / _figure_of(axes).dpi
    columns: int = spec.get_gridspec().ncols
    return _AXES_SHARE * figure.get_figwidth() / columns


def _apart(axes: Axes, places: Sequence[int]) -> set[int]:
    """Those of growing places on a logarithmic axis whose numbers do not meet."""
    low, high = axes.get_xlim()
    per_inch = np.log(high / low) / _inches(axes)
    shown, free = set(), np.inf
    for place in reversed([place for place in places if low <= place <= high]):
        half = per_inch * _DIGIT_WIDTH * (len(f"{place:,}") + 0.5) / 2
        if np.log(place) + half <= free:
            shown.add(place)
            free = np.log(place) - half
    return shown
