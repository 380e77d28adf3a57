"""Sweeps against each other: paired errors, ratios of multipliers, and a summary with a known answer."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import SIZES, planted

from analysis.compare import compare, main, random_effects
from analysis.reporting.results_folder import FILES, ResultsError
from analysis.tables.outcomes import from_table

# 13 trials of the BCG vaccine (Colditz et al. 1994): log relative risks and their variances.
BCG = np.array(
    [-0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694, -1.3713, -0.3394, 0.4459, -0.0173]
)
VARIANCES = np.array(
    [0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730, 0.0124, 0.5325, 0.0714]
)


def test_a_summary_of_trials_is_the_published_one():
    """metafor's rma(yi, vi, method="PM", test="knha"): tau^2 .3181, mean -.7150, -1.1084 to -.3216."""
    found = random_effects(BCG, VARIANCES)
    assert found.between == pytest.approx(0.3181, abs=2e-3)
    assert (found.mean, found.low, found.high) == pytest.approx((-0.7150, -1.1084, -0.3216), abs=5e-3)
    assert found.predicted_low < found.low and found.high < found.predicted_high


def test_studies_that_agree_have_no_variance_between_them_and_the_weighted_mean():
    found = random_effects(np.array([0.5, 0.5, 0.5]), np.array([0.01, 0.04, 0.02]))
    assert found.between == 0.0 and found.mean == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


@pytest.mark.parametrize("variances", [np.array([0.1]), np.array([0.1, 0.0])])
def test_a_summary_needs_two_studies_with_a_variance(variances):
    with pytest.raises(ValueError, match="two studies"):
        random_effects(np.zeros(len(variances)), variances)


@pytest.fixture(scope="module")
def sweeps():
    """Two sweeps of one truth on the same problems, and a third of m = 4 on others."""
    one, two = (planted({"sft": 1.0, "rft": 2.0}, num_problems=400, seed=seed) for seed in (1, 1))
    other = planted({"sft": 1.0, "rft": 3.0}, (*SIZES, 2048), num_problems=400, seed=9)
    other["problem"] = "q" + other["problem"]
    return {"one": from_table(one), "two": from_table(two), "other": from_table(other)}


def test_a_sweep_compared_with_its_copy_differs_by_run_noise_alone(sweeps):
    found = compare({name: sweeps[name] for name in ("one", "two")}, "sft", 300)
    assert found.paired and (found.rows["low"] <= found.rows["estimate"]).all()
    errors = found.rows[found.rows["what"] == "difference in error"]
    assert len(errors) == 10 and (errors["estimate"] == 0).all()
    # The problems' own spread cancels: half an interval is less than that of independent sets of problems.
    alone = compare({"one": sweeps["one"], "two": renamed(sweeps["two"])}, "sft", 300)
    assert not alone.paired
    width = [np.median(item.rows["high"] - item.rows["low"]) for item in (found, alone)]
    assert width[0] < width[1]
    (ratio,) = found.rows[found.rows["what"] == "ratio of multipliers"].itertuples()
    assert ratio.algorithm == "rft" and ratio.estimate == 1.0 and ratio.low < 1 < ratio.high


def test_a_sweep_with_another_truth_is_told_apart_and_the_summary_spans_both(sweeps):
    found = compare(sweeps, "sft", 300)
    assert not found.paired
    ratios = found.rows[(found.rows["what"] == "ratio of multipliers") & (found.rows["second"] == "other")]
    assert (ratios["low"] <= 2 / 3).all() and (ratios["high"] >= 2 / 3).all() and (ratios["estimate"] < 0.9).all()
    summary = found.summaries["rft"]
    assert summary.low < np.log(2.3) < summary.high and "sft" not in found.summaries


def test_sweeps_without_a_common_algorithm_are_refused(sweeps):
    with pytest.raises(ResultsError, match="no algorithm is in two"):
        compare({"one": sweeps["one"].part(["sft"]), "two": sweeps["two"].part(["rft"])}, "sft", 200)


def test_the_command_needs_two_folders_of_results(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "missing")]) == 2
    assert "is not a folder of a sweep's results" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "name the results of two or more sweeps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("fits.json", lambda file: file.write_text("{"), "fits.json is damaged: Expecting property name"),
        ("fits.json", lambda file: file.write_text("{}"), "fits.json is damaged: 'panels'"),
        ("outcomes.parquet", lambda file: file.write_text("x"), "outcomes.parquet is damaged: Could not open"),
        (
            "outcomes.parquet",
            lambda file: pd.read_parquet(file)[:-5].to_parquet(file),
            "All runs must be measured on the same problems",
        ),
    ],
)
def test_a_damaged_folder_is_refused_with_its_file_and_the_cure(tmp_path, capsys, file, damage, message):
    whole, damaged = Path(__file__).parents[1] / "results/shipped/quickstart", tmp_path / "quickstart"
    damaged.mkdir()
    for name in FILES:
        shutil.copy(whole / name, damaged)
    damage(damaged / file)
    assert main([str(whole), str(damaged), "--draws", "200"]) == 2
    error = capsys.readouterr().err
    assert message in error and "To mend it, draw the report again" in error


def test_one_folder_by_two_paths_is_named_twice(tmp_path, capsys):
    whole = Path(__file__).parents[1] / "results/shipped/quickstart"
    assert main([str(whole), str(whole / ".." / whole.name)]) == 2
    assert "the same folder is named twice" in capsys.readouterr().err


def renamed(outcomes):
    table = pd.DataFrame(
        [
            (outcomes.algorithm[cell], outcomes.data_size[cell], seed, f"x{problem}", outcomes.wrong[cell, seed, place])
            for cell in range(len(outcomes.data_size))
            for seed in outcomes.seeds
            for place, problem in enumerate(outcomes.problems)
        ],
        columns=["algorithm", "data_size", "seed", "problem", "wrong"],
    )
    return from_table(table)
