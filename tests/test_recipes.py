"""Recipes: what algorithms share, which stages they have, and what a stage's config holds."""

import json

import pytest
from one_run import ALGORITHMS, FAMILIES, by_kind, cell_of, kinds_from, with_other

from scaling.config.algorithms import algorithm_names, algorithm_of
from scaling.config.problems import problems_of
from scaling.config.section import Section, parse
from scaling.config.sweep import Cell
from scaling.kinds import BUILT_IN
from scaling.planning import recipes
from scaling.planning.grid import dotted_keys
from scaling.planning.recipes import critical_steps
from scaling.stage import Stage


def test_all_algorithms_share_one_base_policy_and_per_size_and_seed_one_d_syn_sft_and_rollouts():
    needed: dict[str, set[Stage]] = {}
    for algorithm in ALGORITHMS:
        for data_size in (64, 128):
            for seed in (0, 1, 2):
                cell = Cell.of(algorithm=algorithm, data_size=data_size)
                for kind, stage in by_kind(cell, seed).items() if algorithm != "filtered_sft" else ():
                    needed.setdefault(kind, set()).add(stage)
    once, per_size_and_seed = 1, 2 * 3
    assert len(needed["pretrain"]) == len(needed["problems"]) == once
    for kind in ("teacher", "sft", "rollouts", "verification"):
        assert len(needed[kind]) == per_size_and_seed, kind
    assert len(needed["step_values"]) == 2 * per_size_and_seed  # of negatives; of all traces for step RFT


def test_sizes_of_policies_share_d_syn_and_the_held_out_problems():
    small, large = (by_kind(with_other(Cell.of(), keys)) for keys in ((), ("policy.size",)))
    assert small["teacher"] == large["teacher"]
    assert small["problems"] == large["problems"]
    assert small["sft"] != large["sft"]


def test_rft_starts_from_the_base_or_from_the_sft_policy():
    cell = cell_of("rft")
    assert recipes.rft_policy(cell, 0).inputs["start"].kind == "pretrain"
    assert recipes.rft_policy(with_other(cell, ["rft.start"]), 0).inputs["start"] == recipes.sft_policy(cell, 0)


@pytest.mark.parametrize("algorithm", ["dpo", "step_dpo"])
def test_the_reference_policy_is_the_policy_that_made_the_rollouts(algorithm):
    stages = by_kind(cell_of(algorithm))
    assert stages["dpo"].inputs["reference"] == stages["sft"] == stages["rollouts"].inputs["policy"]


def test_step_values_of_per_step_dpo_are_of_negatives_and_those_of_step_rft_of_all_traces():
    assert by_kind(cell_of("step_dpo"))["step_values"].config["traces"] == "negatives"
    assert by_kind(cell_of("step_rft"))["step_values"].config["traces"] == "all"


def test_validation_and_test_evaluate_the_same_policy_on_the_same_stage_of_problems():
    cell = cell_of("rft")
    on_test, on_validation = recipes.evaluation(cell, 3), recipes.validation(cell, 3)
    assert on_test.inputs == on_validation.inputs
    assert (on_test.config["split"], on_validation.config["split"]) == ("test", "validation")
    assert on_test != on_validation


def test_an_algorithm_uses_the_settings_of_its_ancestors_only():
    for algorithm in algorithm_names():
        ancestors = algorithm_of(algorithm).ancestors
        assert set(ancestors) == kinds_from(recipes.trained_policy(cell_of(algorithm), 0)) & {"sft"} - {algorithm}


def test_some_recipe_uses_every_kind():
    asked = Cell.of(**{"evaluation": {"critical_steps": {}}})
    kinds = {kind for algorithm in ALGORITHMS for kind in by_kind(cell_of(algorithm))}
    kinds |= kinds_from(critical_steps(asked, 0))
    kinds |= set(by_kind(Cell.of(**{"checkpoint": {"keep": "best"}})))
    soft = {"labels": "advantage", "pair_mode": "shared_prefix"}
    kinds |= set(by_kind(Cell.of(**{"algorithm": "step_dpo", "step_dpo": soft})))
    kinds |= {"problem_source", "solvable"}  # of sets in plain language: tests/test_set_stages.py
    assert kinds == set(BUILT_IN)


def test_a_limit_of_tokens_is_in_a_stages_config_only_where_it_is_set():
    """So artifacts that are stored keep their digests."""
    for seed, kind in enumerate(("rollouts", "evaluation")):
        before = by_kind(Cell.of(algorithm="step_dpo"), seed)[kind].config[kind]
        cell = Cell.of(**{"algorithm": "step_dpo", kind: {"max_new_tokens": 9}})
        assert "max_new_tokens" not in before
        assert by_kind(cell, seed)[kind].config[kind] == {**before, "max_new_tokens": 9}
    cell = Cell.of(**{"algorithm": "step_rft", "rollouts": {"max_new_tokens": 9}})
    before, after = (by_kind(each)["step_values"].config for each in (Cell.of(algorithm="step_rft"), cell))
    assert after == {**before, "max_new_tokens": 9}


def test_selection_and_the_base_policy_are_measured_under_the_limit_of_the_evaluation():
    cell = Cell.of(**{"evaluation": {"max_new_tokens": 9}})
    for stage in (recipes.validation(cell, 0), recipes.base_evaluation(cell)):
        assert stage.config["evaluation"] == {"samples_per_problem": 0, "pass_at": [], "max_new_tokens": 9}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stages_config_survives_json_and_parses_as_the_section_it_was(algorithm, family):
    cell = cell_of(algorithm, family)
    for kind, stage in by_kind(cell).items():
        config = json.loads(json.dumps(dict(stage.config)))
        assert Stage(kind, config, stage.inputs) == stage
        if "problems" in config:
            assert problems_of(config).family == family
        for name, value in config.items():
            section = getattr(cell, name, None)
            if name != "problems" and isinstance(section, Section):
                assert isinstance(parse(type(section), value), type(section)), (kind, name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_config_holds_keys_of_the_schema_only_so_nothing_about_machines_or_speed(algorithm):
    known = {key.rpartition(".")[2] for key in dotted_keys()} | {"seed", "split", "traces", "traces_per_problem"}
    for kind, stage in by_kind(cell_of(algorithm)).items():
        for value in stage.config.values():
            for name in value if isinstance(value, dict) else ():
                assert name in known, f"{kind} holds {name}"
