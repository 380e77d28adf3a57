"""Recipes: what is shared, and that each key of a sweep file changes exactly the stages it should."""

import json
import random
from collections import Counter

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from scaling import recipes
from scaling.config import Cell
from scaling.critical_steps import critical_steps
from scaling.engine.worker import RUNNERS
from scaling.grid import dotted_keys
from scaling.plan import plan
from scaling.problem_config import Problems
from scaling.section import Section, parse
from scaling.stage import RESOURCE_CLASSES, VERSIONS, Stage, in_order
from scaling.sweep_file import load_sweep
from scaling.teacher_config import Teacher

ALGORITHMS = tuple(recipes.RECIPES)
FAMILIES = ("modular_sum", "star_graph")

# The stages whose own config a key enters; all that descend from them change too, and nothing else.
TRAINS = {"sft": "sft", "rft": "rft", "dpo": "dpo", "step_dpo": "dpo", "step_rft": "step_rft"}
# Keys with tests of their own, because other values of them need other stages.
APART = {"algorithm", "rounds", "problems.family", "policy.hf", "policy.revision", "evaluation.critical_steps"}
EVERYWHERE = {"pretrain", "problems", "teacher"}  # everything descends from these
ENTERS = {
    "data_size": {"teacher"},
    "rft.max_positives": {"positives"},
    "rft.keep": {"positives"},
    "rollouts.max_new_tokens": {"rollouts", "step_values"},
    "rft.pool_rounds": set(),  # in one round there is nothing to pool
    "dpo.pairing": {"pairs"},
    "dpo.pairs_per_problem": {"pairs"},
    "step_dpo.pair_mode": {"step_pairs"},
    "step_dpo.pit_rule": {"step_pairs"},
    "step_rft.traces_per_problem": {"step_values"},
    "step_rft.min_advantage": {"good_steps"},
    "problems.num_validation": {"problems"},
    "problems.num_test": {"problems"},
    "problems.web_confidence": {"pretrain"},
    "problems.zipf_exponent": {"problems", "teacher"},
    "problems.flaw_rate": {"teacher"},
}
SECTION_ENTERS = {
    "policy": {"pretrain"},
    "pretrain": {"pretrain"},
    "teacher": {"teacher"},
    "rollouts": {"rollouts"},
    "step_values": {"step_values"},
    "evaluation": {"evaluation"},
    "problems": EVERYWHERE,
}


def enters(key: str, algorithm: str) -> set[str]:
    """The kinds of stages whose own config the key is part of, for a run of the algorithm."""
    section = key.partition(".")[0]
    if section in TRAINS and section not in ("sft", algorithm):
        return set()  # the settings of an algorithm that has no part in this run
    if key == "step_values.negatives_per_problem" and algorithm != "step_dpo":
        return set()  # step RFT has its own number of traces
    return ENTERS[key] if key in ENTERS else SECTION_ENTERS.get(section) or {TRAINS[section]}


def cell_of(algorithm: str, family: str = "modular_sum") -> Cell:
    return Cell.model_validate({"algorithm": algorithm, "problems": {"family": family}})


def keys_of(cell: Cell) -> list[str]:
    """Every dotted key of the schema that this cell's family has, but those of APART and of sections in sections.

    Those of a chat model as teacher need a family in plain language: see test_teacher_config.
    """
    known = type(cell.problems).model_fields
    chat = {f"teacher.{key}" for key in Teacher.model_fields} - {"teacher.keep_unverified"}
    return sorted(
        key
        for key in set(dotted_keys()) - APART - chat
        if (not key.startswith("problems.") or key.partition(".")[2] in known) and key.count(".") < 2
    )


def another(owner: BaseModel, key: str) -> object:
    """Another valid value of a key."""
    value, field = getattr(owner, key), type(owner).model_json_schema()["properties"][key]
    if "enum" in field:
        return field["enum"][(field["enum"].index(value) + 1) % len(field["enum"])]
    if value is None:
        return 9
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.25
    return [value[0] / 2 if isinstance(value[0], float) else value[0] - 1, *value[1:]]


