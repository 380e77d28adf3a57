"""analysis.figures.diagnostics: the tables hold what the study found, and every figure is drawn from them."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from planted import SIZES, planted

from analysis import diagnostic_plots
from analysis.figures import diagnostics, overview
from analysis.figures.style import styled
from analysis.page.wording import SWEEP
from analysis.tables.outcomes import from_table
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse

CLAIMS = {"rft": 2, "dpo": "<=1"}
EXTRA = {"density": (CLAIMS,), "residual": (SWEEP,)}  # arguments after the study


@pytest.fixture(scope="module")
def study():
    table = planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_problems=200)
    return analyse(from_table(table), "sft", CLAIMS, num_draws=200)


def shown(name, study):
    return Panel(study) if name == "spread" else study


def test_the_density_integrates_to_one_and_peaks_near_the_estimate(study):
    table = diagnostics.density_table(study)
    for name, part in table.groupby("algorithm"):
        assert np.trapezoid(part["density"], part["log2_m"]) == pytest.approx(1.0, abs=0.01)
        peak = part["log2_m"].iloc[part["density"].argmax()]
        overall = study.overall(name)
        assert np.log2(overall.low) < peak < np.log2(overall.high)


def test_the_spread_holds_every_way_of_fitting(study):
    table = diagnostics.spread_table(Panel(study))
    of_rft = table[table["algorithm"] == "rft"]
    assert set(of_rft["kind"]) >= {"joint fit", "form", "variant", "form-free"}
    assert (of_rft["kind"] == "variant").sum() == 3
    (headline,) = of_rft.loc[of_rft["kind"] == "joint fit", "m"]
    assert headline == study.overall("rft").estimate


def test_residuals_are_errors_minus_the_fit_and_their_intervals_hold_them(study):
    table = diagnostics.residual_table(study)
    assert len(table) == 3 * len(SIZES)
    miss = table["observed"] - table["fitted"]
    assert ((table["low"] <= miss) & (miss <= table["high"])).all()


def test_held_out_cells_are_all_in_the_table(study):
    table = diagnostics.holdout_table(study)
    assert set(table["form"]) == {"pow2", "pow3", "last1"}
    assert (table.groupby(["form", "num_dropped"]).size().unstack() == [2, 4]).all(axis=None)
    assert table.loc[table["chosen"], "form"].unique().tolist() == [study.models["rft"].constant.form.name]


def test_every_figure_is_drawn_and_is_the_same_twice(study, tmp_path):
    for name in ("holdout", "density", "spread", "residual"):
        extra = EXTRA.get(name, ())
        for index in range(2):
            figure = getattr(diagnostic_plots, f"{name}_figure")(shown(name, study), *extra)
            with styled():
                overview.save(figure, tmp_path / f"{name}{index}.png")
        for ending in ("svg", "png", "pdf"):
            assert (tmp_path / f"{name}0.{ending}").read_bytes() == (tmp_path / f"{name}1.{ending}").read_bytes()
        legend = figure.legends or [axes.get_legend() for axes in figure.axes]
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        inside = legend[0].get_window_extent(canvas.get_renderer())
        assert inside.x0 >= 0 and inside.x1 <= figure.bbox.x1, f"the legend of {name} is cut off"


def test_a_study_without_a_fit_has_empty_tables_and_no_figures():
    refused = analyse(from_table(planted({"sft": 1.0, "rft": 2.0}, num_seeds=2, num_problems=20)), "sft", {})
    for name in ("holdout", "density", "spread", "residual"):
        assert getattr(diagnostic_plots, f"{name}_table")(shown(name, refused)).empty
        extra = EXTRA.get(name, ())
        assert getattr(diagnostic_plots, f"{name}_figure")(shown(name, refused), *extra) is None
