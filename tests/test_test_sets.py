"""Further test sets: what is planned and measured on them, what is refused, and that each is a panel."""

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from analysis.report import report
from scaling import sweep
from scaling.config.errors import ConfigError
from scaling.config.problems import problems_of
from scaling.config.sweep import Cell
from scaling.planning import recipes
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.planning.written_paths import placed
from scaling.pricing.costs import cost

LONGER = {"name": "longer", "problems": {"operands": 4}}
SMALLER = {"name": "smaller", "problems": {"modulus": 7}}
PROBLEMS = {"family": "modular_sum", "modulus": 11, "operands": 3, "num_validation": 4, "num_test": 8}
EVALUATION = {"samples_per_problem": 2, "pass_at": [2], "describe": True}


def cell_of(*sets):
    sections = {"problems": PROBLEMS, "policy": {"size": "xxs"}, "evaluation": {**EVALUATION, "sets": list(sets)}}
    return Cell.of(**sections)


def test_a_set_has_problems_of_its_own_and_changes_nothing_else():
    plain, more = cell_of(), cell_of(LONGER, SMALLER)
    assert recipes.evaluation(plain, 0).digest == recipes.evaluation(more, 0).digest
    own, (longer, smaller) = recipes.evaluation(more, 0), more.evaluation.sets
    for test_set, key, value in ((longer, "operands", 4), (smaller, "modulus", 7)):
        stage = recipes.evaluation_on(more, 0, test_set)
        assert stage.inputs["policy"] == own.inputs["policy"] and stage.inputs["problems"] != own.inputs["problems"]
        measured, trained = problems_of(stage.config), problems_of({"problems": stage.config["trained_on"]})
        assert getattr(measured, key) == value and getattr(trained, key) == getattr(plain.problems, key)
        assert problems_of(stage.inputs["problems"].config).num_test == 8


def test_longer_problems_cost_more_to_measure():
    more = cell_of(LONGER)
    (longer,) = more.evaluation.sets
    assert cost(recipes.evaluation_on(more, 0, longer)).flops > 1.2 * cost(recipes.evaluation(more, 0)).flops


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([{"name": "same", "problems": {"operands": 3}}], "of 'same' are those of the study's own test set"),
        ([{"name": "other", "problems": {"family": "star_graph"}}], "'other' names a family"),
        ([{"name": "odd", "problems": {"operand": 3}}], r"'odd' has the unknown key 'operand'.* 'operands'"),
        ([{"name": "text", "problems": "operands"}], "expected a mapping of keys of the section problems"),
        ([{"name": "list", "problems": [1]}], "expected a mapping of keys of the section problems"),
        ([LONGER, LONGER], "sets has 'longer' more than once"),
        ([{"name": "a b", "problems": {"operands": 4}}], "pattern"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(sets, words):
    with pytest.raises(ValidationError, match=words):
        cell_of(*sets)


def document(tmp_path, *sets):
    path = tmp_path / "sets.yaml"
    settings = {
        "question": "What carries over?",
        "store": str(tmp_path / "store"),
        "problems": PROBLEMS,
        "policy": {"size": "xxs", "base": "random"},
        "sft": {"epochs": 5, "batch_size": 8, "learning_rate": 1e-2},
        "evaluation": {**EVALUATION, "sets": list(sets)},
        "grid": {"algorithm": ["sft"], "data_size": [4, 8]},
        "seeds": [0],
        "analysis": {"bootstrap_draws": 200},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_path_of_a_set_is_relative_to_the_sweep_file(tmp_path):
    document = {"evaluation": {"sets": [{"name": "other", "problems": {"path": "other.jsonl"}}, LONGER]}}
    (other, longer) = placed(document, tmp_path)["evaluation"]["sets"]
    assert other["problems"]["path"] == str(tmp_path / "other.jsonl") and longer == LONGER


def test_words_that_the_policy_does_not_have_are_refused_when_the_file_is_read(tmp_path):
    path = document(tmp_path, {"name": "larger", "problems": {"modulus": 13}})
    with pytest.raises(ConfigError, match=r"evaluation\.sets: 'larger' has the words 11, 12"):
        load_sweep(path)


def test_a_plan_measures_every_run_and_the_base_policy_on_every_set(tmp_path):
    current = plan(load_sweep(document(tmp_path, LONGER, SMALLER)), lambda stage: None)
    assert all(len(run.targets) == 3 and len(run.on_each_set()) == 3 for run in current.runs)
    assert len(current.base) == 3
    evaluations = [stage for stage in current.stages if stage.kind == "evaluation"]
    assert len(evaluations) == 3 * (len(current.runs) + 1)


@pytest.mark.slow
def test_every_set_is_a_panel_with_pass_at_k_and_diversity(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = document(tmp_path, LONGER, SMALLER)
    assert sweep.main([str(path), "--inline"]) == 0
    runs = pd.read_csv(tmp_path / "results/sets/runs.csv").fillna({"panel": ""})
    assert runs.groupby("panel", sort=False).size().to_dict() == {"": 2, "test set longer": 2, "test set smaller": 2}
    assert (runs["status"] == "done").all() and runs["diversity"].notna().all() and runs["pass_at_2"].notna().all()
    assert runs["stage"].nunique() == 6
    outcomes = pd.read_parquet(tmp_path / "results/sets/outcomes.parquet")
    problems = outcomes.groupby("panel", observed=True)["problem"].unique()
    assert [len(ids) for ids in problems] == [8, 8, 8] and len(
        {one for ids in problems for one in ids}
    ) > 16  # prompts of other moduli may be alike
    shown = capsys.readouterr().out
    titled = [line.strip() for line in shown.splitlines() if line.startswith(("test set", " SFT "))]
    assert [line.split()[0] for line in titled] == ["SFT", "test", "SFT", "test", "SFT"]
    assert titled[1::2] == ["test set longer", "test set smaller"]
    text = (tmp_path / "results/sets/report.md").read_text()
    assert text.count("Diversity: different right samples") == 3 and text.count("pass@2: percent") == 3
    assert report(path, (), from_results=True) is not None
