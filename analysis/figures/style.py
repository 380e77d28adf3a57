"""The style of all figures: sizes, axes, legends, and lines with bars.

In: axes and finished numbers. Out: marks on them. analysis.figures.looks has colours and markers.
"""

import io
import math
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from matplotlib.typing import RcKeyType
from numpy.typing import ArrayLike

from analysis.figures.looks import Dash, Face, Look, common_text, looks
from analysis.page.wording import sample_size
from analysis.tables.printing import current
from analysis.verdicts.study import Study

WIDTH, HEIGHT = 4.2, 3.1  # inches; a column and a half of a two-column paper
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
_LETTERS_PER_INCH, _HANDLE_LETTERS = 19, 9  # of a legend; letters' worth of space that a handle takes
_LEAST_WIDTH, _LEAST_HEIGHT = 1.9, 0.75  # inches, of axes; of a narrow figure, relative to its usual height
_SMALL_LETTERS, _NAME_LETTERS = 24, 16  # per inch, of the text above axes, and of their names
_NARROW, _LEAST_APART = 3.5, 0.14  # inches, below which a figure is narrow; between ticks there, relative to the axis
_MOST_INSIDE = 5  # entries of a legend in the axes
_ROWS_ABOVE = 3  # rows of a legend above the axes for which a figure has room
_ROW_HEIGHT, _SMALL_ROW_HEIGHT = 0.16, 0.12  # inches, of each further row of a legend; of a row of a small legend
_AXES_SHARE, _SHARED_SHARE, _DIGIT_WIDTH = 0.76, 0.66, 0.073  # of a figure's width, alone and side by side; inches
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
    number: int,
    size: tuple[float, float],
    place: Place = OWN,
    sharey: bool = False,
    least_width: float = _LEAST_WIDTH,
    row_share: float = 0.75,
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with `number` pairs of axes, in rows as its width allows. size: width and height of one row in inches.

    The width is that of the place, or else what the user asks for, or else that of `size`. least_width: of axes, in
    inches; row_share: the height of each of several rows, relative to that of one.
    """
    if not place.axes:
        width = place.size[0] if place.size else current().width or size[0]
        columns = min(number, max(1, int(width / least_width)))
        rows = math.ceil(number / columns)
        share = min(max(columns * width / (number * size[0]), _LEAST_HEIGHT), 1.1) if rows == 1 else row_share
        figure = ShownFigure(figsize=place.size or (width, rows * share * size[1]), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
        for axes in grid.flat[number:]:
            axes.remove()
        return figure, list(grid.flat[:number])
    if len(place.axes) != number:
        expected = "one pair of axes" if number == 1 else f"{number} pairs of axes, in a sequence"
        raise ValueError(f"ax has {len(place.axes)} pairs of axes; this figure takes {expected}.")
    return _figure_of(place.axes[0]), place.axes


def arms(study: Study) -> dict[str, Look]:
    """The look of every algorithm of a study, the reference first."""
    names = study.outcomes.algorithms
    first = [study.reference] if study.reference in names else []
    return looks([*first, *(name for name in names if name != study.reference)], study.reference)


def wrapped(text: str, letters: int) -> str:
    """A long text on several lines."""
    return textwrap.fill(text, letters, break_long_words=False, break_on_hyphens=False)


def means_with_bars(
    axes: Axes,
    at: ArrayLike,
    means: ArrayLike,
    limits: tuple[ArrayLike, ArrayLike] | None,
    look: Look,
    text: str,
    line: Dash = "-",
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
        fmt=look.marker,
        linestyle=line,
        color=look.colour,
        markersize=4,
        linewidth=0.9,
        elinewidth=0.8,
        capsize=1.5,
        label=text,
        **(look.face if filled is None else filled),
    )


def state_n(axes: Axes, study: Study, *more: str) -> None:
    """The basis of the points, small above the axes: n, seeds, the meaning of bars if there are any, and more."""
    text = "; ".join((*filter(None, [axes.get_title(loc="left")]), *_basis(study, more)))
    axes.set_title("", loc="left")
    axes.set_title(_small(text, _inches(axes)), loc="right", fontsize=6, color="#444444")


def state_n_once(figure: Figure, study: Study, *more: str) -> None:
    """The same above all axes of a figure."""
    text = _small("; ".join(_basis(study, more)), figure.get_figwidth())
    figure.suptitle(text, x=0.99, ha="right", fontsize=6, color="#444444")


def say_above(axes: Axes) -> int:
    """Put a small legend above axes, with the text that is already there as its title; returns its number of lines."""
    handles, texts = axes.get_legend_handles_labels()
    letters = int(_LETTERS_PER_INCH * _inches(axes)) - _HANDLE_LETTERS // 2
    shown = [wrapped(_number_whole(text), letters).replace(_JOIN, " ") for text in texts]
    title = axes.get_title(loc="left")
    axes.set_title("", loc="left")
    axes.legend(
        handles,
        shown,
        title=title,
        fontsize=6,
        title_fontsize=6,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        alignment="left",
    )
    return len(shown) + sum(text.count("\n") for text in shown)


def grow(figure: Figure, lines: int) -> None:
    """Make room above every row of axes for small legends of this many lines."""
    rows = _rows(figure.axes[0])
    figure.set_figheight(figure.get_figheight() + rows * _SMALL_ROW_HEIGHT * lines)


def _basis(study: Study, more: Sequence[str]) -> list[str]:
    bars = ["bars: 95 %"] if study.error_low is not None else []
    common = common_text(study.outcomes.algorithms, study.reference)
    return [sample_size(study.outcomes), *bars, *more, *([common] if common else [])]


def _small(text: str, inches: float) -> str:
    return wrapped(text, max(20, int(_SMALL_LETTERS * inches)))


def legend(axes: Axes, place: Place = OWN) -> None:
    """A legend in the lower left corner, where falling curves leave room, or above the axes if it has many entries."""
    if 0 < len(axes.get_legend_handles_labels()[1]) <= _MOST_INSIDE:
        axes.legend(loc="lower left")
    else:
        legend_above(_figure_of(axes), room=0, place=place)


def legend_above(figure: Figure, room: int = _ROWS_ABOVE, place: Place = OWN) -> None:
    """A legend above all axes, where it covers nothing: one row, two columns, or one if it is long.

    Entries that are too long for one line take several. The figure grows by the rows for which it has no `room`, unless
    its size was asked for. If the axes are the caller's, the legend stands above the first of them.
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


