"""Identity: each key of a sweep file changes exactly the stages that it should, and nothing else changes any."""

import random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from one_run import ALGORITHMS, FAMILIES, by_kind, cell_of, kinds_from, with_other

from scaling.config.sweep import Cell
from scaling.config.teacher import Teacher
from scaling.planning.grid import dotted_keys
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep

# The stages whose own config a key enters; all that descend from them change too, and nothing else.
TRAINS = {
    "sft": "sft",
    "filtered_sft": "sft",
    "rft": "rft",
    "dpo": "dpo",
    "step_dpo": "dpo",
    "step_rft": "step_rft",
    "awr": "awr",
    "kto": "kto",
    "kto_by_step": "kto",
    "group_pg": "group_pg",
    "step_pg": "step_pg",
    "distill": "distill",
}
# Keys with tests of their own, because other values of them need other stages.
APART = {
    "algorithm",
    "rounds",
    "problems.family",
    "policy.hf",
    "policy.revision",
    "policy.prompt_template",
    "evaluation.critical_steps",
    "evaluation.sets",
    "rollouts.policy",
    "filtered_sft.keep",
    "step_dpo.chosen",
    "step_dpo.labels",
    "dpo.simpo_margin",
    "distill.teacher_size",
    "checkpoint.keep",
    "step_dpo.simpo_margin",
}
EVERYWHERE = {"pretrain", "oracle", "problems", "teacher"}  # everything descends from these
ENTERS = {
    "data_size": {"teacher"},
    "rft.max_positives": {"positives"},
    "rft.keep": {"positives"},
    "rollouts.max_new_tokens": {"rollouts", "step_values"},
    "rft.pool_rounds": set(),  # in one round there is nothing to pool
    "dpo.pairing": {"pairs"},
    "dpo.teacher_positives": {"pairs"},
    "dpo.pairs_per_problem": {"pairs"},
    "step_dpo.pair_mode": {"step_pairs"},
    "step_dpo.pit_rule": {"step_pairs"},
    "step_dpo.teacher_positives": {"step_pairs"},
    "step_rft.traces_per_problem": {"step_values"},
    "step_rft.min_advantage": {"good_steps"},
    "step_dpo.label_scale": set(),  # of soft labels
    "step_dpo.traces_per_problem": set(),
    "filtered_sft.keep_fraction": set(),  # of small_loss
    "awr.beta": {"weighted_steps"},
    "awr.max_weight": {"weighted_steps"},
    "awr.traces_per_problem": {"step_values"},
    "kto.completions_per_problem": {"labelled"},
    "kto.teacher_positives": {"labelled"},
    "kto_by_step.traces_per_problem": {"step_values"},
    "problems.num_validation": {"problems"},
    "problems.num_test": {"problems"},
    "problems.web_confidence": {"pretrain"},
    "problems.web_unneeded": {"pretrain"},
    "checkpoint.among": set(),  # the last is kept
    "distill.teacher_updates": {"oracle"},
    "policy.base": {"pretrain"},  # an oracle is always trained
    "problems.zipf_exponent": {"oracle", "problems", "teacher"},
    "problems.flaw_rate": {"teacher"},
    "problems.flaws": {"teacher"},
    "problems.unneeded_rate": {"teacher"},
    "problems.held_out_seed": {"problems"},
}
SECTION_ENTERS = {
    "policy": {"pretrain", "oracle"},
    "pretrain": {"pretrain", "oracle"},
    "teacher": {"teacher"},
    "rollouts": {"rollouts"},
    "step_values": {"step_values"},
    "verifier": {"verification", "step_values", "group_pg", "step_pg", "distill"},
    "evaluation": {"evaluation"},
    "problems": EVERYWHERE,
}


def enters(key: str, algorithm: str) -> set[str]:
    """The kinds of stages whose own config the key is part of, for a run of the algorithm."""
    section = key.partition(".")[0]
    others = () if algorithm == "filtered_sft" else ("sft",)  # whose policy they sample or start from
    if section in TRAINS and section not in (*others, algorithm):
        return set()  # the settings of an algorithm that has no part in this run
    if key == "step_values.negatives_per_problem" and algorithm != "step_dpo":
        return set()  # step RFT has its own number of traces
    return ENTERS[key] if key in ENTERS else SECTION_ENTERS.get(section) or {TRAINS[section]}


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
@given(algorithm=st.sampled_from(ALGORITHMS), keys=st.sets(st.sampled_from(keys_of(Cell.of())), max_size=6))
def test_several_keys_change_the_union_of_what_each_changes(algorithm, keys):
    cell = cell_of(algorithm)
    assert changed_kinds(cell, with_other(cell, keys)) == expected_kinds(cell, keys)


def test_a_random_base_does_not_depend_on_how_one_would_be_pretrained():
    cell = with_other(Cell.of(), ["policy.base"])
    assert cell.policy.base == "random"
    after = with_other(cell, ["pretrain.num_updates", "pretrain.learning_rate", "pretrain.batch_size"])
    assert changed_kinds(cell, after) == set()
    assert "pretrain" in changed_kinds(cell, with_other(cell, ["pretrain.seed"]))


def soft(**settings) -> Cell:
    labels = {"labels": "advantage", "pair_mode": "shared_prefix", **settings}
    return Cell.of(**{"algorithm": "step_dpo", "step_dpo": labels})


@pytest.mark.parametrize(
    ("settings", "entered"),
    [
        ({"label_scale": 0.5}, {"advantage_pairs"}),
        ({"traces_per_problem": 8}, {"step_values"}),
        ({"beta": 0.5}, {"dpo"}),
        ({"pit_rule": "largest_drop"}, set()),  # there is no pit
        ({"teacher_positives": False}, set()),
    ],
    ids=str,
)
def test_soft_labels_have_pairs_of_their_own_and_the_keys_of_pits_do_not_enter_them(settings, entered):
    stages = by_kind(soft())
    assert "step_pairs" not in stages
    expected = {kind for kind, stage in stages.items() if kinds_from(stage) & entered}
    assert changed_kinds(soft(), soft(**settings)) == expected


def test_soft_labels_awr_and_kto_by_step_value_the_same_steps():
    values = [by_kind(cell)["step_values"] for cell in (soft(), cell_of("awr"), cell_of("kto_by_step"))]
    assert values[0] == values[1] == values[2] == by_kind(cell_of("step_rft"))["step_values"]


@pytest.mark.parametrize("algorithm", ["dpo", "step_dpo"])
def test_the_loss_of_pairs_and_its_settings_change_the_training_only(algorithm):
    cells = [
        Cell.of(**{"algorithm": algorithm, algorithm: settings})
        for settings in ({}, {"loss": "simpo"}, {"loss": "simpo", "simpo_margin": 0.5}, {"loss": "sigmoid"})
    ]
    trained = {kind for kind, stage in by_kind(cells[0]).items() if "dpo" in kinds_from(stage)}
    assert changed_kinds(cells[0], cells[1]) == changed_kinds(cells[1], cells[2]) == trained
    assert changed_kinds(cells[0], cells[3]) == set()  # the default, written out
    assert not {"loss", "per_token", "label_smoothing", "simpo_margin"} & by_kind(cells[0])["dpo"].config["dpo"].keys()


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
        {"memory": {"remat": "layers", "micro_batch_tokens": 4096, "packing": False, "attention": "xla"}},
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
