"""analysis.compute: what data are worth in compute, from costs that are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from planted import planted

from analysis.figures.compute import cost_figure, cost_table
from analysis.reporting.conclusions import conclusions, verdict_table
from analysis.tables.outcomes import from_table
from analysis.verdicts.compute import FLOPS, compute_multipliers, costs_by_cell, overall_compute, reference_cost
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse
from scaling.pricing import work


@pytest.fixture(scope="module")
def study():
    table = planted({"sft": 1.0, "rft": 2.0, "step_dpo": 4.0}, num_problems=300)
    return analyse(from_table(table), "sft", {"rft": 2}, num_draws=200)


def flops_of(study, **per_problem: float) -> dict[tuple[str, int], float]:
    outcomes = study.outcomes
    pairs = zip(outcomes.algorithm, outcomes.data_size, strict=True)
    return {(str(name), int(size)): per_problem[name] * float(size) for name, size in pairs}


def test_where_a_problem_costs_the_same_everywhere_data_and_compute_are_worth_the_same(study):
    found = compute_multipliers(study, {FLOPS: flops_of(study, sft=5.0, rft=5.0, step_dpo=5.0)})
    overall, expected = overall_compute(found, "rft"), study.overall("rft")
    assert overall.data_size == 1024
    assert (overall.estimate, overall.low, overall.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    assert overall.extrapolation == pytest.approx(expected.estimate)  # the reference ends at 1,024 too
    points = [item for item in study.multipliers if item.kind == "pointwise"]
    np.testing.assert_allclose(
        [item.estimate for item in found if item.kind == "pointwise"], [item.estimate for item in points]
    )


def test_an_algorithm_that_costs_three_times_as_much_a_problem_is_worth_a_third(study):
    cheap = compute_multipliers(study, {FLOPS: flops_of(study, sft=5.0, rft=5.0, step_dpo=5.0)})
    dear = compute_multipliers(study, {FLOPS: flops_of(study, sft=5.0, rft=15.0, step_dpo=5.0)})
    assert overall_compute(dear, "rft").estimate == pytest.approx(overall_compute(cheap, "rft").estimate / 3)
    assert overall_compute(dear, "step_dpo") == overall_compute(cheap, "step_dpo")


def test_the_break_even_price_is_where_both_cost_the_same(study):
    flops = flops_of(study, sft=5.0, rft=15.0, step_dpo=5.0)
    of_reference = {size: value for (name, size), value in flops.items() if name == "sft"}
    for item in compute_multipliers(study, {FLOPS: flops}):
        m = next(
            one.estimate
            for one in study.multipliers
            if (one.algorithm, one.kind) == (item.algorithm, item.kind) and one.data_size in (item.data_size, None)
        )
        if not 1 < m < np.inf:
            assert np.isnan(item.break_even)
        elif item.algorithm == "step_dpo":
            assert item.break_even == 0.0  # cheaper in compute already
        else:
            ours = item.cost + item.break_even * item.data_size
            theirs = reference_cost(of_reference, m * item.data_size) + item.break_even * m * item.data_size
            assert ours == pytest.approx(max(theirs, item.cost))


def test_the_teachers_price_moves_the_multiplier_per_flop_from_compute_to_problems(study):
    costs = {FLOPS: flops_of(study, sft=5.0, rft=15.0, step_dpo=5.0)}
    m = study.overall("rft").estimate
    # (5 m D + p m D) / (15 D + p D): a third of m where a problem is free, near m where it costs much more.
    for price, expected in ((0.0, m / 3), (5.0, m / 2), (1e6, m)):
        assert overall_compute(compute_multipliers(study, costs, price), "rft").estimate == pytest.approx(
            expected, rel=1e-4
        )
    free, priced = (compute_multipliers(study, costs, price) for price in (0.0, 5.0))
    np.testing.assert_equal([item.break_even for item in free], [item.break_even for item in priced])
    assert Panel(study, costs=costs, problem_flops=2.0).flops["sft", 64] == 5.0 * 64 + 2.0 * 64


def test_samples_and_verifier_calls_are_counted_for_each_problem_saved(study):
    cells = {
        (str(name), int(size)) for name, size in zip(study.outcomes.algorithm, study.outcomes.data_size, strict=True)
    }
    samples = {(name, size): 0.0 if name == "sft" else 16.0 * size for name, size in cells}
    calls = {(name, size): samples[name, size] + size for name, size in cells}
    found = compute_multipliers(study, {"samples": samples, "verifier_calls": calls})
    points = {(item.algorithm, item.data_size): item for item in study.multipliers if item.kind == "pointwise"}
    for item in (item for item in found if item.kind == "pointwise"):
        m = points[item.algorithm, item.data_size].estimate
        if not 1 < m < np.inf:
            continue
        if item.currency == "samples":  # the reference draws none, so that there is no ratio
            assert np.isnan(item.estimate) and item.break_even == pytest.approx(16 / (m - 1))
        else:
            assert item.estimate == pytest.approx(m / 17)
            assert item.break_even == pytest.approx(max(17 - m, 0) / (m - 1))


def test_the_pareto_front_is_the_cells_that_no_cheaper_one_beats(study):
    table = cost_table(study, flops_of(study, sft=5.0, rft=5.0, step_dpo=5.0))
    best = table.loc[table.groupby("flops")["error"].idxmin()]
    assert set(best["algorithm"]) == {"step_dpo"} and table["on_front"].sum() == len(best)
    assert table.loc[best.index, "on_front"].all()


def test_the_reference_costs_what_was_measured_and_keeps_its_cost_a_problem_beyond():
    known = {64: 64.0, 256: 512.0}
    found = [reference_cost(known, size) for size in (32, 64, 128, 256, 1024)]
    # Halfway in log D it is the geometric mean of 64 and 512.
    np.testing.assert_allclose(found, [32, 64, (64 * 512) ** 0.5, 512, 2048])


def test_a_larger_run_that_is_cheaper_counts_for_the_smaller_ones():
    """Ten epochs at 128, two at 256: nobody would pay for the first."""
    known = {64: 320.0, 128: 1280.0, 256: 512.0, 512: 5120.0}
    assert reference_cost(known, 128) == pytest.approx(512)
    costs = [reference_cost(known, size) for size in np.geomspace(16, 4096, 60)]
    assert (np.diff(costs) >= -1e-9).all()


@pytest.mark.parametrize("epochs", [(10, 2, 10, 2, 10), (2, 10, 2, 10, 2), (5, 5, 5, 5, 5)])
def test_an_estimate_lies_within_its_limits_whatever_was_selected(study, epochs):
    flops = flops_of(study, sft=1.0, rft=3.0, step_dpo=3.0)
    for size, count in zip(sorted({size for _, size in flops}), epochs, strict=True):
        flops["sft", size] *= count
    for item in compute_multipliers(study, {FLOPS: flops}):
        assert item.low <= item.estimate <= item.high, item


def test_no_number_per_flop_where_there_is_none_per_problem():
    """An arm that more data make worse has no one multiplier, and so none per FLOP."""
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=300)
    worst = (table["algorithm"] == "rft") & (table["data_size"] == 1024)
    table.loc[worst, "wrong"] = (np.arange(worst.sum()) % 10 < 8).astype(int)
    study = analyse(from_table(table), "sft", {}, num_draws=200)
    assert study.verdicts[0].code == "INVERSE"
    assert overall_compute(compute_multipliers(study, {FLOPS: flops_of(study, sft=1.0, rft=1.0)}), "rft") is None


def test_a_cost_that_is_not_known_leaves_no_multiplier():
    runs = pd.DataFrame({"panel": "", "algorithm": ["sft", "rft"], "data_size": 32, "status": "done"})
    for training in ([1.0, np.nan], [1.0, 0.0]):
        assert costs_by_cell(runs.assign(training_flops=training, generation_flops=0.0), "") == {}


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
    assert costs_by_cell(runs, "") == {FLOPS: {("sft", 32): 3.0}}
    assert costs_by_cell(runs[runs["status"] == "failed"], "") == {}


def test_censored_points_stay_censored():
    table = planted({"sft": 1.0, "step_dpo": 40.0, "worse": 0.12}, num_problems=200)
    study = analyse(from_table(table), "sft", {}, num_draws=200)
    found = compute_multipliers(study, {FLOPS: flops_of(study, sft=1.0, step_dpo=1.0, worse=1.0)})
    points = {(item.algorithm, item.data_size): item for item in found if item.kind == "pointwise"}
    assert (points["step_dpo", 1024].estimate, points["step_dpo", 1024].high) == (np.inf, np.inf)
    assert (points["worse", 64].estimate, points["worse", 64].low) == (0.0, 0.0)


def test_the_report_says_it_and_only_where_costs_are_known(study):
    panel = Panel(study, costs={FLOPS: flops_of(study, sft=1.0, rft=4.0, step_dpo=1.0)})
    assert "x (" in (text := " ".join(conclusions(panel))) and "per FLOP of training and generation" in text
    assert len({len(row) for row in verdict_table(panel).rows} | {len(verdict_table(panel).columns)}) == 1
    assert len(verdict_table(panel).columns) == len(verdict_table(Panel(study)).columns) + 1
    assert "FLOP" not in " ".join(conclusions(Panel(study)))


def test_the_figure_shows_every_cell(study):
    flops = flops_of(study, sft=1.0, rft=4.0, step_dpo=1.0)
    table = cost_table(study, flops)
    assert len(table) == len(study.outcomes.data_size)
    axes = cost_figure(study, flops, "test error (%)").axes[0]
    drawn = np.concatenate([container.lines[0].get_xdata() for container in axes.containers])
    assert sorted(drawn) == sorted(table["flops"])


@pytest.mark.parametrize(
    ("count", "config", "numbers", "expected"),
    [
        (work.rollouts_made, {}, {"num_rollouts": 640.0}, 640.0),
        (work.continuations_made, {"step_values": {"rollouts_per_prefix": 8}}, {"num_prefixes": 10.0}, 80.0),
        (
            work.continuations_made,
            {"step_values": {"rollouts_per_prefix": 8}},
            {"num_prefixes": 10.0, "num_continuations": 33.0},  # an adaptive estimate stops early
            33.0,
        ),
        (work.solutions_of_teacher, {}, {"num_problems": 64.0, "num_rejected_solutions": 3.0}, 67.0),
        (work.solutions_of_teacher, {}, {"num_problems": 64.0, "num_attempts": 90.0}, 90.0),
        (work.candidates_tried, {"solvable": {"samples": 4}}, {"num_candidates": 100.0}, 400.0),
    ],
)
def test_samples_and_verifier_calls_are_counted_from_records(count, config, numbers, expected):
    assert count(SimpleNamespace(config=config), numbers) == expected
    assert np.isnan(count(SimpleNamespace(config=config), {}))  # unknown, never 0


def test_a_currency_that_some_record_lacks_is_absent():
    runs = pd.DataFrame({"panel": "", "algorithm": ["sft", "rft"], "data_size": 32, "status": "done"})
    runs = runs.assign(training_flops=1.0, generation_flops=0.0, samples=[0.0, 512.0], verifier_calls=[32.0, np.nan])
    found = costs_by_cell(runs, "")
    assert set(found) == {FLOPS, "samples"} and found["samples"] == {("sft", 32): 0.0, ("rft", 32): 512.0}
