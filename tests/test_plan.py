"""Plans: sharing, what a config change touches, and how selection makes a plan grow."""

import pytest
import yaml

from scaling.config.sweep import Cell
from scaling.config.training import Dpo, Sft
from scaling.planning import recipes
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.stage import in_order

SWEEP = {
    "question": "Which is better?",
    "grid": {"algorithm": ["sft", "rft", "dpo", "step_dpo", "step_rft"], "data_size": [64, 128]},
    "seeds": [0, 1],
}
SELECT = {"seeds": [100, 101], "sft": {"epochs": [2, 5]}, "dpo": {"beta": [0.1, 0.5], "learning_rate": [1e-4]}}


def sweep_of(tmp_path, **changes):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **changes}))
    return load_sweep(path)


def kinds(plan_):
    return sorted(stage.kind for stage in plan_.stages)


def nothing_stored(stage):
    return None


def test_algorithms_share_base_problems_synthetic_sft_and_rollouts(tmp_path):
    planned = plan(sweep_of(tmp_path), nothing_stored)
    count = {kind: kinds(planned).count(kind) for kind in set(kinds(planned))}
    assert count["pretrain"] == count["problems"] == 1
    per_size_and_seed = 4
    for kind in ("teacher", "sft", "rollouts", "verification", "rft", "pairs", "step_pairs", "good_steps"):
        assert count[kind] == per_size_and_seed, kind
    assert count["step_values"] == 2 * per_size_and_seed  # of negatives, and of all traces for step_rft
    assert count["dpo"] == 2 * per_size_and_seed  # DPO and per-step DPO are one stage on other pairs
    assert count["evaluation"] == 5 * per_size_and_seed + 1  # and the base policy
    assert planned.num_named > len(planned.stages)


def test_per_step_dpo_is_dpo_on_other_pairs():
    cell = Cell.of()
    dpo, step_dpo = recipes.dpo_policy(cell, 0), recipes.step_dpo_policy(cell, 0)
    assert dpo.kind == step_dpo.kind == "dpo"
    assert dpo.config == step_dpo.config
    assert dpo.inputs["reference"] == step_dpo.inputs["reference"]
    assert dpo.inputs["pairs"] != step_dpo.inputs["pairs"]


@pytest.mark.parametrize(
    ("algorithm", "section", "key", "value", "changed"),
    [
        ("step_dpo", "step_dpo", "beta", 0.7, {"dpo", "evaluation"}),
        ("step_dpo", "step_dpo", "pit_rule", "largest_drop", {"step_pairs", "dpo", "evaluation"}),
        ("step_dpo", "step_values", "best_of", 2, {"step_values", "step_pairs", "dpo", "evaluation"}),
        ("rft", "rft", "max_positives", 2, {"positives", "rft", "evaluation"}),
        ("rft", "step_dpo", "beta", 0.7, set()),
        ("sft", "rollouts", "temperature", 0.5, set()),
        ("sft", "evaluation", "samples_per_problem", 8, {"evaluation"}),
        ("sft", "problems", "num_test", 2000, {"problems", "evaluation"}),
        ("sft", "problems", "zipf_exponent", 0.3, {"problems", "teacher", "sft", "evaluation"}),
        ("sft", "pretrain", "num_updates", 7, {"pretrain", "sft", "evaluation"}),
    ],
)
def test_a_config_change_alters_exactly_the_downstream_digests(algorithm, section, key, value, changed):
    before = Cell.of(algorithm=algorithm)
    after = before.model_copy(
        update={section: getattr(before, section).model_copy(update={key: value})},
    )
    old = {stage.digest for stage in in_order([recipes.evaluation(before, 0)])}
    new = [stage for stage in in_order([recipes.evaluation(after, 0)]) if stage.digest not in old]
    assert {stage.kind for stage in new} == changed


def test_seeds_share_nothing_but_the_base_and_the_held_out_problems():
    cell = Cell.of(algorithm="step_dpo")
    first, second = (in_order([recipes.evaluation(cell, seed)]) for seed in (0, 1))
    shared = {stage.digest for stage in first} & {stage.digest for stage in second}
    assert {stage.kind for stage in first if stage.digest in shared} == {"pretrain", "problems"}


def test_resources_are_no_part_of_a_plan(tmp_path):
    first = plan(sweep_of(tmp_path), nothing_stored)
    second = plan(sweep_of(tmp_path, resources={"train": {"gpu": 0.25}}, store="elsewhere"), nothing_stored)
    assert first.stages == second.stages


def test_the_first_plan_with_selection_runs_only_what_sft_needs_to_choose(tmp_path):
    planned = plan(sweep_of(tmp_path, select=SELECT), nothing_stored)
    assert len(planned.waiting) == len(planned.runs)
    assert {choice.algorithm for choice in planned.choices} == {"sft"}
    assert len(planned.search_runs) == 2 * 2 * 2  # sizes, candidates, selection seeds: SFT's choice is shared
    assert {stage.config["split"] for stage in planned.ready_stages if stage.kind == "evaluation"} == {
        "validation",
        "test",  # the base policy's
    }
    trained = [stage for stage in planned.ready_stages if stage.kind == "sft"]
    assert {stage.config["seed"] for stage in trained} == {100, 101}


def fake_numbers(better):
    """Numbers of an evaluation stage whose policy was trained with settings that `better` likes or not."""

    def numbers_of(stage):
        if stage.kind != "evaluation":
            return {}
        return {"error": 0.1 if better(stage.inputs["policy"]) else 0.2}

    return numbers_of


def test_descendants_share_sfts_choice_and_then_make_their_own(tmp_path):
    def likes(policy):
        if policy.kind == "sft":
            return policy.config["sft"]["epochs"] == 5
        return policy.config["dpo"]["beta"] == 0.5

    planned = plan(sweep_of(tmp_path, select=SELECT), fake_numbers(likes))
    assert not planned.waiting
    for run in planned.runs:
        assert run.cell.section(Sft).epochs == 5
        assert run.cell.section(Dpo).beta == (0.5 if run.cell.algorithm == "dpo" else Dpo().beta)
        assert run.stage.config["split"] == "test"
    assert {(choice.algorithm, choice.data_size) for choice in planned.choices} == {
        ("sft", 64),
        ("sft", 128),
        ("dpo", 64),
        ("dpo", 128),
    }
    sft_stages = {stage.digest for stage in planned.stages if stage.kind == "sft" and stage.config["seed"] < 100}
    assert len(sft_stages) == 4  # one a size and seed: everyone descends from the chosen one


def test_equal_candidates_give_the_first(tmp_path):
    planned = plan(sweep_of(tmp_path, select=SELECT), fake_numbers(lambda policy: True))
    assert {run.cell.section(Sft).epochs for run in planned.runs} == {2}


def test_selection_never_reads_the_test_problems(tmp_path):
    asked = []

    def numbers_of(stage):
        asked.append(stage.config.get("split"))
        return {"error": 0.5}

    plan(sweep_of(tmp_path, select=SELECT), numbers_of)
    assert set(asked) == {"validation"}
