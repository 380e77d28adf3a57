"""The section `policy`: an embedded policy or a checkpoint, not both, for every algorithm."""

import json
import re

import pytest
from pydantic import ValidationError

from scaling.config.algorithms import algorithm_names
from scaling.config.errors import ConfigError
from scaling.config.policy import Lora, Policy, lora_of
from scaling.config.sweep import Cell
from scaling.planning import recipes
from scaling.planning.grid import cells
from scaling.planning.sweep_file import load_sweep
from scaling.pricing.estimate import prompt_lines
from scaling.stage import in_order

SWEEP = """
question: Does it load?
policy: {hf: Qwen/Qwen2.5-0.5B, revision: v1}
grid: {algorithm: [sft, rft, dpo], data_size: [8]}
seeds: [0]
"""


def test_a_checkpoint_has_no_rung_of_the_ladder():
    for wrong in ({"size": "m"}, {"base": "random"}):
        with pytest.raises(ValidationError, match="leave size and base out"):
            Policy.model_validate({"hf": "Qwen/Qwen2.5-0.5B", **wrong})
    with pytest.raises(ValidationError, match="revision is 'v1' without hf"):
        Policy.model_validate({"revision": "v1"})


def test_a_template_of_prompts_has_one_place_for_the_problem_and_needs_a_checkpoint():
    for wrong in ("Question:", "{prompt} {prompt}", "{ prompt }"):
        with pytest.raises(ValidationError, match=r"it must have \{prompt\} once"):
            Policy.model_validate({"hf": "Qwen/Qwen2.5-0.5B", "prompt_template": wrong})
    with pytest.raises(ValidationError, match=r"prompt_template is '\{prompt\}' without hf"):
        Policy.model_validate({"prompt_template": "{prompt}"})


@pytest.mark.parametrize(
    ("template", "stated", "line"),
    [
        (None, None, r"Prompts of .*: '\{prompt\}\\n', because it has no chat template"),
        ("Q: {prompt}", None, r"Prompts of .*: 'Q: \{prompt\}' \(policy.prompt_template\)"),
        ("Q: {prompt}", "{{ messages }}", r"Prompts of .*: 'Q: \{prompt\}'"),
        (None, "{{ messages }}", None),
    ],
)
def test_the_plan_says_how_a_checkpoint_without_a_chat_template_is_asked(tmp_path, template, stated, line):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": stated}))
    cell = Cell.of(**{"policy": {"hf": str(tmp_path), "prompt_template": template}})
    lines = prompt_lines([recipes.base_policy(cell)])
    assert len(lines) == (line is not None) and (line is None or re.match(line, lines[0]))


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_a_cell_with_a_checkpoint_survives_its_own_dump(algorithm):
    cell = Cell.of(**{"algorithm": algorithm, "policy": {"hf": "Qwen/Qwen2.5-0.5B"}})
    assert Cell.of(**cell.model_dump()) == cell


def test_a_sweep_names_its_checkpoint_and_the_artifact_is_named_after_it(tmp_path):
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    sweep = load_sweep(tmp_path / "sweep.yaml")
    cell = Cell.of(**sweep.fixed)
    stated = {"hf": "Qwen/Qwen2.5-0.5B", "revision": "v1", "prompt_template": None}
    assert recipes.base_policy(cell).config == {"policy": stated}
    assert recipes.base_policy(cell).name.startswith("pretrain/Qwen2.5-0.5B-")


def test_embedded_policies_keep_their_identity():
    """The digest of the quickstart's base policy, which is shipped with the repository."""
    problems = {"family": "modular_sum", "modulus": 59, "operands": 4}
    assert recipes.base_policy(Cell.of(**{"problems": problems})).config["policy"] == {
        "size": "xs",
        "base": "pretrained",
    }


LORA_SWEEP = """
question: Which rank?
problems: {family: modular_sum}
policy: {compute_dtype: bfloat16, lora: {alpha: 8}}
grid: {algorithm: [sft, rft, dpo, step_dpo, step_rft], policy.lora.rank: [4, 8]}
seeds: [0]
"""
LEARNS = {"sft", "rft", "dpo", "step_rft"}


def cells_of(tmp_path, text: str):
    (tmp_path / "sweep.yaml").write_text(text)
    return cells(load_sweep(tmp_path / "sweep.yaml"))


def stages_of(cell: Cell):
    return {stage.kind: stage for stage in in_order([recipes.evaluation(cell, 0)])}


