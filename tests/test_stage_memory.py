"""Memory and time of a plan's stages: which lengths, rows and mesh they are computed for, and what is said of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from scaling.config.memory import Memory
from scaling.config.policy import Lora, Policy
from scaling.config.resources import Hardware, Mesh, Meshes, Resources
from scaling.config.sweep import Cell
from scaling.model.layout import ONE_DEVICE
from scaling.model.memory_need import sampling_memory, scoring_memory, training_memory
from scaling.model.packing import Call, Packing, calls_of, packing_of
from scaling.planning import recipes
from scaling.planning.chain import solvable
from scaling.planning.recipes import critical_steps
from scaling.pricing.costs import Cost
from scaling.pricing.lengths import known_shape, longest, setting
from scaling.pricing.programs import Device, with_narrower
from scaling.pricing.stage_memory import (
    device_of,
    memory_lines,
    mesh_that_fits,
    need,
    programs,
    seconds_on,
    time_lines,
)
from scaling.stage import in_order

ONE = Resources()
EIGHT = Hardware(name="8x H100", num_devices=8, flops_per_second_per_device=1e15, memory_gib_per_device=80.0)
DEEPSEEK = "deepseek-ai/deepseek-math-7b-base"


def stage_of(kind: str, algorithm: str = "dpo", **sections):
    cell = Cell.of(algorithm=algorithm, **sections)
    return next(stage for stage in in_order([recipes.evaluation(cell, 0)]) if stage.kind == kind)


def test_a_training_stage_is_predicted_for_the_rows_of_its_micro_batch():
    stage = stage_of("sft")
    shape, prompt, completion = longest(stage)
    length = -(-(prompt + completion) // 8) * 8
    rows = 2 ** ((320 // length).bit_length() - 1)  # the default of a CPU
    assert need(stage, ONE, Memory()).parts == training_memory(shape, ONE_DEVICE, rows, length)
    eight = Memory(micro_batch_tokens=8 * length)
    assert need(stage, ONE, eight).parts == training_memory(shape, ONE_DEVICE, 8, length)


def test_a_preference_pair_is_two_rows_and_a_batch_is_never_exceeded():
    stage = stage_of("dpo", dpo={"batch_size": 4})
    shape, prompt, completion = longest(stage)
    length = -(-(prompt + completion) // 8) * 8
    found = need(stage, ONE, Memory(micro_batch_tokens=16 * length)).parts
    assert found == training_memory(shape, ONE_DEVICE, 2 * 4, length)


def test_the_reference_policys_forward_pass_counts_where_its_micro_batches_are_the_largest_call():
    stage = stage_of("dpo", dpo={"batch_size": 1})
    shape, prompt, completion = longest(stage)
    length = -(-(prompt + completion) // 8) * 8
    found = need(stage, ONE, Memory(micro_batch_tokens=1024 * length)).parts
    assert found == scoring_memory(shape, ONE_DEVICE, 1024, length)


def test_rollouts_are_predicted_for_a_chunk_of_the_sampler_divided_over_the_mesh():
    stage = stage_of("rollouts")
    shape, prompt, completion = longest(stage)
    slots = [-(-length // 8) * 8 for length in (prompt, completion)]
    # 8 completions share a prompt, so 128 rows have at most 17, for which the sampler has room for 64.
    assert need(stage, ONE, Memory()).parts == sampling_memory(shape, ONE_DEVICE, 128, 64, *slots)
    alone = stage_of("rollouts", rollouts={"samples_per_problem": 1})
    assert need(alone, ONE, Memory()).parts == sampling_memory(shape, ONE_DEVICE, 128, 128, *slots)
    mesh = Mesh(data=2, fsdp=2, tensor=2)
    found = need(stage, Resources(mesh=Meshes(rollouts=mesh)), Memory()).parts
    assert found == sampling_memory(shape, mesh.model_dump(), 32, 16, *slots)


def test_what_bfloat16_lora_and_remat_change_reaches_the_prediction():
    lora = Lora(rank=2)
    stage = stage_of("sft", policy=Policy(compute_dtype="bfloat16", lora=lora))
    shape, prompt, completion = longest(stage)
    assert shape.bfloat16
    found = need(stage, ONE, Memory(remat="layers", micro_batch_tokens=1)).parts
    length = -(-(prompt + completion) // 8) * 8
    assert found == training_memory(shape, ONE_DEVICE, 1, length, lora, remat=True)


def test_a_filter_is_predicted_for_its_examples_and_their_solutions():
    found = {}
    for shots in (0, 3):
        problems = {"family": "gsm8k", "solvable": {"shots": shots, "max_new_tokens": 64}}
        cell = Cell.of(**{"problems": problems, "policy": {"hf": DEEPSEEK}})
        stage = solvable(cell)
        shape, prompt, completion = longest(stage)
        assert (prompt, completion) == (321 + shots * (321 + 401), 64)
        found[shots] = need(stage, ONE, Memory()).parts
        slots = -(-prompt // 8) * 8
        assert found[shots] == sampling_memory(shape, ONE_DEVICE, 128, 16, slots, 64)  # 16 samples of each
    assert found[3]["cache"] > 6 * found[0]["cache"]


def test_an_on_policy_stage_needs_what_an_update_or_a_chunk_of_its_sampler_needs():
    stage = stage_of("group_pg", "group_pg")
    shape, prompt, completion = longest(stage)
    length, slots = -(-(prompt + completion) // 8) * 8, [-(-tokens // 8) * 8 for tokens in (prompt, completion)]
    large = training_memory(shape, ONE_DEVICE, 256, length)  # 32 problems, 8 completions each
    assert need(stage, ONE, Memory(micro_batch_tokens=10**6)).parts == large
    sampled = sampling_memory(shape, ONE_DEVICE, 128, 64, *slots)
    small = training_memory(shape, ONE_DEVICE, 1, length)
    kept = {name: small[name] for name in ("start policy", "AdamW moments")}
    assert need(stage, ONE, Memory(micro_batch_tokens=1)).parts == {**sampled, **kept}
    imported = stage_of("group_pg", "group_pg", policy=Policy(hf=DEEPSEEK, compute_dtype="bfloat16"))
    update = need(imported, ONE, Memory(micro_batch_tokens=8192)).parts
    length = -(-sum(longest(imported)[1:]) // 8) * 8
    assert update["logits"] == 4 * 4 * 64 * length * 102_400  # all of the vocabulary: the loss reads its entropy
    limited = stage_of("group_pg", "group_pg", group_pg={"max_new_tokens": 9})
    assert longest(limited)[2] == 9


def test_distillation_also_holds_its_oracle_which_is_trained_in_the_batches_of_the_base_policy():
    stage = stage_of("distill", "distill", distill={"teacher_size": "m"})
    found, own = need(stage, ONE, Memory()).parts, need(stage_of("group_pg", "group_pg"), ONE, Memory()).parts
    oracle = setting(stage.inputs["oracle"])[1]
    assert found == {**own, "oracle": training_memory(oracle, ONE_DEVICE, 1, 1)["params"]}
    assert oracle.width > longest(stage)[0].width and found["oracle"] > found["start policy"]
    pretraining = need(stage.inputs["oracle"], ONE, Memory(micro_batch_tokens=10**6)).parts
    assert pretraining["AdamW moments"] == 2 * found["oracle"]


def test_critical_steps_are_predicted_as_a_forward_pass_without_a_cache():
    evaluation = {"critical_steps": {"problems": 8}}
    stage = critical_steps(Cell.of(**{"evaluation": evaluation, "rollouts": {"max_new_tokens": 50}}), 0)
    shape, prompt, completion = longest(stage)
    assert completion == 50
    length = -(-(prompt + 50) // 8) * 8
    rows = 2 ** ((320 // length).bit_length() - 1)  # the default of a CPU
    found = need(stage, ONE, Memory()).parts
    assert found == scoring_memory(shape, ONE_DEVICE, rows, length) and "cache" not in found


def test_what_a_server_samples_needs_no_memory_here():
    served = {"sampler": {"endpoint": "http://gpu7:8000/v1", "export": True}}
    for kind in ("rollouts", "evaluation"):
        assert need(stage_of(kind), ONE, Memory()) is not None
        assert need(stage_of(kind, **served), ONE, Memory()) is None
    assert need(stage_of("dpo", **served), ONE, Memory()).parts == need(stage_of("dpo"), ONE, Memory()).parts


@pytest.mark.parametrize("kind", ["teacher", "problems", "verification", "pairs"])
def test_stages_without_a_policy_need_nothing(kind):
    assert need(stage_of(kind), ONE, Memory()) is None


def test_the_plan_names_the_largest_stage_of_each_class_and_says_what_does_not_fit():
    stages = in_order([recipes.evaluation(Cell.of(algorithm="dpo"), 0)])
    header, train, rollouts = memory_lines(stages, ONE, Memory())
    trained = [need(stage, ONE, Memory()) for stage in stages if stage.kind in ("pretrain", "sft", "dpo")]
    largest = max(trained, key=lambda found: found.gib)
    assert header.startswith("Memory predicted") and largest.stage.name in train and "on 1 device," in train
    assert rollouts.strip().startswith("rollouts: ")
    tiny = EIGHT.model_copy(update={"memory_gib_per_device": 1e-6})
    assert "more than the 1e-06 GiB of 8x H100" in memory_lines(stages, Resources(hardware=[tiny]), Memory())[1]


def test_time_on_hardware_is_flops_over_the_used_part_of_the_peak():
    work = Cost(training_flops=2.8e15, generation_flops=4e14)
    assert seconds_on(work, EIGHT) == pytest.approx(2.8e15 / (8e15 * 0.35) + 4e14 / (8e15 * 0.05))
    once = Cost(training_flops=2.8e15, generation_flops=5e14, shared_flops=1e14)  # prompts that are read once
    assert seconds_on(once, EIGHT) == seconds_on(work, EIGHT)
    line = time_lines([], EIGHT)[0]
    assert "8x H100" in line and "35%" in line and "5%" in line and "assumed" in line


def test_waiting_for_teachers_is_said_apart_from_the_hardwares_time():
    work = [Cost(training_flops=2.8e15), Cost(request_seconds=7200.0)]
    alone, waiting = time_lines(work, EIGHT)
    assert alone == time_lines(work[:1], EIGHT)[0] and "take 1 s" in alone
    assert "Waiting for the teachers' replies takes another 2 h 00 min" in waiting


def test_the_shipped_shape_of_deepseek_math_is_the_one_its_authors_state():
    # Shao et al. 2024 (arXiv 2402.03300): DeepSeek-LLM 7B's architecture, 6.9 billion params.
    shape = known_shape(DEEPSEEK)
    embeddings, attention, ffn = 2 * 102_400 * 4096, 4 * 4096 * 4096, 3 * 4096 * 11_008
    assert shape.num_params == embeddings + 30 * (attention + ffn + 2 * 4096) + 4096
    assert known_shape("some/other") is None and known_shape("../../etc/passwd") is None


def test_the_shipped_shape_is_what_transformers_reads_from_the_public_config(tmp_path):
    pytest.importorskip("transformers")
    from scaling.pretrained.hf_config import read_config

    public = {
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 100_000, "eos_token_id": 100_001, "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 11_008, "max_position_embeddings": 4096, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 30, "num_key_value_heads": 32, "rms_norm_eps": 1e-06,
        "rope_theta": 10_000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 102_400,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(public))
    assert read_config(tmp_path) == known_shape(DEEPSEEK)


def test_a_checkpoint_with_a_shipped_shape_plans_without_the_hub():
    stage = stage_of("sft", policy=Policy(hf=DEEPSEEK))
    assert longest(stage)[0] == known_shape(DEEPSEEK)
    assert "configs" not in json.dumps(stage.config)


def test_a_file_that_holds_no_shape_is_named(tmp_path):
    (tmp_path / "broken.json").write_text('{"width": 8}')
    with pytest.raises(ValueError, match=r"broken\.json is not the shape of a decoder: .*vocab_size.* ModelConfig"):
        known_shape("broken", tmp_path)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"mesh": {"train": {"fsdp": 3}}, "hosts": {"train": 2}}, "mesh.train is .* = 3 devices, but hosts.train is 2"),
        ({"train": {"gpu": 4}, "mesh": {"train": {"fsdp": 8}}}, "mesh.train is .* 1 workers of 4 GPUs have 4"),
        ({"rollouts": {"gpu": 4}, "hosts": {"rollouts": 2}, "mesh": {"rollouts": {"data": 4}}}, "2 workers .* have 8"),
    ],
)
def test_a_mesh_that_its_workers_cannot_have_is_an_error(resources, message):
    with pytest.raises(ValueError, match=message):
        Resources.model_validate(resources)


def test_of_several_sorts_of_hardware_each_has_its_mesh_and_the_plan_says_which_fits_and_which_mesh_would():
    stages = in_order([recipes.evaluation(Cell.of(algorithm="sft"), 0)])
    divided = EIGHT.model_copy(update={"name": "divided", "mesh": Meshes(train=Mesh(fsdp=8), rollouts=Mesh(fsdp=8))})
    tiny = EIGHT.model_copy(update={"name": "tiny", "memory_gib_per_device": 1e-6})
    lines = memory_lines(stages, Resources(hardware=[divided, tiny]), Memory())
    assert "on each of 8 devices" in lines[1] and "on 1 device" in lines[3]
    assert lines[-1] == "  Fits: divided. Does not fit: tiny."
    stage = stage_of("rollouts")
    axes = {"data": 1, "fsdp": 1, "tensor": 4}
    device = need(stage, Resources(mesh=Meshes(rollouts=Mesh(tensor=4))), Memory())
    gathering = Resources(mesh=Meshes(rollouts=Mesh(fsdp=4)))
    room = EIGHT.model_copy(update={"memory_gib_per_device": device.gib * 1.001})
    found = need(stage, gathering, Memory(), room)
    assert device.program.axes == axes and found.gib > device.gib
    better = mesh_that_fits(found, room, gathering, Memory())
    assert better is not None and better.num_devices == 4 and better.fsdp == 1


def packed_update(lengths: list[list[int]], ways: int, limit: int) -> tuple[Packing, list[Call]]:
    packing = packing_of([lengths], ways, limit)
    return packing, list(calls_of(lengths, packing))


@pytest.mark.parametrize(("ways", "limit"), [(8, 8192), (1, 8192), (1, 320), (4, 2048)])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_of_a_checkpoints_policy_the_call_is_the_largest_that_training_makes_of_any_sequences(kind, ways, limit):
    stage = stage_of(kind, policy=Policy(hf=DEEPSEEK))
    _, prompt, completion = longest(stage)
    length, batch_size = prompt + completion, stage.config[kind]["batch_size"]
    program = programs(stage, Device({"data": 1, "fsdp": ways, "tensor": 1}, limit, remat=True))[0]
    packing, calls = packed_update([[length] * program.sequences] * batch_size, ways, limit)
    assert program.rows == ways * packing.rows and program.longest_sequence == packing.longest >= length
    assert all(call.width == program.length if len(calls) == 1 else call.width <= program.length for call in calls)
    assert with_narrower(program, limit) == (program,)

    def needed(call: Call) -> float:
        memory = replace(program, rows=len(call.places), length=call.width).memory
        return sum(memory[part] for part in ("activations", "logits"))

    generator, most = np.random.default_rng(0), max(map(needed, calls))
    for shortest in (1, length // 2, length - 8):
        for drawn in generator.integers(shortest, length + 1, (7, batch_size, program.sequences)).tolist():
            most = max(most, *map(needed, packed_update(drawn, ways, limit)[1]))
    predicted = program.memory["activations"] + program.memory["logits"]
    assert 0.8 * predicted <= most <= 1.08 * predicted


def test_small_policies_twins_and_a_sweep_without_packing_are_predicted_with_rows_of_their_own():
    device = Device(ONE_DEVICE, 8192, remat=False)
    large, small = stage_of("sft", policy=Policy(hf=DEEPSEEK)), stage_of("sft")
    assert programs(large, device)[0].longest_sequence and not programs(small, device)[0].longest_sequence
    assert not programs(large, replace(device, packs=False))[0].longest_sequence
    assert not device_of(large, ONE, Memory(packing=False)).packs
    update, reading = programs(stage_of("kto", "kto", policy=Policy(hf=DEEPSEEK)), device)
    assert not update.longest_sequence and reading.longest_sequence
