"""critical_table and the report's sections beside errors: planted Q, paired differences, files and bytes."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from planted_store import fill
from test_tables import write

from analysis.measures.critical_table import critical_table
from analysis.report import report


def traces(num_seeds: int, gain: float, rng: np.random.Generator) -> pd.DataFrame:
    """One trace of three steps a problem and seed, pit 1; the algorithm's Q is the reference's and a gain."""
    rows = []
    for seed in range(num_seeds):
        for problem in range(30):
            for step, mean in enumerate((0.6, 0.3, 0.1)):
                q = mean + 0.1 * rng.standard_normal()
                rows.append(("sft", seed, f"p{problem}", step, q, 0.5))
                rows.append(("step_dpo", seed, f"p{problem}", step, q + gain, 0.4))
    frame = pd.DataFrame(rows, columns=["algorithm", "seed", "problem", "step", "q_value", "pit_probability"])
    return frame.assign(panel="", data_size=64, sample=0, pit=1)


def rows_of(table: pd.DataFrame, measure: str, algorithm: str) -> pd.DataFrame:
    return table[(table["measure"] == measure) & (table["algorithm"] == algorithm)].set_index("at")


def test_a_planted_gain_is_found_at_every_step_and_exactly_because_traces_are_paired():
    table = critical_table(traces(4, 0.2, np.random.default_rng(0)), "sft", 200, seed=0)
    found = rows_of(table, "q_value", "step_dpo")
    assert found.index.tolist() == [0, 1, 2]
    assert found["difference"].tolist() == pytest.approx([0.2] * 3)
    assert found["difference_low"].tolist() == pytest.approx([0.2] * 3)  # the same noise on both: nothing is left
    assert ((found["low"] < found["mean"]) & (found["mean"] < found["high"])).all()
    assert found["mean"].tolist() == pytest.approx([0.8, 0.5, 0.3], abs=0.05)
    assert (found["num_traces"] == 120).all() and (found["num_problems"] == 30).all()


def test_steps_are_also_counted_from_the_first_pit_and_its_chance_once_a_trace():
    frame = traces(3, 0.2, np.random.default_rng(1))
    table = critical_table(frame, "sft", 200, seed=0)
    by_index, from_pit = (rows_of(table, name, "sft")["mean"] for name in ("q_value", "q_value_from_pit"))
    assert from_pit.index.tolist() == [-1, 0, 1] and from_pit.tolist() == by_index.tolist()
    chance = rows_of(table, "pit_probability", "step_dpo")
    assert chance["num_traces"].tolist() == [90] and chance["mean"].tolist() == pytest.approx([0.4])
    assert chance["difference"].tolist() == pytest.approx([-0.1])


def test_two_seeds_give_means_and_no_limits():
    table = critical_table(traces(2, 0.2, np.random.default_rng(2)), "sft", 200, seed=0)
    assert table["mean"].notna().all() and table[["low", "high", "difference_low"]].isna().all().all()


def test_the_interval_covers_the_planted_mean_about_as_often_as_it_says():
    covered = []
    for seed in range(60):
        rng = np.random.default_rng([7, seed])
        shift = {key: 0.1 * rng.standard_normal() for key in (*range(8), *(f"p{index}" for index in range(30)))}
        frame = traces(8, 0.0, rng)
        frame["q_value"] += [shift[row.seed] + shift[row.problem] for row in frame.itertuples()]
        row = rows_of(critical_table(frame, "sft", 200, seed=0), "q_value", "sft").loc[0]
        covered.append(row["low"] < 0.6 < row["high"])
    assert 0.8 < np.mean(covered) <= 1.0  # 95 %, less what eight seeds cost; the standard error is 3 points


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("more")
    grid = "grid: {algorithm: [sft, rft, step_dpo], data_size: [64, 128, 256], rounds: [1, 2]}\n"
    file = write(folder, grid, "evaluation: {critical_steps: {}}\nanalysis: {bootstrap_draws: 200}\n")
    fill(file)
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    yield folder / "results" / "planted", file
    patch.undo()


def test_a_sweep_with_rounds_and_critical_steps_has_sections_tables_and_figures_of_them(results):
    directory, file = results
    report(file, ())
    text = (directory / "report.md").read_text()
    for name, heading in (("rounds", "Round by round"), ("critical_steps", "Critical steps")):
        assert f"## {heading}" in text and f"(figures/{name}.png)" in text
        assert all((directory / "figures" / f"{name}.{suffix}").exists() for suffix in ("png", "svg", "pdf"))
    trends, runs = pd.read_csv(directory / "trends.csv"), pd.read_csv(directory / "runs.csv")
    last = runs[runs["algorithm"] == "rft, rounds=2"]
    assert (last["rounds_without_data"] == 0).all() and len(last) == 9
    mean = last[last["data_size"] == 128]["error"].mean()
    found = trends[(trends["algorithm"] == "rft") & (trends["data_size"] == 128) & (trends["at"] == 2)]
    assert found["mean"].tolist() == pytest.approx([mean])
    critical = pd.read_csv(directory / "critical_steps.csv")
    assert set(critical["algorithm"]) == {
        "sft",
        *(f"{name}, rounds={k}" for name in ("rft", "step_dpo") for k in (1, 2)),
    }
    assert critical[critical["measure"] == "q_value_from_pit"].groupby("at")["mean"].first().to_dict() == {
        -1: 0.5,
        0: 0.25,
    }


def test_the_same_store_gives_the_same_bytes(results):
    directory, file = results
    digests = []
    for _ in range(2):
        report(file, ())
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert digests[0] == digests[1]


def test_an_axis_of_the_measurement_alone_gives_a_panel_a_value_and_no_other_study(tmp_path, monkeypatch):
    axis = "evaluation.critical_steps.rollouts_per_prefix: [2, 4]"
    grid = f"grid: {{algorithm: [sft, dpo], data_size: [64, 128, 256], {axis}}}\n"
    file = write(tmp_path, grid, "analysis: {bootstrap_draws: 200}\n")
    fill(file)
    monkeypatch.chdir(tmp_path)
    report(file, ())
    directory = tmp_path / "results" / "planted"
    panels = pd.read_csv(directory / "critical_steps.csv")["panel"].value_counts()
    names = [f"evaluation.critical_steps.rollouts_per_prefix={value}" for value in (2, 4)]
    assert sorted(panels.index) == names and panels.nunique() == 1
    assert pd.read_csv(directory / "runs.csv")["panel"].isna().all()
