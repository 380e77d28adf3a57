"""analysis.design and analysis.planner.suggest: the command on a sweep, before and after a first run."""

import re

import numpy as np
import pandas as pd
import pytest
from planted import planted
from planted_store import fill

from analysis import report
from analysis.design import main
from analysis.planner.assumptions import Assumptions, grids_of
from analysis.planner.simulation import luck_sd
from analysis.planner.suggest import PROBLEMS, SEED, additions, widths_of
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.pricing.costs import cost

SWEEP = """
question: how much?
policy: {{size: xs}}
problems: {{family: modular_sum, num_test: 80}}
seeds: [0, 1, 2]
grid:
  - {{algorithm: [sft], data_size: [32, 64, 128, 256]}}
  - {{algorithm: [rft], data_size: [32, 64, 128]}}
analysis: {{reference: sft, claims: {{rft: 2}}, bootstrap_draws: 200}}
store: {store}
"""
QUICK = ["--studies", "2", "--draws", "50", "--run-sd", "0.12"]


@pytest.fixture
def sweep_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sweeps" / "small.yaml"
    file.parent.mkdir()
    file.write_text(SWEEP.format(store=tmp_path / "store"))
    return file


def test_before_a_first_run_the_defaults_are_assumed_and_said(sweep_file, tmp_path, capsys):
    assert main([str(sweep_file), *QUICK]) == 0
    page = (tmp_path / "results" / "small" / "design.md").read_text()
    assert "an error of 0.02 + a D^-0.35" in page
    assert "RFT: 2.00x is assumed" in page
    table = pd.read_csv(tmp_path / "results" / "small" / "design.csv")
    assert table["algorithm"].tolist() == ["rft"]
    assert table["num_studies"].tolist() == [2]
    shown = capsys.readouterr().out
    assert "Written:" in shown
    first = (tmp_path / "results" / "small" / "design.csv").read_bytes()
    assert main([str(sweep_file), *QUICK]) == 0
    assert (tmp_path / "results" / "small" / "design.csv").read_bytes() == first


def test_run_noise_is_asked_for_or_taken_from_other_runs(sweep_file, tmp_path, capsys):
    assert main([str(sweep_file), *QUICK[:4]]) == 2
    assert "how much runs differ" in capsys.readouterr().err
    assert main([str(sweep_file), *QUICK[:4], "--noise-from", str(tmp_path / "nowhere")]) == 2
    assert "there is no outcomes.parquet" in capsys.readouterr().err
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=200, run_sd=0.4).assign(panel="")
    table.to_parquet(tmp_path / "outcomes.parquet")
    assert main([str(sweep_file), *QUICK[:4], "--noise-from", str(tmp_path)]) == 0
    page = (tmp_path / "results" / "small" / "design.md").read_text()
    (found,) = re.findall(r"run effects of sd (\d\.\d\d), in logits", page)
    assert 0.25 < float(found) < 0.55


def test_suggestions_need_a_first_run(sweep_file, capsys):
    assert main([str(sweep_file), "--suggest", "1", *QUICK]) == 2
    assert "there is none; run python -m scaling.sweep" in capsys.readouterr().err


def test_after_a_first_run_its_curve_is_assumed_and_additions_are_ranked_by_gain_per_flop(sweep_file, tmp_path):
    fill(sweep_file)
    assert report.report(sweep_file, ()) is not None
    assert main([str(sweep_file), *QUICK]) == 0
    assert "the first run in results/small" in (tmp_path / "results" / "small" / "design.md").read_text()
    measured = pd.read_csv(tmp_path / "results" / "small" / "design.csv")["multiplier"][0]
    table = pd.read_csv(tmp_path / "results" / "small" / "multipliers.csv")
    assert measured == pytest.approx(table.loc[table["kind"] == "overall", "estimate"].iloc[0], rel=1e-6)
    assert main([str(sweep_file), "--truth", "claims", *QUICK]) == 0
    assert pd.read_csv(tmp_path / "results" / "small" / "design.csv")["multiplier"][0] == 2.0
    assert main([str(sweep_file), "--suggest", "1", *QUICK]) == 0
    table = pd.read_csv(tmp_path / "results" / "small" / "suggest.csv")
    assert set(table["what"]) == {SEED, PROBLEMS, "sft at D = 512", "rft at D = 256"}
    assert (table["flops"] > 0).all()
    assert table["gain_per_flop"].is_monotonic_decreasing
    clear = table["gain"] > 2 * table["error"]
    assert table["chosen"].sum() == clear.any()
    assert clear[table["chosen"]].all()