def with_other(cell: Cell, keys) -> Cell:
    merged = cell.model_dump()
    for dotted in keys:
        section, _, key = dotted.partition(".")
        if key:
            merged[section][key] = another(getattr(cell, section), key)
        else:
            merged[section] = another(cell, section)
    return Cell.model_validate(merged)


def by_kind(cell: Cell, seed: int = 0) -> dict[str, Stage]:
    """The stages of one run; each kind occurs once in it."""
    stages = in_order([recipes.evaluation(cell, seed)])
    assert max(Counter(stage.kind for stage in stages).values()) == 1
    return {stage.kind: stage for stage in stages}


def kinds_from(stage: Stage) -> set[str]:
    """The stage's kind and those of its ancestors."""
    return {ancestor.kind for ancestor in in_order([stage])}


def changed_kinds(before: Cell, after: Cell) -> set[str]:
    old, new = by_kind(before), by_kind(after)
    assert old.keys() == new.keys()
    return {kind for kind in new if new[kind].digest != old[kind].digest}


def expected_kinds(cell: Cell, keys) -> set[str]:
    entered = set().union(*(enters(key, cell.algorithm) for key in keys))
    return {kind for kind, stage in by_kind(cell).items() if kinds_from(stage) & entered}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_key_changes_exactly_the_stages_it_enters_and_their_descendants(algorithm, family):
    cell = cell_of(algorithm, family)
    assert len(keys_of(cell)) > 60
    for key in keys_of(cell):
        after = with_other(cell, [key])
        assert after != cell, key
        assert changed_kinds(cell, after) == expected_kinds(cell, [key]), key


@settings(max_examples=60, deadline=None)
@given(algorithm=st.sampled_from(ALGORITHMS), keys=st.sets(st.sampled_from(keys_of(Cell())), max_size=6))
def test_several_keys_change_the_union_of_what_each_changes(algorithm, keys):
    cell = cell_of(algorithm)
    assert changed_kinds(cell, with_other(cell, keys)) == expected_kinds(cell, keys)


def test_a_limit_of_tokens_is_in_a_stages_config_only_where_it_is_set():
    """So artifacts that are stored keep their digests."""
    for seed, kind in enumerate(("rollouts", "evaluation")):
        before = by_kind(Cell(algorithm="step_dpo"), seed)[kind].config[kind]
        cell = Cell.model_validate({"algorithm": "step_dpo", kind: {"max_new_tokens": 9}})
        assert "max_new_tokens" not in before
        assert by_kind(cell, seed)[kind].config[kind] == {**before, "max_new_tokens": 9}
    cell = Cell.model_validate({"algorithm": "step_rft", "rollouts": {"max_new_tokens": 9}})
    before, after = (by_kind(each)["step_values"].config for each in (Cell(algorithm="step_rft"), cell))
    assert after == {**before, "max_new_tokens": 9}


def test_selection_and_the_base_policy_are_measured_under_the_limit_of_the_evaluation():
    cell = Cell.model_validate({"evaluation": {"max_new_tokens": 9}})
    for stage in (recipes.validation(cell, 0), recipes.base_evaluation(cell)):
        assert stage.config["evaluation"] == {"samples_per_problem": 0, "pass_at": [], "max_new_tokens": 9}


def test_a_random_base_does_not_depend_on_how_one_would_be_pretrained():
    cell = with_other(Cell(), ["policy.base"])
    assert cell.policy.base == "random"
    after = with_other(cell, ["pretrain.num_updates", "pretrain.learning_rate", "pretrain.batch_size"])
    assert changed_kinds(cell, after) == set()
    assert "pretrain" in changed_kinds(cell, with_other(cell, ["pretrain.seed"]))