def name_axes(axes: Axes, x: str, y: str | None = None) -> None:
    """Name the axes, on several lines where they are short."""
    axes.set_xlabel(wrapped(x, max(12, int(_NAME_LETTERS * _inches(axes)))))
    if y is not None:
        height = _figure_of(axes).get_figheight() / _rows(axes)
        axes.set_ylabel(wrapped(y, max(12, int(_NAME_LETTERS * _AXES_SHARE * height))))


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
    """Ticks 1x, 2x, ... on an axis of multipliers, or of their log2, once everything on it is drawn."""
    low, high = axis.get_view_interval()
    span = high / low if logarithmic else 2.0 ** (high - low)
    ticks = {m for limit, more in _MULTIPLIERS.items() if span < limit for m in more}
    if span > 2.0**_MOST_DOUBLINGS:
        apart = 2 ** math.ceil(math.log2(math.log2(span) / _MOST_DOUBLINGS) + 0.5)
        ticks = {2.0**power for power in range(-16 * apart, 16 * apart + 1, apart)}
    if (current().width or _NARROW) < _NARROW:
        ticks = _thinned(ticks, _LEAST_APART * math.log2(span))
    axis.set_major_locator(FixedLocator(sorted(ticks) if logarithmic else np.log2(sorted(ticks)).tolist()))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value if logarithmic else 2.0**value:.3g}x"))
    axis.set_minor_locator(NullLocator())


def _thinned(ticks: set[float], apart: float) -> set[float]:
    """The ticks that stay this many doublings apart, powers of two first."""
    kept: set[float] = set()
    for tick in sorted(ticks, key=lambda m: (not math.log2(m).is_integer(), abs(math.log2(m)))):
        if all(abs(math.log2(tick / other)) >= apart for other in kept):
            kept.add(tick)
    return kept


def cut(axes: Axes, low: float, high: float) -> None:
    """Cut the axis to low and high, and say so if something lies outside."""
    left, right = axes.get_xlim()
    if left < low or right > high:
        axes.set_xlim(max(left, low), min(right, high))
        say_cut(axes)


def say_cut(axes: Axes) -> None:
    """A note above the axes, which `state_n` takes into its text."""
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
    return name + colon + ", ".join(part.replace(" ", _JOIN) for part in value.split(", "))


def _inches(axes: Axes) -> float:
    """About how wide axes will be: layouts are made later. Axes that stand in no grid have their place already."""
    figure, spec = axes.get_figure(), axes.get_subplotspec()
    if spec is None or not isinstance(figure, Figure):
        return float(axes.get_window_extent().width) / _figure_of(axes).dpi
    columns: int = spec.get_gridspec().ncols
    return (_AXES_SHARE if columns == 1 else _SHARED_SHARE) * figure.get_figwidth() / columns


def _rows(axes: Axes) -> int:
    spec = axes.get_subplotspec()
    return 1 if spec is None else int(spec.get_gridspec().nrows)


def _apart(axes: Axes, places: Sequence[int]) -> set[int]:
    """The places, given in ascending order on a logarithmic axis, whose numbers do not overlap."""
    low, high = axes.get_xlim()
    per_inch = np.log(high / low) / _inches(axes)
    shown, free = set(), np.inf
    for place in reversed([place for place in places if low <= place <= high]):
        half = per_inch * _DIGIT_WIDTH * (len(f"{place:,}") + 0.5) / 2
        if np.log(place) + half <= free:
            shown.add(place)
            free = np.log(place) - half
    return shown
