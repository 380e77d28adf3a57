"""analysis.measures.base_policies: a learning curve of pretraining, from a sweep whose axis is the length of it."""

import json

import numpy as np
import pandas as pd
import pytest
from planted_store import fill
from scipy.special import entr
from test_tables import write

from analysis import fit
from analysis.measures.base_policies import base_figure, base_sections, base_table
from analysis.report import report
from data.problems.modular_sum import web_facts
from scaling.engine.store import Store
from scaling.planning.plan import plan
from scaling.planning.recipes import base_evaluation, base_policy
from scaling.planning.sweep_file import load_sweep

GRID = (
    "grid: {algorithm: [sft], data_size: [64], pretrain.num_updates: [100, 400, 1600, 6400], pretrain.seed: [0, 1]}\n"
)
MORE = "pretrain: {batch_size: 32}\nanalysis: {bootstrap_draws: 200}\n"


def test_every_base_policy_has_one_row_whatever_the_number_of_runs_on_it(tmp_path):
    file = write(tmp_path, GRID, MORE)
    current, store = fill(file)
    table = base_table(current, store)
    assert len(current.runs) == 8 * 3 and len(table) == 8
    assert table["num_updates"].tolist() == [100, 100, 400, 400, 1600, 1600, 6400, 6400]
    assert (table["num_texts"] == 32 * table["num_updates"]).all()
    stages = [base_evaluation(run.cell) for run in current.runs[::3]]  # in the order of the axes, three seeds each
    assert table["error"].tolist() == [store.record(stage)["numbers"]["error"] for stage in stages]
    losses = [store.record(base_policy(run.cell))["numbers"]["train/loss"] for run in current.runs[::3]]
    assert table["loss"].tolist() == losses
    np.testing.assert_allclose(table["excess_loss"] + table["entropy"], losses)
    facts = [web_facts(current.runs[0].cell.problems, seed).confidence for seed in (0, 1)]
    # Three choices of the first two neighbours, then two; three sums; 20 words and the end. Nearly: see web_entropy.
    by_hand = [(np.log(6) + 3 * np.mean(entr(c) + entr(1 - c))) / 21 for c in facts]
    np.testing.assert_allclose(table["entropy"], by_hand * 4, rtol=5e-3)


def test_a_base_policy_that_is_random_or_not_evaluated_has_no_row(tmp_path):
    sweep = load_sweep(write(tmp_path, GRID, MORE))
    assert base_table(plan(sweep, lambda stage: None), Store(tmp_path / "empty")).empty
    (tmp_path / "random").mkdir()
    grid = "grid: {algorithm: [sft], data_size: [64]}\n"
    assert base_table(*fill(write(tmp_path / "random", grid, "policy: {base: random}\n"))).empty


def test_the_report_shows_it_and_the_fit_reads_it(tmp_path, monkeypatch):
    file = write(tmp_path, GRID, MORE)
    fill(file)
    monkeypatch.chdir(tmp_path)
    report(file, ())
    directory = tmp_path / "results" / "planted"
    assert "## Base policies" in (directory / "report.md").read_text() and (directory / "figures/base.png").exists()
    table = pd.read_csv(directory / "base.csv")
    table["excess_loss"] = 0.05 + 3 * table["num_texts"] ** -0.4  # the planted base policies do not learn
    table.to_csv(tmp_path / "base.csv", index=False)
    arguments = [
        "--x",
        "num_texts",
        "--y",
        "excess_loss",
        "--form",
        "pow3",
        "--out",
        str(tmp_path / "fit"),
        "--draws",
        "200",
    ]
    assert fit.main([str(tmp_path / "base.csv"), *arguments]) == 0
    found = json.loads((tmp_path / "fit" / "fits.json").read_text())["parameters"]
    assert {name: found[name]["estimate"] for name in "abc"} == pytest.approx({"a": 3, "b": 0.4, "c": 0.05}, rel=1e-3)


@pytest.mark.parametrize("excess", [(0.1, -0.01, 0.02), (-0.1, -0.01, -0.02)])
def test_a_loss_below_the_entropy_is_left_out_and_counted(excess, tmp_path):
    table = pd.DataFrame({"size": "xs", "pretrain_seed": 0, "num_updates": [100, 200, 400], "excess_loss": excess})
    table = table.assign(num_texts=32 * table["num_updates"], loss=0.2, entropy=0.2, num_problems=100, error=0.8)
    left, right = base_figure(table).axes
    drawn = [len(axes.containers[0].lines[0].get_xdata()) for axes in (left, right)]
    assert drawn == [sum(value > 0 for value in excess), 3]
    (tmp_path / "figures").mkdir()
    (section,) = base_sections(table, tmp_path)
    assert (
        f" {sum(value <= 0 for value in excess)} whose loss does not exceed the entropy" in section.figures[0].caption
    )