def test_all_algorithms_share_one_base_policy_and_per_size_and_seed_one_d_syn_sft_and_rollouts():
    needed: dict[str, set[Stage]] = {}
    for algorithm in ALGORITHMS:
        for data_size in (64, 128):
            for seed in (0, 1, 2):
                cell = Cell(algorithm=algorithm, data_size=data_size)
                for kind, stage in by_kind(cell, seed).items():
                    needed.setdefault(kind, set()).add(stage)
    once, per_size_and_seed = 1, 2 * 3
    assert len(needed["pretrain"]) == len(needed["problems"]) == once
    for kind in ("teacher", "sft", "rollouts", "verification"):
        assert len(needed[kind]) == per_size_and_seed, kind
    assert len(needed["step_values"]) == 2 * per_size_and_seed  # of negatives; of all traces for step RFT


def test_sizes_of_policies_share_d_syn_and_the_held_out_problems():
    small, large = (by_kind(with_other(Cell(), keys)) for keys in ((), ("policy.size",)))
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
    assert recipes.ANCESTORS.keys() == recipes.RECIPES.keys()
    for algorithm, ancestors in recipes.ANCESTORS.items():
        assert set(ancestors) == kinds_from(recipes.trained_policy(cell_of(algorithm), 0)) & {"sft"} - {algorithm}


def test_every_kind_has_a_version_a_resource_class_and_a_function():
    asked = Cell.model_validate({"evaluation": {"critical_steps": {}}})
    kinds = {kind for algorithm in ALGORITHMS for kind in by_kind(cell_of(algorithm))}
    kinds |= kinds_from(critical_steps(asked, 0))
    kinds |= {"problem_source", "solvable"}  # of sets in plain language: tests/test_set_stages.py
    assert kinds == VERSIONS.keys() == RESOURCE_CLASSES.keys() == RUNNERS.keys()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stages_config_survives_json_and_parses_as_the_section_it_was(algorithm, family):
    cell = cell_of(algorithm, family)
    for kind, stage in by_kind(cell).items():
        config = json.loads(json.dumps(dict(stage.config)))
        assert Stage(kind, config, stage.inputs) == stage
        if "problems" in config:
            assert parse(Problems, config["problems"]).family == family
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


SWEEP = {
    "question": "Which is better?",
    "problems": {"family": "modular_sum", "modulus": 59, "operands": 4},
    "sft": {"epochs": 3, "learning_rate": 0.001},
    "grid": {"algorithm": ["sft", "step_dpo"], "data_size": [64, 128], "step_dpo.beta": [0.5]},
    "seeds": [0, 1],
}


def digests(tmp_path, document: dict) -> set[str]:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return {stage.digest for stage in plan(load_sweep(path), lambda stage: None).stages}


def shuffled(value, rng: random.Random):
    if isinstance(value, dict):
        items = [(key, shuffled(item, rng)) for key, item in value.items()]
        return dict(rng.sample(items, len(items)))
    return rng.sample(value, len(value)) if isinstance(value, list) else value


def test_the_order_of_keys_axes_values_and_seeds_in_a_file_changes_no_digest(tmp_path):
    expected = digests(tmp_path, SWEEP)
    for seed in range(5):
        assert digests(tmp_path, shuffled(SWEEP, random.Random(seed))) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Another?"},
        {"expectation": "This one."},
        {"resources": {"train": {"gpu": 0.25}, "rollouts": {"tpu": 4}, "host": {"cpu": 2}}},
        {"memory": {"remat": "layers", "micro_batch_tokens": 4096}},
        {"store": "s3://bucket/store"},
        {"analysis": {"claims": {"step_dpo": 8}, "bootstrap_draws": 500, "seed": 3}},
        {"sft": {"epochs": 3, "learning_rate": 0.001, "schedule": "cosine"}},  # the default, written out
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_change_results_changes_no_digest(tmp_path, change):
    assert digests(tmp_path, {**SWEEP, **change}) == digests(tmp_path, SWEEP)


def test_a_whole_number_is_the_same_value_with_and_without_a_point(tmp_path):
    grid = SWEEP["grid"]
    whole, point = ({**SWEEP, "grid": {**grid, "step_dpo.beta": [value]}} for value in (1, 1.0))
    assert digests(tmp_path, whole) == digests(tmp_path, point)
