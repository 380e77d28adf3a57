"""analysis.tables.runs and analysis.tables.ledger: what the store holds, what is missing, and what it cost."""

import re
from pathlib import Path

import pytest
from planted_store import fill

from analysis.tables.ledger import ledger
from analysis.tables.runs import label_axes, panel_axes, tabulate
from scaling.planning.sweep_file import load_sweep

DOCS = Path(__file__).parents[1] / "docs"


def write(folder: Path, grid: str, more: str = "") -> Path:
    file = folder / "planted.yaml"
    text = f"question: Is it there?\nstore: {folder / 'store'}\nseeds: [0, 1, 2]\n{grid}{more}"
    file.write_text(text)
    return file


GRID = "grid: {algorithm: [sft, rft, dpo, step_dpo], data_size: [64, 128, 256, 512, 1024]}\n"
SELECT = "select: {seeds: [100], sft: {epochs: [2, 5]}, step_dpo: {beta: [0.1, 0.5]}}\n"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    file = write(tmp_path_factory.mktemp("tables"), GRID, SELECT)
    current, store = fill(file)
    return load_sweep(file), current, store


def test_there_is_one_row_a_run_with_its_numbers(filled):
    tables = tabulate(*filled)
    assert len(tables.runs) == 4 * 5 * 3
    assert (tables.runs["status"] == "done").all()
    assert (tables.num_missing, tables.num_failed) == (0, 0)
    row = tables.runs[(tables.runs["algorithm"] == "rft") & (tables.runs["data_size"] == 64)].iloc[0]
    assert row["num_positives"] == 3.0
    assert row["problems_without_data_fraction"] == 0.25
    assert row["sft.epochs"] in (2, 5)
    assert len(tables.outcomes[""]) == 4 * 5 * 3 * 80
    assert tables.base_errors == {"": pytest.approx(0.9, abs=0.05)}


def test_costs_of_a_run_are_the_sums_over_its_stages(filled):
    tables = tabulate(*filled)
    cost = tables.runs.drop_duplicates("algorithm").set_index("algorithm")
    # SFT trains once; RFT trains SFT and itself, and the fake data stages report 10 each: rollouts, verification,
    # positives. DPO has pairs instead; per-step DPO step values besides.
    assert cost["training_flops"].to_dict() == {"sft": 100.0, "rft": 200.0, "dpo": 200.0, "step_dpo": 200.0}
    generated = {"sft": 10.0, "rft": 40.0, "dpo": 40.0, "step_dpo": 50.0}  # the fixed problems' stage reports 10 too
    assert cost["generation_flops"].to_dict() == generated


def test_the_ledger_counts_a_shared_stage_once_in_its_total(filled):
    _sweep, current, store = filled
    table = ledger(current, store).set_index(["part", "algorithm"])
    # 15 (size, seed) x (SFT, RFT, DPO, per-step DPO), and the search on one seed: 2 SFT and 2 per-step DPO a size.
    assert table.loc[("total", float("nan")), "training_flops"].sum() == 100.0 * (15 * 4 + 5 * 2 + 5 * 2)
    search = table.loc["search", "training_flops"]
    assert search["sft"] == 100.0 * 5 * 2
    assert search["step_dpo"] == 100.0 * 5 * 2
    assert table.loc[("base", float("nan")), "training_flops"].sum() == 100.0


def test_choices_show_every_candidate_and_the_chosen_one(filled):
    choices = tabulate(*filled).choices
    assert len(choices) == 5 * 2 + 5 * 2
    assert choices.groupby(["algorithm", "data_size"])["chosen"].sum().eq(1).all()
    best = choices.groupby(["algorithm", "data_size"])["validation_error"].transform("min")
    assert (choices["validation_error"][choices["chosen"]] == best[choices["chosen"]]).all()
    assert choices["at_edge"][choices["chosen"]].all()  # of two candidates, either one is an end


def test_a_failed_run_and_those_that_need_it_are_counted_with_the_reason(tmp_path):
    file = write(tmp_path, GRID)
    current, store = fill(file, failing="sft/d128-s1")
    tables = tabulate(load_sweep(file), current, store)
    failed = tables.runs[tables.runs["status"] != "done"]
    assert set(failed["status"]) == {"failed"}
    assert len(failed) == tables.num_failed == 4
    assert failed["failure"].str.contains("the disk is on fire").all()
    assert failed["error"].isna().all()
    assert not (tables.outcomes[""].query("data_size == 128 and seed == 1")).shape[0]


def test_runs_that_were_not_made_are_missing(tmp_path):
    file = write(tmp_path, GRID)
    current, store = fill(file)
    store.root.joinpath(current.runs[0].stage.name).rmtree()
    tables = tabulate(load_sweep(file), current, store)
    assert tables.num_missing == 1
    assert tables.runs["status"].tolist().count("missing") == 1


def test_an_axis_of_one_algorithm_makes_variants_and_one_of_the_reference_makes_panels(tmp_path):
    grid = "grid: {algorithm: [sft, rft], data_size: [64, 128], rft.max_positives: [2, 4], policy.size: [xxs, xs]}\n"
    file = write(tmp_path, grid)
    current, store = fill(file)
    sweep = load_sweep(file)
    assert panel_axes(sweep, current) == ("policy.size",)
    assert label_axes(sweep, current) == {"sft": (), "rft": ("rft.max_positives",)}
    tables = tabulate(sweep, current, store)
    assert set(tables.outcomes) == {"policy.size=xxs", "policy.size=xs"}
    assert set(tables.runs["algorithm"]) == {"sft", "rft, max_positives=2", "rft, max_positives=4"}
    assert len(tables.runs) == 2 * 2 * 3 * 3  # panels x sizes x seeds x (sft and two variants)


def test_no_run_is_lost_where_axes_change_together_and_never_one_alone(tmp_path):
    grid = """grid:
  - {algorithm: [sft], data_size: [64, 128]}
  - {algorithm: [step_dpo], data_size: [64, 128], step_dpo.pit_rule: [lowest], step_values.adaptive: [true]}
  - {algorithm: [step_dpo], data_size: [64, 128], step_dpo.pit_rule: [largest_drop], step_values.adaptive: [false]}
"""
    file = write(tmp_path, grid)
    current, store = fill(file)
    runs = tabulate(load_sweep(file), current, store).runs
    assert len(runs) == len(current.runs) == 3 * 2 * 3  # arms x sizes x seeds
    assert runs["stage"].nunique() == len(runs)
    assert runs["algorithm"].unique().tolist() == [
        "sft",
        "step_dpo, pit_rule=lowest",
        "step_dpo, pit_rule=largest_drop",
    ]


def test_provenance_names_packages_and_hosts(filled):
    found = tabulate(*filled).provenance
    assert any(name.startswith("numpy ") for name in found["packages"])
    assert len(found["hosts"]) == 1


def test_every_column_is_in_the_data_dictionary(filled):
    text = (DOCS / "results.md").read_text()
    documented = set(re.findall(r"`([^`]+)`", text))
    sweep, current, store = filled
    tables = tabulate(sweep, current, store)
    columns = {*tables.runs.columns, *tables.choices.columns, *ledger(current, store).columns}
    columns = {name for name in columns if "." not in name}  # axes and chosen settings are keys of docs/sweeps.md
    assert columns <= documented
