"""Figures of a study, from finished numbers: error against data, curves shifted onto one, and the multipliers.

In: a `Study`. Out: matplotlib figures and the numbers in them as tables. A plot computes nothing.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from analysis.figures.looks import Look
from analysis.figures.style import (
    FARTHEST,
    HEIGHT,
    OWN,
    Place,
    arms,
    beside,
    blank,
    cut,
    errors_on_y,
    grow,
    legend,
    legend_above,
    means_with_bars,
    multipliers_on,
    name_axes,
    pictures,
    say_above,
    say_cut,
    sizes_on_x,
    state_n,
    state_n_once,
    styled,
)
from analysis.fitting.fits import Fit
from analysis.fitting.joint import Design
from analysis.multipliers.estimates import Multiplier
from analysis.page.rendering import as_table
from analysis.page.wording import Wording
from analysis.tables.printing import label
from analysis.verdicts.headline import number
from analysis.verdicts.study import Study

_WIDE = 500.0  # an axis of multipliers that spans a larger factor is cut to its points
_MOST_TOGETHER = 6  # algorithms in one pair of axes
_MOST_BESIDE = 3  # algorithms, each with its variants in axes of its own, if all in one would have no arrows
_WIDEST = 6.5  # inches, of a figure with several pairs of axes
_MOST_WITH_ARROWS = 4  # algorithms; the arrows of more would cover the curves
_SHORTEST_ARROW = 0.12  # of log m
_LINE = 7.0  # between numbers beside arrows, in points
_BESIDE = 16.0  # cells moved this many times beyond the data sizes, or more, lie outside the figure


def error_table(study: Study) -> pd.DataFrame:
    """algorithm, data_size, num_runs, error, its interval, and the joint fit: the content of the error figure."""
    outcomes = study.outcomes
    table = pd.DataFrame(
        {
            "algorithm": outcomes.algorithm,
            "data_size": outcomes.data_size,
            "num_runs": outcomes.present.sum(axis=1),
            "error": outcomes.errors,
        }
    )
    if study.error_low is not None:
        table["error_low"], table["error_high"] = study.error_low, study.error_high
    if study.curve is not None:
        table["fitted"] = _fitted(study)
    return table


def _fitted(study: Study) -> np.ndarray:
    """float64 [P]: an algorithm's errors from its joint fit with the reference, the reference's from its own curve."""
    outcomes, found = study.outcomes, np.full(len(study.outcomes.data_size), np.nan)
    if study.curve is not None:
        found[outcomes.cells_of(study.reference)] = study.curve[0].fitted[0]
    for name, model in study.models.items():
        found[outcomes.cells_of(name)] = model.constant.fitted[0, model.design.arm == 1]
    return found


def multiplier_table(study: Study) -> pd.DataFrame:
    """Every multiplier with its interval and censoring: the content of the multiplier figure."""
    return as_table(Multiplier, study.multipliers)


def band_table(study: Study) -> pd.DataFrame:
    """m(D) of the joint fit with a multiplier that may change with D, with limits that hold at all sizes at once."""
    bands = [model.band for model in study.models.values()]
    rows = [
        (one.algorithm, *row) for one in bands for row in zip(one.sizes, one.estimate, one.low, one.high, strict=True)
    ]
    return pd.DataFrame(rows, columns=["algorithm", "data_size", "m", "low", "high"])


def error_figure(study: Study, wording: Wording, base_error: float | None, place: Place = OWN) -> Figure:
    """Test error against data, log-log: every run, cell means with intervals, the joint fit, m as an arrow.

    Many algorithms are drawn apart, each with the reference.
    """
    with styled():
        figure, parts = _apart(study, place)
        for axes, names in parts:
            draw_errors(axes, study, names)
            if base_error is not None:
                axes.axhline(base_error, color="#888888", linewidth=0.7, linestyle=":")
                smallest = study.outcomes.data_size.min()
                axes.annotate(
                    "base policy", (smallest, base_error), (0, 2), textcoords="offset points", color="#666666"
                )
            sizes_on_x(axes, study.outcomes.data_size)
            name_axes(axes, wording.size_axis, wording.error_axis)
        _finish(figure, parts, study, _lines(study), inside=True, place=place)
        return figure


def collapsed_figure(study: Study, wording: Wording, place: Place = OWN) -> Figure | None:
    """The same cells against m D: if one multiplier describes an algorithm, they lie on the reference's curve."""
    if not any(study.described(name) for name in study.models):
        return None
    with styled():
        figure, axes = blank(place=place)
        draw_collapsed(axes, study)
        sizes = study.outcomes.data_size
        axes.set_xscale("log")
        cut(axes, sizes.min() / _BESIDE, sizes.max() * _BESIDE)
        sizes_on_x(axes, sizes)
        name_axes(axes, f"m D, problems worth of {label(study.reference)} data", wording.error_axis)
        state_n(axes, study, "line: the reference's curve")
        legend(axes, place)
        return figure


