"""Figures of many algorithms: each is told apart, and every text lies inside of the figure and meets no tick's text."""

from itertools import chain, combinations, pairwise
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from planted import planted

from analysis.figures import diagnostics, overview
from analysis.figures.compute import cost_figure
from analysis.figures.looks import looks
from analysis.figures.style import blank, cut, styled
from analysis.measures.base_policies import base_figure
from analysis.measures.critical_plots import critical_figure
from analysis.measures.trend_plots import trend_figure
from analysis.measures.trends import TRACES
from analysis.page.wording import SWEEP
from analysis.tables.outcomes import from_table
from analysis.tables.printing import short
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse

CLAIMS = {"dpo": "<=1", "step_dpo": 8}
ARMS = {f"dpo, learning_rate=0.0001, pairing=edit_distance, beta=0.{n}": 0.9 + 0.1 * n for n in range(1, 5)}
ARMS |= {
    f"step_dpo, pair_mode=shared_prefix, pit_rule=largest_drop, nll_weight=0.{n}": 1 + 0.1 * n for n in range(1, 6)
}
ARMS |= {"dpo, learning_rate=0.0003, pairing=random, beta=0.1": 1e-3}  # censored, far below all others
LADDER = (32, 64, 128, 256, 512, 1024, 2048, 4096)


@pytest.fixture(scope="module")
def study():
    reference = planted({"sft": 1.0}, sizes=LADDER, num_problems=60)
    others = planted(ARMS, sizes=(128, 256, 512), num_problems=60)
    return analyse(from_table(pd.concat([reference, others], ignore_index=True)), "sft", CLAIMS, num_draws=60)


@pytest.fixture(scope="module")
def figures(study):
    outcomes = study.outcomes
    flops = {
        (str(name), int(size)): 1e9 * size for name, size in zip(outcomes.algorithm, outcomes.data_size, strict=True)
    }
    return {
        "error": overview.error_figure(study, SWEEP, 0.9),
        "collapsed": overview.collapsed_figure(study, SWEEP),
        "multiplier": overview.multiplier_figure(study, SWEEP),
        "compute": cost_figure(study, flops, SWEEP.error_axis),
        "holdout": diagnostics.holdout_figure(study),
        "density": diagnostics.density_figure(study, CLAIMS),
        "spread": diagnostics.spread_figure(Panel(study)),
        "residual": diagnostics.residual_figure(study, SWEEP),
        "traces": trend_figure(TRACES, trends()),
        "base": base_figure(base_policies()),
    }


def trends() -> pd.DataFrame:
    """Four algorithms at two data sizes; two of them have one point, at the same place."""
    names = {
        "rft, keep=distinct": (1, 4, 16),
        "rft, keep=low_value": (4,),
        "rft, keep=high_value": (4,),
        "step_rft": (4, 32),
    }
    cells = [(name, size, at) for name, places in names.items() for size in (128, 256) for at in places]
    table = pd.DataFrame(cells, columns=["algorithm", "data_size", "at"])
    parts = [table.assign(measure=measure) for measure in TRACES.measures]
    return pd.concat(parts, ignore_index=True).assign(num_runs=3, mean=0.5, low=0.4, high=0.6)


def base_policies() -> pd.DataFrame:
    """Seven lengths of pretraining at each of four sizes."""
    lengths = (1500, 2120, 3000, 3600, 4240, 6000, 8480)
    cells = [(size, 192 * updates) for size in ("xxs", "xs", "s", "m") for updates in lengths]
    table = pd.DataFrame(cells, columns=["size", "num_texts"])
    return table.assign(excess_loss=1e5 / table["num_texts"], error=0.85)


NAMES = ("error", "collapsed", "multiplier", "compute", "holdout", "density", "spread", "residual", "traces", "base")


def drawn(figure):
    with styled():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas.get_renderer()


def _dashes(line) -> tuple:
    return line.get_fillstyle(), str(line._dash_pattern)


def tick_boxes(axis, limits, renderer):
    low, high = sorted(limits)
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_text()]
    return [tick.label1.get_window_extent(renderer) for tick in ticks if tick.label1.get_visible()]


@pytest.mark.parametrize("name", NAMES)
def test_every_text_lies_inside_of_the_figure(figures, name):
    figure = figures[name]
    renderer = drawn(figure)
    above = figure.legends or [axes.get_legend() for axes in figure.axes]
    texts = [text for one in above for text in one.get_texts()]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label, *(one for one in axes.get_children() if isinstance(one, Text))]
    for text in texts:
        box = text.get_window_extent(renderer)
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside or not text.get_text(), f"{text.get_text()!r} leaves the figure of {name}"
    for axes in figure.axes:
        lowest = (axes.get_legend() or figure.legends[0]).get_window_extent(renderer).y0
        assert axes.get_window_extent(renderer).y1 <= lowest + 1, "the legend covers axes"
        assert axes.yaxis.label.get_window_extent(renderer).y1 <= lowest + 1, "an axis' name runs into the legend"


