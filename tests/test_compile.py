"""Compiling for TPUs that are not here: which calls there are, what is said of them, and the TPU compiler itself."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest
import yaml

from scaling.compile import Verdict, distinct, main, slices
from scaling.config.errors import ConfigError
from scaling.config.resources import Hardware
from scaling.lowering import Compiled, lowered
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.sizes import ModelConfig
from scaling.planning.sweep_file import load_sweep
from scaling.pricing.programs import Program, with_narrower
from scaling.pricing.roofline import load

ROOT = Path(__file__).parent.parent
HAS_COMPILER = importlib.util.find_spec("libtpu") is not None
SHAPE = ModelConfig(vocab_size=8192, width=256, num_layers=4, num_heads=8, num_kv_heads=8, head_width=32, ffn_width=512)
EIGHT = Hardware(
    name="eight",
    num_devices=8,
    flops_per_second_per_device=1e14,
    bytes_per_second_per_device=1e12,
    memory_gib_per_device=16.0,
    topology="v5e:2x4",
    mesh={"train": {"fsdp": 8}, "rollouts": {"tensor": 8}},
)
SWEEP = {
    "question": "What fits?",
    "policy": {"hf": "deepseek-ai/deepseek-math-7b-base", "compute_dtype": "bfloat16"},
    "problems": {"family": "gsm8k"},
    "grid": {"algorithm": ["sft", "rft", "dpo"], "data_size": [64]},
    "seeds": [0],
    "memory": {"remat": "layers"},
    "resources": {"hardware": [EIGHT.model_dump()]},
}


@pytest.fixture
def path(tmp_path):
    written = tmp_path / "sweep.yaml"
    written.write_text(yaml.safe_dump(SWEEP))
    return written


def test_stages_share_calls_and_each_is_on_the_mesh_of_its_class(path):
    calls = distinct(load_sweep(path), EIGHT, layers=2)
    by_kinds = {kinds: program for program, kinds in calls.items()}
    assert ("sft", "rft") in by_kinds and by_kinds["sft", "rft"].work == "training"
    assert {program.work for program, kinds in calls.items() if kinds == ("dpo",)} == {"training on pairs", "scoring"}
    assert all(program.mesh == ((1, 1, 8) if program.work == "sampling" else (1, 8, 1)) for program in calls)
    assert {program.shape.num_layers for program in calls} == {2}
    assert all(program.remat == program.work.startswith("training") for program in calls)


def test_of_each_number_of_rows_the_longest_sequences_are_compiled():
    program = Program("training", SHAPE, (1, 4, 1), rows=4 * 2, length=96, batch=32)
    found = [(one.rows, one.length) for one in with_narrower(program, tokens_limit=200)]
    assert found == [
        (8, 96),
        (16, 48),
        (32, 24),
    ]  # 2 x 96, 4 x 48 and 8 x 24 tokens on a device of 200; the batch is 32
    chunk = Program("sampling", SHAPE, (1, 4, 1), rows=128, length=96, prompts=16, new_tokens=64)
    assert with_narrower(chunk, tokens_limit=200) == (chunk,)


def test_a_call_is_judged_with_what_is_in_memory_beside_it():
    program = Program("training", SHAPE, (1, 8, 1), rows=8, length=64, batch=8)
    beside = sum(program.memory[part] for part in ("start policy", "AdamW moments"))
    gib = 2.0**30
    fits = Verdict(program, ("sft",), Compiled(6 * gib, 16 * gib - beside - 6 * gib, 1.0), EIGHT)
    assert fits.excess == pytest.approx(0.0, abs=1.0) and "8 x 64 tokens" in fits.line
    full = Verdict(program, ("sft",), Compiled(6 * gib, 12 * gib, 1.0), EIGHT)
    assert full.excess == beside + 2 * gib and "does not fit by 2." in full.line
    refused = Verdict(program, ("sft",), Compiled(0.0, 0.0, 1.0, refused=24 * gib), EIGHT)
    assert refused.needed == 24 * gib + beside and "refused by the compiler" in refused.line
    planned = sum(program.memory.values())
    assert full.row["planned"] == planned and f"the plan: {planned / gib:.1f} GiB" in full.line
    assert (full.row["needed"], full.row["fits"], full.row["layers"]) == (18 * gib + beside, False, 4)


def test_the_bounds_of_a_call_by_hand():
    scoring = load(Program("scoring", SHAPE, (1, 1, 1), rows=2, length=8))
    assert scoring.flops == 2 * forward_flops(SHAPE, [8])
    update = Program("training", SHAPE, (1, 4, 2), rows=8, length=64, remat=True)
    assert load(update).flops == 8 * (training_flops(SHAPE, [64]) + forward_flops(SHAPE, [64])) / 8
    chunk = Program("sampling", SHAPE, (1, 1, 1), rows=128, length=8, prompts=128, new_tokens=16)
    assert load(chunk).flops == pytest.approx(128 * sampling_flops(SHAPE, [8], [16]))
    shared = load(replace(chunk, prompts=16))
    assert shared.flops == pytest.approx(load(chunk).flops - 112 * forward_flops(SHAPE, [8]))
    seconds = load(chunk).seconds(EIGHT)
    assert seconds["compute"] == load(chunk).flops / 1e14 and seconds["memory"] == load(chunk).bytes / 1e12
    read = 4 * SHAPE.num_params  # by the prefill and for each token
    assert load(chunk).bytes == 17 * read + 16 * chunk.memory["cache"]


@pytest.mark.parametrize(("bfloat16", "precision"), [(False, "HIGHEST"), (True, "DEFAULT")])
def test_gradients_of_a_bfloat16_policy_are_computed_in_one_pass_where_float32_products_are_exact(bfloat16, precision):
    program = Program("training", replace(SHAPE, bfloat16=bfloat16), (1, 1, 1), rows=2, length=16)
    with jax.default_matmul_precision("highest"):
        products = re.findall(r"precision = \[(\w+), \w+\] : \(tensor<\w+xf32>, tensor", lowered(program).as_text())
    assert set(products) == {precision}


def test_a_slice_is_the_sweeps_or_the_one_asked_for(path):
    sweep = load_sweep(path)
    assert slices(sweep, None) == slices(sweep, "v5e:2x4") == [EIGHT]
    with pytest.raises(ConfigError, match="generation is one of v4, v5e, v5p, v6e"):
        slices(sweep, "h100:8")
    with pytest.raises(ConfigError, match=r"no entry of resources\.hardware has a topology"):
        slices(load_sweep(path, ["resources.hardware=[]"]), None)


def test_the_plans_memory_is_within_a_tenth_of_the_tpu_compilers_at_full_depth():
    sweep = load_sweep(ROOT / "sweeps" / "gsm8k_7b.yaml")
    rows = json.loads((ROOT / "benchmarks" / "results" / "tpu.json").read_text(encoding="utf-8"))
    deep = [row for row in rows if row["layers"] == 30]
    assert {row["work"] for row in deep} == {"training", "training on pairs", "sampling", "scoring"}
    for row in deep:
        (hardware,) = slices(sweep, row["topology"])
        calls = distinct(sweep, hardware)
        (program,) = (one for one, kinds in calls.items() if [*kinds] == row["kinds"] and one.work == row["work"])
        assert (program.rows, program.length + program.new_tokens) == (row["rows"], row["tokens"])
        assert sum(program.memory.values()) == pytest.approx(row["needed"], rel=0.1)


@pytest.mark.skipif(HAS_COMPILER, reason="the extra tpu is installed")
def test_without_the_compiler_the_extra_is_named(path, capsys):
    assert main([os.fspath(path)]) == 2
    assert capsys.readouterr().err == (
        "error: the TPU compiler is not installed; install the extra tpu: pip install '.[tpu]'.\n"
    )


@pytest.mark.long
@pytest.mark.skipif(not HAS_COMPILER, reason="the TPU compiler is missing: pip install '.[tpu]'")
def test_a_small_policy_compiles_for_eight_chips_that_are_not_here(tmp_path):
    shape = "policy={hf: HuggingFaceTB/SmolLM2-135M-Instruct, compute_dtype: bfloat16}"
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, "grid": {"algorithm": ["sft"], "data_size": [64]}}))
    command = [sys.executable, "-m", "scaling.compile", os.fspath(path), "--set", shape, "--layers", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.startswith("eight: ") and len(lines) >= 2
    assert all(", fits;" in line and "4 layers" in line for line in lines)