def multiplier_figure(study: Study, wording: Wording, place: Place = OWN) -> Figure | None:
    """Multiplier against data: points with intervals, arrows where censored, a band for the overall estimate."""
    if not study.multipliers:
        return None
    with styled():
        figure, parts = _apart(study, place)
        for axes, names in parts:
            draw_multipliers(axes, study, names)
            sizes_on_x(axes, study.outcomes.data_size)
            name_axes(axes, wording.size_axis, f"multiplier m (times more {label(study.reference)} data)")
        _finish(figure, parts, study, inside=False, place=place)
        return figure


def has_arrows(study: Study) -> bool:
    """Whether `error_figure` draws m as arrows."""
    return any(0 < len(names) <= _MOST_WITH_ARROWS for names in _groups(study))


def _groups(study: Study) -> list[list[str]]:
    """The algorithms of each pair of axes: all in one or, if there are many, the variants of each algorithm in one."""
    others = [name for name in study.outcomes.algorithms if name != study.reference]
    bases = dict.fromkeys(name.partition(",")[0] for name in others)
    if len(others) <= (_MOST_WITH_ARROWS if len(bases) <= _MOST_BESIDE else _MOST_TOGETHER):
        return [others]
    alike = ([name for name in others if name.partition(",")[0] == base] for base in bases)
    return [of[at : at + _MOST_TOGETHER] for of in alike for at in range(0, len(of), _MOST_TOGETHER)]


def _apart(study: Study, place: Place) -> tuple[Figure, list[tuple[Axes, list[str]]]]:
    """Axes with the algorithms in each; all in the same where the axes are given."""
    groups = _groups(study)
    if len(groups) == 1 or place.axes:
        figure, axes = blank(place=place)
        return figure, [(axes, list(chain(*groups)))]
    figure, row = pictures(len(groups), (_WIDEST, HEIGHT), place, sharey=True)
    return figure, list(zip(row, groups, strict=True))


def _finish(
    figure: Figure, parts: list[tuple[Axes, list[str]]], study: Study, *more: str, inside: bool, place: Place
) -> None:
    """Add the text above the axes and the legends: those of a single pair, or one above each of several."""
    if len(parts) == 1:
        state_n(parts[0][0], study, *more)
        legend(parts[0][0], place) if inside else legend_above(figure, place=place)
        return
    lines = [say_above(axes) for axes, _ in parts]
    for axes, _ in parts:
        axes.label_outer()
    grow(figure, max(lines))
    state_n_once(figure, study, *more)


def draw_errors(axes: Axes, study: Study, names: Sequence[str] | None = None) -> None:
    """Draw runs, cell means with intervals and the joint fit, or lines that join the means, and m as arrows.

    names: the algorithms beside the reference; None: all.
    """
    outcomes = study.outcomes
    errors_on_y(axes, outcomes.run_errors, *(_limits(study, slice(None)) or ()))
    shown = {name: look for name, look in arms(study).items() if names is None or name in (study.reference, *names)}
    for name, look in shown.items():
        cells = outcomes.cells_of(name)
        sizes = outcomes.data_size[cells]
        for cell in cells:
            runs = outcomes.run_errors[cell][outcomes.present[cell]]
            at = np.full(len(runs), outcomes.data_size[cell])
            axes.plot(at, runs, ".", color=look.colour, alpha=0.35, markersize=3)
        drawn = _curve_of(study, name)
        line = look.dash if drawn is None else "none"
        means_with_bars(axes, sizes, outcomes.errors[cells], _limits(study, cells), look, look.name, line)
        if drawn is not None:
            fit, design, arm, used = drawn
            turn = np.log(sizes[used].max())
            for low, high, strong in ((np.log(sizes.min()), turn, 1.0), (turn, np.log(sizes.max()), 0.4)):
                if low < high:
                    grid = np.linspace(low, high, 50)
                    curve = fit.curve(grid, arm, design)[0]
                    axes.plot(np.exp(grid), curve, linestyle=look.dash, color=look.colour, linewidth=0.9, alpha=strong)
    if len(shown) <= _MOST_WITH_ARROWS + 1:
        arrows = (_draw_arrow(axes, study, name, look) for name, look in shown.items() if name != study.reference)
        _spread(axes, [text for text in arrows if text is not None])