def test_another_task_does_not_borrow_the_curve_of_the_first_run(sweep_file, tmp_path):
    fill(sweep_file)
    assert report.report(sweep_file, ()) is not None
    for override, source in (("seeds=[0, 1, 2, 3]", "the first run in"), ("sft.epochs=9", "an error of 0.02")):
        assert main([str(sweep_file), "--set", override, *QUICK]) == 0
        (page,) = {path for path in (tmp_path / "results").glob("*/design.md") if path.parent.name != "small"}
        assert source in page.read_text(), override
        page.unlink()


def test_a_grid_without_the_reference_or_without_seeds_is_refused_with_the_cure(sweep_file, capsys):
    assert main([str(sweep_file), "--set", "seeds=[0]", *QUICK]) == 2
    assert "seeds has 1 of the 3 that an interval needs" in capsys.readouterr().err
    alone = ["--set", "grid=[{algorithm: [sft], data_size: [32, 64]}]", "--set", "analysis.claims={}"]
    assert main([str(sweep_file), *alone, *QUICK]) == 2
    assert "a multiplier needs the reference sft and another algorithm" in capsys.readouterr().err
    assert main([str(sweep_file), "--set", "grid=[{algorithm: [sft, rft], data_size: [32, 64]}]", *QUICK]) == 2
    assert "sft runs at 2 of the 3 data sizes that a curve needs" in capsys.readouterr().err
    assert main([str(sweep_file), "--floor", "0.9", "--error", "0.5", *QUICK]) == 2
    assert "the floor lies below the error" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--studies", "0"), ("--draws", "7"), ("--error", "2"), ("--seed", "x")])
def test_wrong_options_say_what_they_expect(sweep_file, capsys, option, value):
    with pytest.raises(SystemExit) as stopped:
        main([str(sweep_file), option, value])
    assert stopped.value.code == 2
    assert "; give " in capsys.readouterr().err


def test_additions_name_what_they_cost_and_leave_what_the_family_does_not_have(sweep_file):
    sweep = load_sweep(sweep_file, [])
    before = plan(sweep, lambda stage: None)
    costs = {item.what: item.flops for item in additions(sweep, before, lambda stage: None)}
    assert set(costs) == {SEED, PROBLEMS, "sft at D = 512", "rft at D = 256"}
    sweep_file.write_text(sweep_file.read_text().replace("[32, 64, 128]", "[32, 64, 128, 256]"))
    longer = load_sweep(sweep_file, [])
    there = {stage.digest for stage in before.stages}
    new = [stage for stage in plan(longer, lambda stage: None).stages if stage.digest not in there]
    assert costs["rft at D = 256"] == pytest.approx(sum(cost(stage).flops for stage in new))
    (grid,) = grids_of(sweep, before)
    assert grid.sizes == {"sft": (32, 64, 128, 256), "rft": (32, 64, 128)}
    assert (grid.num_seeds, grid.num_problems) == (3, 80)


def test_more_problems_narrow_the_interval_on_the_studies_that_both_share(sweep_file):
    sweep = load_sweep(sweep_file, [])
    (grid,) = grids_of(sweep, plan(sweep, lambda stage: None))
    (larger,) = grids_of(
        load_sweep(sweep_file, ["problems.num_test=640"]),
        plan(load_sweep(sweep_file, ["problems.num_test=640"]), lambda stage: None),
    )
    assumed = Assumptions(
        lambda size: 0.1 + 0.7 * (size / 32) ** -0.5, {"sft": 1.0, "rft": 2.0}, 1.0, 0.05, 0.0, "pow3", ""
    )
    before, after = widths_of([grid, larger], assumed, "sft", 3, 100, 0)
    assert after["rft"].mean() < before["rft"].mean()


def test_by_noise_tries_the_grid_at_several_run_noises_and_needs_none(sweep_file, tmp_path):
    assert main([str(sweep_file), *QUICK[:4], "--by-noise"]) == 0
    table = pd.read_csv(tmp_path / "results" / "small" / "design.csv")
    assert table["panel"].tolist() == [f"run noise over luck {ratio}" for ratio in ("0.5", "1", "2", "4")]
    assert table["width"].iloc[-1] > table["width"].iloc[0]
    page = (tmp_path / "results" / "small" / "design.md").read_text()
    sds = [float(found) for found in re.findall(r"run effects of sd (\d\.\d\d), in logits", page)]
    assert sds[3] == pytest.approx(8 * sds[0], abs=0.05) and "--by-noise" in page


def test_luck_is_that_of_a_mean_of_outcomes():
    # Without a spread of difficulty an error of p has the variance p (1 - p) / N, and the slope p (1 - p) in its logit.
    assert luck_sd(np.array([0.2]), 100, 0.0) == pytest.approx((1 / (0.16 * 100)) ** 0.5)