def test_lora_enters_the_stages_that_train_after_the_base_policy(tmp_path):
    for cell in cells_of(tmp_path, LORA_SWEEP):
        assert cell.policy.lora.alpha == 8 and cell.policy.lora.rank in (4, 8)
        for kind, stage in stages_of(cell).items():
            assert ("lora" in stage.config) == (kind in LEARNS), kind
            if kind in LEARNS:
                assert lora_of(stage.config) == cell.policy.lora


def test_ranks_share_the_base_policy_its_evaluation_and_the_problems(tmp_path):
    low, high = (stages_of(cell) for cell in cells_of(tmp_path, LORA_SWEEP)[:2])
    same = {kind for kind in low if low[kind].digest == high[kind].digest}
    assert same == {"pretrain", "problems", "teacher"}
    plain = Cell.of(policy=Policy(compute_dtype="bfloat16"))
    with_lora = Cell.of(policy=Policy(compute_dtype="bfloat16", lora=Lora()))
    assert recipes.base_evaluation(plain) == recipes.base_evaluation(with_lora)


def test_a_stage_that_reads_a_policy_trained_with_lora_has_the_base_policy_beside_it(tmp_path):
    for cell in cells_of(tmp_path, LORA_SWEEP):
        for kind, stage in stages_of(cell).items():
            trained = {parent.kind for parent in stage.inputs.values()} & LEARNS
            assert ("base" in stage.inputs) or not trained, kind
            if "base" in stage.inputs:
                assert stage.inputs["base"] == recipes.base_policy(cell)


def test_the_compute_dtype_is_the_base_policys_and_changes_all_that_descend_from_it():
    for algorithm in algorithm_names():
        single, half = (
            stages_of(Cell.of(algorithm=algorithm, policy=Policy(compute_dtype=dtype)))
            for dtype in ("float32", "bfloat16")
        )
        assert half["pretrain"].config["policy"]["compute_dtype"] == "bfloat16"
        assert {kind for kind in single if single[kind] == half[kind]} - {"filtered"} == {"problems", "teacher"}


def test_defaults_add_no_key_to_any_stage():
    """So that artifacts from before these keys keep their digests."""
    for algorithm in algorithm_names():
        for stage in stages_of(Cell.of(algorithm=algorithm)).values():
            assert "lora" not in stage.config
            assert "compute_dtype" not in stage.config.get("policy", {})
            assert "base" not in stage.inputs or stage.kind == "sft"


def test_the_order_in_which_targets_are_written_is_no_part_of_an_identity():
    first, second = (Lora(targets=targets) for targets in (("down", "query", "key"), ("key", "down", "query")))
    assert first.targets == second.targets == ("query", "key", "down")
    cells = [Cell.of(policy=Policy(lora=lora)) for lora in (first, second)]
    assert recipes.sft_policy(cells[0], 0) == recipes.sft_policy(cells[1], 0)
    assert recipes.sft_policy(cells[0], 0) != recipes.sft_policy(Cell.of(policy=Policy(lora=Lora())), 0)
    everything = ["query", "key", "value", "output", "gate", "up", "down"]  # as artifacts from before have it
    assert recipes.sft_policy(Cell.of(policy=Policy(lora=Lora())), 0).config["lora"]["targets"] == everything


def test_a_target_named_twice_is_refused_in_any_order():
    with pytest.raises(ValidationError, match="has 'query' more than once; list each value once"):
        Lora(targets=("query", "up", "query"))


def test_a_section_within_a_section_is_an_axis_by_its_keys(tmp_path):
    with pytest.raises(ConfigError, match=r"grid.policy.lora is a section; name one of its keys, such as 'policy.lora"):
        cells_of(tmp_path, LORA_SWEEP.replace("policy.lora.rank: [4, 8]", "policy.lora: [null]"))
    with pytest.raises(ConfigError, match=r"policy.lora.alpha is an axis, and policy.lora.alpha is also fixed"):
        cells_of(tmp_path, LORA_SWEEP.replace("policy.lora.rank: [4, 8]", "policy.lora.alpha: [4, 8]"))
    with pytest.raises(ConfigError, match=r"unknown key 'policy.lora.rnak'. Did you mean 'policy.lora.rank'"):
        cells_of(tmp_path, LORA_SWEEP.replace("alpha: 8", "rnak: 8"))
