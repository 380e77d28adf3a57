"""analysis.compute: what data are worth in compute, from costs that are known."""

import numpy as np
import pandas as pd
import pytest
from planted import planted

from analysis.compute import compute_multipliers, flops_by_cell, overall_compute, reference_flops
from analysis.compute_plots import cost_figure, cost_table
from analysis.conclusions import conclusion, verdict_table
from analysis.outcomes import from_table
from analysis.panel import Panel
from analysis.study import analyse


@pytest.fixture(scope="module")
def study():
    table = planted({"sft": 1.0, "rft": 2.0, "step_dpo": 4.0}, num_problems=300)
    return analyse(from_table(table), "sft", {"rft": 2}, num_draws=200)


def flops_of(study, **per_problem: float) -> dict[tuple[str, int], float]:
    outcomes = study.outcomes
    pairs = zip(outcomes.algorithm, outcomes.data_size, strict=True)
    return {(str(name), int(size)): per_problem[name] * float(size) for name, size in pairs}


def test_where_a_problem_costs_the_same_everywhere_data_and_compute_are_worth_the_same(study):
    found = compute_multipliers(study, flops_of(study, sft=5.0, rft=5.0, step_dpo=5.0))
    overall = overall_compute(found, "rft")
    expected = study.overall("rft")
    assert (overall.estimate, overall.low, overall.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    points = [item for item in study.multipliers if item.kind == "pointwise"]
    np.testing.assert_allclose(
        [item.estimate for item in found if item.kind == "pointwise"], [item.estimate for item in points]
    )


def test_an_algorithm_that_costs_three_times_as_much_a_problem_is_worth_a_third(study):
    cheap = compute_multipliers(study, flops_of(study, sft=5.0, rft=5.0, step_dpo=5.0))
    dear = compute_multipliers(study, flops_of(study, sft=5.0, rft=15.0, step_dpo=5.0))
    assert overall_compute(dear, "rft").estimate == pytest.approx(overall_compute(cheap, "rft").estimate / 3)
    assert overall_compute(dear, "step_dpo") == overall_compute(cheap, "step_dpo")


def test_the_reference_costs_what_was_measured_and_keeps_its_cost_a_problem_beyond():
    known = {64: 64.0, 256: 512.0}
    np.testing.assert_allclose(reference_flops(known, np.array([32.0, 64.0, 256.0, 1024.0])), [32, 64, 512, 2048])
    # Halfway in log D the cost a problem is the geometric mean of 1 and 2.
    np.testing.assert_allclose(reference_flops(known, np.array([128.0])), 128 * 2**0.5)


def test_only_finished_runs_of_the_panel_count():
    runs = pd.DataFrame(
        {
            "panel": ["", "", "", "other"],
            "algorithm": "sft",
            "data_size": [32, 32, 32, 32],
            "status": ["done", "done", "failed", "done"],
            "training_flops": [1.0, 3.0, np.nan, 100.0],
            "generation_flops": [0.0, 2.0, np.nan, 0.0],
        }
    )
    assert flops_by_cell(runs, "") == {("sft", 32): 3.0}
    assert flops_by_cell(runs[runs["status"] == "failed"], "") == {}


def test_censored_points_stay_censored():
    table = planted({"sft": 1.0, "step_dpo": 40.0}, num_problems=200)
    study = analyse(from_table(table), "sft", {}, num_draws=200)
    found = compute_multipliers(study, flops_of(study, sft=1.0, step_dpo=1.0))
    largest = next(item for item in found if item.kind == "pointwise" and item.data_size == 1024)
    assert (largest.estimate, largest.high) == (np.inf, np.inf)


def test_the_report_says_it_and_only_where_costs_are_known(study):
    panel = Panel(study, flops=flops_of(study, sft=1.0, rft=4.0, step_dpo=1.0))
    assert "Per FLOP of training and generation it is worth 0." in conclusion("", panel)
    assert len(verdict_table(panel).columns) == len(verdict_table(Panel(study)).columns) + 1
    assert "FLOP" not in conclusion("", Panel(study))


def test_the_figure_shows_every_cell(study):
    flops = flops_of(study, sft=1.0, rft=4.0, step_dpo=1.0)
    table = cost_table(study, flops)
    assert len(table) == len(study.outcomes.data_size)
    axes = cost_figure(study, flops, "test error (%)").axes[0]
    drawn = np.concatenate([container.lines[0].get_xdata() for container in axes.containers])
    assert sorted(drawn) == sorted(table["flops"])
