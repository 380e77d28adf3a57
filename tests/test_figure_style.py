"""analysis.figures.style: bars where there are limits, legends that fit and cover nothing, ticks that do not meet."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.figures.looks import plain
from analysis.figures.style import blank, legend_above, means_with_bars, multipliers_on, styled

LONG = "RFT, keep=random, max_positives=4: 1.54 (1.21 to 2.07)"


def drawn(figure):
    """The renderer of a figure that has been laid out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def bars_of(limits) -> list[tuple[float, float]]:
    with styled():
        _, axes = blank()
        means_with_bars(axes, [1, 2, 3], [0.5, 0.4, 0.3], limits, plain(0), "SFT")
    (container,) = axes.containers
    segments = [path[:, 1] for lines in container.lines[2] for path in lines.get_segments() if len(path)]
    return [tuple(ends) for ends in segments if not np.isnan(ends).any()]


def test_a_mean_has_a_bar_where_it_has_limits_and_none_elsewhere():
    low, high = np.array([0.4, np.nan, 0.2]), np.array([0.7, np.nan, 0.3])
    assert bars_of((low, high)) == [pytest.approx((0.4, 0.7)), pytest.approx((0.2, 0.3))]
    assert bars_of((np.full(3, np.nan), np.full(3, np.nan))) == bars_of(None) == []


def test_a_limit_on_the_wrong_side_of_the_mean_gives_no_bar_of_negative_length():
    low, high = np.array([0.5 + 1e-9, 0.3, 0.3]), np.array([0.6, 0.5, 0.3 - 1e-9])
    assert bars_of((low, high))[0] == pytest.approx((0.5, 0.6))


@pytest.mark.parametrize("texts", [["SFT"], ["SFT", "RFT", "DPO", "Per-step DPO"], [LONG] * 2, ["RFT", LONG] * 4])
def test_a_legend_lies_above_the_axes_and_inside_of_the_figure(texts):
    with styled():
        figure, axes = blank()
        for index, text in enumerate(texts):
            means_with_bars(axes, [1, 2], [0.5, 0.4], None, plain(index), text)
        legend_above(figure)
        renderer = drawn(figure)
        (legend,) = figure.legends
        place = legend.get_window_extent(renderer)
        assert place.y0 >= axes.get_window_extent(renderer).y1
        assert place.x0 >= 0 and place.x1 <= figure.bbox.x1 and place.y1 <= figure.bbox.y1
        assert [text.get_text() for text in legend.get_texts()] == texts


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("low", [0.01, 0.3, 0.8, 1.0, 5.0])
@pytest.mark.parametrize("span", [1.6, 1.9, 2.1, 3.9, 4.1, 8.0, 15.0, 17.0, 200.0])
def test_ticks_of_multipliers_do_not_meet(low, span, logarithmic):
    with styled():
        figure, axes = blank()
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(low, low * span)
        else:
            axes.set_xlim(np.log2(low), np.log2(low * span))
        multipliers_on(axes.xaxis, logarithmic)
        renderer = drawn(figure)
        inside = [
            tick.label1.get_window_extent(renderer)
            for tick in axes.xaxis.get_major_ticks()
            if axes.viewLim.x0 <= tick.get_loc() <= axes.viewLim.x1
        ]
    places = sorted((box.x0, box.x1) for box in inside)
    assert len(places) >= 1 + (span >= 4)  # powers of two at least
    assert all(left[1] < right[0] for left, right in pairwise(places)), axes.xaxis.get_majorticklocs()