@pytest.mark.parametrize("name", NAMES)
def test_ticks_do_not_meet(figures, name):
    figure = figures[name]
    renderer = drawn(figure)
    for axes in figure.axes:
        across = sorted((box.x0, box.x1) for box in tick_boxes(axes.xaxis, axes.get_xlim(), renderer))
        up = sorted((box.y0, box.y1) for box in tick_boxes(axes.yaxis, axes.get_ylim(), renderer))
        assert len(across) >= 2 and (len(up) >= 2 or axes is not figure.axes[0])  # axes beside share their ticks
        assert all(left[1] < right[0] for left, right in (*pairwise(across), *pairwise(up)))


@pytest.mark.parametrize("name", NAMES)
def test_no_two_entries_of_a_legend_look_alike(figures, name):
    handles = list(chain(*(axes.get_legend_handles_labels()[0] for axes in figures[name].axes)))
    handles = list({handle.get_label(): handle for handle in handles}.values())
    lines = [getattr(handle, "lines", (handle,))[0] for handle in handles]
    looks = [
        (line.get_color(), line.get_marker(), line.get_markerfacecolor(), line.get_linewidth(), *_dashes(line))
        for line in lines
    ]
    for (one, first), (other, second) in combinations(zip(handles, looks, strict=True), 2):
        claims = [str(handle.get_label()) for handle in (one, other) if "claim of" in str(handle.get_label())]
        assert first != second or len(claims) == 2, f"{one.get_label()!r} and {other.get_label()!r} look alike"


def test_thirty_five_variants_have_one_colour_and_looks_of_their_own():
    names = ["sft", *(f"rft, max_positives={number}" for number in range(35)), "dpo"]
    found = looks(names, "sft")
    variants = [found[name] for name in names[1:-1]]
    assert len({(look.marker, look.fill) for look in variants}) == 35 and len({look.colour for look in variants}) == 1
    assert len({found["sft"].colour, variants[0].colour, found["dpo"].colour}) == 3
    assert found["dpo"].colour == looks(["dpo"])["dpo"].colour == looks(["sft", "rft", "dpo"], "sft")["dpo"].colour


def test_single_points_of_two_algorithms_at_one_place_stand_beside_each_other(figures):
    lines = [container.lines[0].get_xdata() for container in figures["traces"].axes[0].containers]
    singles = [at[0] for at in lines if len(at) == 1]
    assert len(set(singles)) == len(singles) == 4 and all(at == pytest.approx(4, rel=0.2) for at in singles)


def test_names_in_figures_are_words_and_numbers():
    assert (
        short("dpo, learning_rate=0.00010, pairing=edit_distance") == "DPO, learning rate 0.0001, pairing edit distance"
    )
    assert short("step_dpo, beta=0.5, learning_rate=1e-05") == "Per-step DPO, beta 0.5, learning rate 1e-05"
    assert short("sft") == "SFT"


def test_places_with_few_traces_are_not_drawn():
    rows = [("rft", "q_value_from_pit", at, count, 0.5) for at, count in ((-3, 19), (-2, 20), (0, 400))]
    rows += [("rft", "q_value", 0, 400, 0.5)]
    table = pd.DataFrame(rows, columns=["algorithm", "measure", "at", "num_traces", "mean"]).assign(low=0.4, high=0.6)
    left, right = critical_figure(table).axes
    assert right.containers[0].lines[0].get_xdata().tolist() == [-2, 0]
    assert left.containers[0].lines[0].get_xdata().tolist() == [0]


def test_a_figure_that_leaves_marks_out_says_so(figures):
    # The arm far below all others has no number for all sizes any more, so nothing lies outside of these two.
    titles = {name: figures[name].axes[0].get_title(loc="left") for name in ("multiplier", "residual")}
    assert titles == {"multiplier": "", "residual": ""}
    with styled():
        _, axes = blank()
        axes.plot([1.0, 5.0], [1.0, 1.0])
        cut(axes, 0.0, 3.0)
    assert axes.get_title(loc="left") == "some marks lie outside" and axes.get_xlim()[1] == 3.0


@pytest.mark.parametrize(
    ("algorithms", "sizes", "arrows"),
    [
        (["rft", "dpo", "step_dpo", "awr"], [4], True),
        (["rft", "rft, k=3", "dpo", "step_dpo", "step_dpo, k=3"], [2, 1, 2], True),  # arrows of five would cover curves
        (["rft", "dpo", "step_dpo", "awr", "kto"], [5], False),  # five pairs of axes would be too narrow
        ([f"rft, k={k}" for k in range(5)], [5], False),
        ([f"rft, k={k}" for k in range(7)], [6, 1], True),
        ([], [0], False),
    ],
)
def test_algorithms_share_axes_as_long_as_their_arrows_can_be_read(algorithms, sizes, arrows):
    study = SimpleNamespace(outcomes=SimpleNamespace(algorithms=["sft", *algorithms]), reference="sft")
    assert [len(names) for names in overview._groups(study)] == sizes
    assert overview.has_arrows(study) is arrows
