"""analysis.tables.printing and analysis.figures.looks: labels, widths, what legends name, m as an arrow."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from planted import planted
from test_tables import write

from analysis.api import fit_table
from analysis.figures import diagnostics, overview
from analysis.figures.looks import common_text, looks
from analysis.figures.style import styled
from analysis.page.wording import SWEEP
from analysis.tables.outcomes import from_table
from analysis.tables.printing import Printing, label, printing, short
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse
from scaling.config.errors import ConfigError
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep

LADDER = (64, 128, 256, 512, 1024, 2048)
NAMES = ["sft", "rft, keep=random, k=4", "rft, keep=random, k=16", "dpo, beta=0.10"]


@pytest.fixture(scope="module")
def study():
    table = planted({"sft": 1.0, "rft, keep=random, k=4": 2.0}, LADDER, num_problems=300)
    # As good as SFT at 256 to 563 problems: its multiplier falls from 4 to 1.1.
    falls = dict(zip((256, 333, 435, 563), LADDER, strict=False))
    moving = planted({"sft": 1.0}, tuple(falls), num_problems=300, seed=1).replace({"data_size": falls})
    table = pd.concat([table, moving.assign(algorithm="rft, keep=random, k=16")], ignore_index=True)
    return analyse(from_table(table[(table["algorithm"] == "sft") | (table["data_size"] <= 512)]), "sft", {}, 200)


def drawn(figure):
    with styled():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas.get_renderer()


def test_labels_name_an_algorithm_a_variant_and_a_setting_while_they_hold():
    asked = Printing({"step_dpo": "ours", "rft, k=4": "RFT-4", "beta=0.5": "strong"})
    with printing(asked):
        assert label("step_dpo, beta=0.5") == short("step_dpo, beta=0.5") == "ours, strong"
        assert label("rft, k=4") == short("rft, k=4") == "RFT-4"
        assert label("rft, k=8") == "RFT, k=8" and short("rft, k=8") == "RFT, k 8"
    assert label("step_dpo, beta=0.5") == "Per-step DPO, beta=0.5"


def test_legends_name_what_differs_and_the_text_above_the_axes_the_rest():
    found = looks(NAMES, "sft")
    assert [look.name for look in found.values()] == ["SFT", "RFT, k 4", "RFT, k 16", "DPO"]
    assert common_text(NAMES, "sft") == "RFT: keep random; DPO: beta 0.1"
    with printing(Printing({"beta=0.10": "weak", "keep=random": "any kept"})):
        assert common_text(NAMES, "sft") == "RFT: any kept; DPO: weak"
    with printing(Printing({"dpo, beta=0.10": "DPO-w"})):
        assert looks(NAMES, "sft")["dpo, beta=0.10"].name == "DPO-w"
        assert common_text(NAMES, "sft") == "RFT: keep random"


@pytest.mark.parametrize("width", [2.75, 6.5])
def test_figures_have_the_width_that_is_asked_for_and_their_text_lies_inside(study, width):
    with printing(Printing({}, width)):
        figures = [
            overview.error_figure(study, SWEEP, 0.9),
            overview.multiplier_figure(study, SWEEP),
            diagnostics.density_figure(study, {"rft": 2}),
            diagnostics.spread_figure(Panel(study)),
        ]
        for figure in figures:
            assert figure.get_figwidth() == width
            renderer = drawn(figure)
            texts = [text for one in figure.legends for text in one.get_texts()]
            for axes in figure.axes:
                texts += [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
                texts += [one for one in axes.get_children() if isinstance(one, Text)]
            for text in texts:
                box = text.get_window_extent(renderer)
                inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
                assert inside or not text.get_text() or text.get_clip_on(), text.get_text()
                assert text.get_fontsize() >= 6


def test_one_multiplier_is_an_arrow_at_equal_error_from_d_to_m_d(study):
    axes = overview.error_figure(study, SWEEP, None).axes[0]
    arrows = [one for one in axes.texts if one.arrow_patch is not None]
    expected = [verdict.headline.points[-1] for verdict in study.verdicts]
    assert {verdict.headline.kind for verdict in study.verdicts} == {"one number", "sizes"}
    for arrow, point in zip(arrows, expected, strict=True):
        (start, error), (end, same) = arrow.xyann, arrow.xy
        assert error == same and end / start == pytest.approx(point.estimate)
        assert point.data_size in (None, start)


def test_many_algorithms_are_drawn_apart_each_with_the_reference():
    names = [*(f"rft, k={k}" for k in range(4)), *(f"dpo, beta=0.{k}" for k in range(1, 4))]
    many = analyse(from_table(planted(dict.fromkeys(["sft", *names], 1.0), LADDER[:3], 4, 300)), "sft", {}, 60)
    figure = overview.error_figure(many, SWEEP, None)
    shown = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert sorted(map(len, shown)) == [4, 5] and all(texts[0] == "SFT" for texts in shown)
    assert sum(len(texts) - 1 for texts in shown) == len(names)


def test_axes_side_by_side_show_the_multipliers_of_both():
    arms = {f"rft, k={k}": 1.0 for k in range(4)} | {f"dpo, beta=0.{k}": 3.0 for k in range(1, 4)}
    many = analyse(from_table(planted({"sft": 1.0, **arms}, LADDER[:5], 4, 300)), "sft", {}, 60)
    figure = overview.multiplier_figure(many, SWEEP)
    assert len(figure.axes) == 2
    estimates = [item.estimate for item in many.multipliers if item.kind == "pointwise" and 0 < item.estimate < 99]
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert max(estimates) > 2 and low < min(estimates) and high > max(estimates)


def test_a_notebook_asks_for_a_width_and_labels():
    results = fit_table(planted({"sft": 1.0, "rft": 2.0}, num_problems=60), draws=200)
    figure = results.figure("error", width=2.75, labels={"rft": "Rejection"})
    assert figure.get_figwidth() == 2.75
    assert "Rejection" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    with pytest.raises(ValueError, match=r"width is 0\.5; it is a number of inches from 2"):
        results.figure("error", width=0.5)


def test_labels_and_widths_are_the_reports_alone(tmp_path: Path):
    grid = "grid: {algorithm: [sft, rft], data_size: [64, 128], rft.max_positives: [2, 4]}\n"
    bare, dressed = tmp_path / "bare", tmp_path / "dressed"
    bare.mkdir(), dressed.mkdir()
    text = 'labels: {rft: Rejection, "max_positives=4": four}\nfigure: {width: 2.75}\n'
    sweeps = [load_sweep(write(bare, grid)), load_sweep(write(dressed, grid, text))]
    assert sweeps[1].figure.width == 2.75 and sweeps[0].labels == {}
    plans = [plan(sweep, lambda stage: None) for sweep in sweeps]
    assert [stage.digest for stage in plans[0].stages] == [stage.digest for stage in plans[1].stages]
    with pytest.raises(ConfigError, match=r"labels names 'rtf'; expected an algorithm of the grid .sft, rft.*'rft'"):
        load_sweep(write(bare, grid, "labels: {rtf: Rejection}\n"))
    with pytest.raises(ConfigError, match=r"figure\.width"):
        load_sweep(write(bare, grid, "figure: {width: 40}\n"))


def test_terminal_and_report_use_the_labels():
    frame = pd.concat([planted({"sft": 1.0, "rft": 2.0}, num_problems=60)])
    with printing(Printing({"rft": "Rejection"})):
        results = fit_table(frame, draws=200)
    assert results.verdicts["sentence"][0].startswith("Rejection")
    assert results.verdicts["algorithm"].tolist() == ["rft"]