def _draw_arrow(axes: Axes, study: Study, name: str, look: Look) -> Annotation | None:
    """Draw m as an arrow at equal error, from the algorithm's D to the reference's m D; returns its number.

    One number for all sizes is drawn on the joint fit; without one, m at the largest size is drawn on the mean. Nothing
    is drawn if the arrow would leave the reference's sizes or be too short for a head.
    """
    outcomes, model, given = study.outcomes, study.described(name), study.verdict(name).headline
    known, sizes = outcomes.sizes_of(study.reference), study.sizes_of(name)
    if given is None or given.kind not in ("one number", "sizes"):
        return None
    m = given.points[-1].estimate
    inside = [size for size in sizes if known[0] <= m * size <= known[-1]]
    if not inside or abs(np.log(m)) < _SHORTEST_ARROW or (model is None and inside[-1] != sizes[-1]):
        return None
    size, error = inside[-1], float(outcomes.errors[outcomes.index(name, inside[-1])])
    if model is not None:
        error = float(model.constant.curve(np.log([size]), 1, model.design)[0, 0])
    style = {"arrowstyle": "-|>", "color": look.colour, "linewidth": 1.0, "shrinkA": 3, "shrinkB": 0}
    axes.annotate("", (m * size, error), (size, error), arrowprops=style)
    return axes.annotate(
        f"{number(m)}x", (max(size, m * size), error), (4, 0), textcoords="offset points", va="center",
        fontsize=6, color=look.colour,
    )  # fmt: skip


def _spread(axes: Axes, texts: Sequence[Annotation]) -> None:
    """Move numbers down where they would overlap."""
    last, points = np.inf, 72 / axes.figure.dpi
    for text in sorted(texts, key=lambda text: -float(text.xy[1])):
        at = points * axes.transData.transform(text.xy)[1]
        last = min(at, last - _LINE)
        text.set_position((4, last - at))


def _curve_of(study: Study, name: str) -> tuple[Fit, Design, int, np.ndarray] | None:
    """An algorithm's fit, its design, its place there and the cells used; None if no curve describes it."""
    if name == study.reference:
        if study.curve is None or not (_described(study) or not study.models):
            return None
        fit, design = study.curve
        return fit, design, 0, study.used[study.outcomes.cells_of(name)]
    model = study.described(name)
    return None if model is None else (model.constant, model.design, 1, model.used[model.design.arm == 1])


def _described(study: Study) -> bool:
    return any(study.described(name) is not None for name in study.models)


def _lines(study: Study) -> str:
    return "lines: joint fits" if _described(study) or not study.models else "lines join the means"


def draw_collapsed(axes: Axes, study: Study) -> None:
    """Cell means with intervals at m D, for algorithms that one number describes, and the reference's curve."""
    assert study.curve is not None
    outcomes, (fit, design) = study.outcomes, study.curve
    errors_on_y(axes, outcomes.errors, *(_limits(study, slice(None)) or ()))
    largest = smallest = 0.0
    for name, look in arms(study).items():
        model = study.described(name)
        if model is None and name != study.reference:
            continue
        cells = outcomes.cells_of(name)
        moved = np.log(outcomes.data_size[cells]) + (0.0 if model is None else np.log(model.multiplier[0]))
        smallest = min(smallest or moved.min(), moved.min())
        largest = max(largest, moved.max())
        limits = _limits(study, cells)
        means_with_bars(axes, np.exp(moved), outcomes.errors[cells], limits, look, look.name, "none")
    reached = np.log(outcomes.data_size[outcomes.cells_of(study.reference)].max())
    for low, high, style in ((smallest, reached, "-"), (reached, largest, "--")):
        if low < high:
            grid = np.linspace(low, high, 80)
            axes.plot(np.exp(grid), fit.curve(grid, 0, design)[0], style, color="#000000", linewidth=0.9)


def draw_multipliers(axes: Axes, study: Study, shown: Sequence[str] | None = None) -> None:
    """Point-wise multipliers with intervals; the overall one as a line with a band if it describes the curves.

    shown: the algorithms; None: all.
    """
    axes.set_yscale("log")
    looks = {name: look for name, look in arms(study).items() if name != study.reference}
    names = [name for name in looks if shown is None or name in shown]
    reach = [1.0]
    for index, name in enumerate(names):
        look, shade = looks[name], looks[name].colour
        points = [item for item in study.multipliers if item.algorithm == name and item.kind == "pointwise"]
        offset = beside(index, len(names), 1.05)
        sizes = study.outcomes.sizes_of(study.reference)
        for item in points:
            assert item.data_size is not None
            at = item.data_size * offset
            floor, ceiling = sizes[0] / item.data_size, sizes[-1] / item.data_size
            if item.right_censored > 0.5:
                m, low, high = item.at_least, item.at_least, np.inf
            elif item.left_censored > 0.5:
                m, low, high = floor, 0.0, floor
            else:
                m, low, high = item.estimate, item.low, item.high
            up, down = np.isinf(high), low == 0.0
            ends = (max(low, floor if down else low), min(high, max(ceiling, m) if up else high))
            reach += [m, *ends]
            axes.plot([at, at], ends, color=shade, linewidth=0.8)
            axes.plot(at, m, look.marker, color=shade, markersize=4, **look.face)
            for flag, end, away in ((up, ends[1], 8), (down, ends[0], -8)):
                if flag:
                    arrow = {"arrowstyle": "<-", "color": shade, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
                    axes.annotate("", (at, end), (0, away), textcoords="offset points", arrowprops=arrow)
        found, one = study.verdict(name), study.overall(name)
        text = look.name if found.headline is None else f"{look.name}: {found.headline.text}"
        if one is not None:
            axes.axhspan(one.low, one.high, color=shade, alpha=0.12, linewidth=0)
            axes.axhline(one.estimate, color=shade, linewidth=0.9, linestyle=look.dash)
        axes.plot([], [], look.marker, color=shade, markersize=4, label=text, **look.face)
        if found.code == "VARIES":
            band = study.models[name].band
            for limit in (band.low, band.high):
                axes.plot(band.sizes, limit, "--", color=shade, linewidth=0.6, alpha=0.6)
    axes.axhline(1.0, color="#000000", linewidth=0.7, linestyle=":")
    axes.autoscale(axis="y")  # axes that share it with others, which have set their own limits, span all of them
    bottom, top = low, high = axes.get_ylim()
    if high / low > _WIDE:  # the arm's overall multiplier lies outside the range of all points
        low, high = max(low, min(reach) / 2), min(high, 2 * max(reach))
    low, high = max(low, 1 / FARTHEST), min(high, FARTHEST)
    axes.set_ylim(low, high)
    if low > bottom or high < top:
        say_cut(axes)
    multipliers_on(axes.yaxis)


def save(figure: Figure, path: Path) -> None:
    """Write PNG, SVG and PDF, without time stamps."""
    with styled():
        drawn = BytesIO()
        figure.savefig(drawn, metadata={"Software": None})
        picture = Image.open(drawn)
        # A palette takes a third of the bytes of full colours, and a report holds all of its pictures.
        palette = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        palette.save(path.with_suffix(".png"), optimize=True, dpi=picture.info["dpi"])
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})


def figure_suffix(panel: str) -> str:
    """File-name ending of a panel's figures."""
    return f"-{''.join(c if c.isalnum() else '-' for c in panel)}" if panel else ""


def _limits(study: Study, cells: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray] | None:
    if study.error_low is None or study.error_high is None:
        return None
    return study.error_low[cells], study.error_high[cells]
